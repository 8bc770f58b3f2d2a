"""The JavaScript client: its own tests, the same verdicts as the native copy, and a real gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import pytest

from gateway.conftest import Starter, ready
from gateway.engine import FED_25, GAME, Engine
from javascript.node import HERE, Driver, bundled, driver, installed
from wup._core import CoreError, MirrorBook, mirror_message
from wup.bus import LocalBus
from wup.web import CONTENT_SECURITY_POLICY, assets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from wup.gateway import Gateway

pytestmark = pytest.mark.timeout(150)
NODES = [bundled(), *filter(None, [installed()])]
WEB = HERE.parent.parent / "python" / "wup" / "web"


@pytest.mark.parametrize("node", NODES, ids=["bundled", "installed"][: len(NODES)])
def test_its_own_tests(node: str) -> None:
    """Vectors, feed and property tests pass in Node's own runner, the machine's Node included."""
    files = sorted(str(file) for file in HERE.glob("*.test.mjs"))
    assert len(files) >= 3
    ran = subprocess.run(
        [node, "--test", "--test-reporter=spec", "--test-timeout=60000", *files],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    passed = re.search(r"pass (\d+)", ran.stdout)
    assert passed is not None
    assert int(passed[1]) >= 60


# --- the same verdicts -------------------------------------------------------------------------------

_WORDS = ["", "0", "1", "0.5", "1.0", ".5", "-1", "1e3", "0.1234567", "x", "0.50", "007", "99999999999999"]


def conversations(seed: int) -> list[bytes]:
    """Messages of a real store, some lost, repeated, in the wrong order, or changed somewhere."""
    rng = random.Random(seed)
    engine = Engine(LocalBus())
    sent: list[bytes] = []

    def note(changes: Any) -> None:
        sent.extend(change.payload for change in changes if change.book == GAME)

    engine.publish = note  # type: ignore[method-assign]
    from gateway.engine import TABLE

    note(engine.store.set_mapping(412, TABLE, engine.now_us))
    engine.fill()
    for turn in range(120):
        engine.step()
        if turn % 30 == 7:
            engine.normalised("state", "kalshi", "KXNBA-BOS", state="resync", why="seq_gap")
        if turn % 30 == 9:
            engine.snapshot("kalshi", "KXNBA-BOS", [["0.4", "5"]], [["0.6", "100000000000"]])
        if rng.random() < 0.15:
            sent.append(engine.store.snapshot(GAME, why="resync"))
    heard: list[bytes] = []
    for message in sent:
        luck = rng.random()
        if luck < 0.04:
            continue
        shown = mirror_message(message) if seed % 2 else message
        heard.append(mutate(shown, rng) if luck < 0.12 else shown)
        if luck > 0.97:
            heard.append(rng.choice(heard))
    return heard


def mutate(message: bytes, rng: random.Random) -> bytes:
    """The message with one thing changed."""
    body = json.loads(message)
    kind = rng.randrange(8)
    if kind == 0:
        field = rng.choice(list(body))
        body[field] = rng.choice([None, True, -1, 1, 2**32, "live", "x", [], {}, 1.5])
    elif kind == 1:
        body.pop(rng.choice(list(body)))
    elif kind == 2:
        body["zusatz"] = {"deep": [1, {"er": None}]}
    elif kind == 3:
        return message[: rng.randrange(len(message))]
    else:
        sides = [side for side in ("bids", "asks") if body.get(side)]
        if sides:
            level = rng.choice(body[rng.choice(sides)])
            if kind == 4:
                level[rng.randrange(2)] = rng.choice(_WORDS)
            elif kind == 5 and level[2]:
                level[2][rng.choice(list(level[2]))] = rng.choice(_WORDS)
            elif kind == 6:
                # The same number, written longer: read as the same, shown in its shortest form.
                level[0] = "0" + level[0]
                level[1] = level[1] + ("0" if "." in level[1] else ".0")
            else:
                level[2]["other"] = "0"
    return json.dumps(body, separators=(",", ":")).encode()


def native(book: MirrorBook, message: bytes) -> dict[str, Any]:
    """What the native copy makes of a message, in the form of apply.mjs."""
    try:
        verdict: str = book.apply(message)
    except CoreError:
        verdict = "broken"
    told: dict[str, Any] = {"verdict": verdict, "exact": book.exact}
    if book.exact:
        held = orjson.loads(book.snapshot(no=book.book.endswith(".no")))
        told |= {name: held[name] for name in ("epoch", "seq", "digest", "state", "crossed", "bids", "asks")}
    return told


def test_same_verdicts_as_the_native_copy() -> None:
    """Over thousands of messages, mutilated ones too, verdict, levels, digest and state are the same."""
    seeds = range(40)
    talks = [conversations(seed) for seed in seeds]
    lines = b"\n\n".join(b"\n".join(talk) for talk in talks) + b"\n"
    ran = subprocess.run(
        [bundled(), str(HERE / "apply.mjs")], input=lines, capture_output=True, timeout=120, check=True
    )
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    seen: dict[str, int] = {}
    at = 0
    for seed, talk in zip(seeds, talks, strict=True):
        book = MirrorBook()
        for place, message in enumerate(talk):
            expected = native(book, message)
            assert answers[at] == expected, (seed, place, message)
            seen[expected["verdict"]] = seen.get(expected["verdict"], 0) + 1
            at += 1
        at += 1  # the empty line between two books
    assert seen["exact"] > 1000
    assert min(seen["gap"], seen["broken"], seen["ignored"]) > 30


# --- a real gateway ----------------------------------------------------------------------------------


def url(gateway: Gateway) -> str:
    return f"ws://127.0.0.1:{gateway.port}/ws"


def agrees(engine: Engine, report: dict[str, Any], books: int) -> bool:
    """Every book is exact and equals the store's, level by level."""
    if len(report["books"]) != books:
        return False
    for book in report["books"]:
        no = book["book"].endswith(".no")
        yes = book["book"].removesuffix(".no") + ".yes" if no else book["book"]
        want = orjson.loads(engine.store.snapshot(yes, depth=book["depth"]))
        if no:
            want = orjson.loads(mirror_message(orjson.dumps(want)))
        # A change below the depth shown makes no message: such a stream's seq may stand behind.
        fields = ("epoch", "digest", "bids", "asks", *(() if book["depth"] else ("seq",)))
        if not book["exact"] or any(book[name] != want[name] for name in fields):
            return False
    return True


async def until_agrees(client: Driver, engine: Engine, books: int) -> dict[str, Any]:
    """The first report in which everything agrees."""
    async with asyncio.timeout(30):
        while not agrees(engine, report := await client.report(levels=True), books):
            await asyncio.sleep(0.01)
    return report


async def test_books_are_exact(engine: Engine, gateway: Gateway) -> None:
    """YES, NO and shallow books of a JavaScript client equal the store's after many changes."""
    async with driver(url(gateway)) as client:
        await client.until("ready")
        await client.do("subscribe", name="all", books=[">", "*.*.no"])
        await client.do("subscribe", name="top", books=[FED_25], depth=5)
        await until_agrees(client, engine, 7)
        for turn in range(400):
            engine.step()
            if turn % 10 == 0:
                await asyncio.sleep(0)
        report = await until_agrees(client, engine, 7)
        # However many: a reader that cannot keep up here gets snapshots instead.
        assert report["stats"]["messages"] > 20
        assert [report["stats"][name] for name in ("mismatches", "gaps", "countMismatches")] == [0, 0, 0]
        await client.do("unsubscribe", name="top")
        engine.step()
        await until_agrees(client, engine, 6)


async def test_lost_messages_and_restart(engine: Engine, start: Starter) -> None:
    """Lost bus messages and a restart of the gateway: not exact meanwhile, exact again by itself."""
    first = await start()
    engine.marks()
    await ready(first)
    port = first.port
    async with driver(url(first), jitter=20) as client:
        await client.until("ready")
        await client.do("tell", verbose=True)
        await client.do("subscribe", name="all", books=[">"])
        await until_agrees(client, engine, 3)
        engine.lose = 1
        for _ in range(30):
            engine.step()
        await until_agrees(client, engine, 3)
        assert any(line.get("event") == "lost" for line in client.lines)
        await first.stop()
        await client.until("disconnected")
        report = await client.report()
        assert not report["connected"]
        assert [book["exact"] for book in report["books"]] == [False] * 3
        engine.step()
        second = await start(ws_port=port)
        engine.marks()
        await ready(second)
        await client.until("connected")
        report = await until_agrees(client, engine, 3)
        assert report["stats"]["connects"] == 2
        assert report["stats"]["mismatches"] == 0


async def test_refused_with_code_and_place(gateway: Gateway) -> None:
    """A pattern that the gateway refuses comes back with its code, and the connection lives on."""
    async with driver(url(gateway)) as client:
        await client.do("subscribe", name="bad", books=[FED_25, "a..b"])
        refused = await client.until("refused")
        assert (refused["name"], refused["code"], refused["at"]) == ("bad", "bad_pattern", 1)
        await client.do("subscribe", name="good", books=[FED_25])
        await client.do("tell", verbose=True)
        assert (await client.report())["connected"]


async def test_a_wrong_token_ends_it(start: Starter, tmp_path: Any) -> None:
    """A token that is not known is fatal: the feed says so and does not try again."""
    path = tmp_path / "tokens.json"
    path.write_bytes(b'{"tokens":[]}')
    path.chmod(0o600)
    gateway = await start(tokens_file=str(path))
    async with driver(url(gateway), token="wrong") as client:
        assert "4401" in (await client.until("failed"))["why"]


def examples(page: str) -> list[str]:
    """The JavaScript blocks of a page."""
    text = (HERE.parents[1] / page).read_text()
    return re.findall(r"^```js\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


EXAMPLES = examples("docs/clients.md")


def test_there_are_examples() -> None:
    """docs/clients.md shows the loop and the callback."""
    assert len(EXAMPLES) >= 2


def write_example(file: Path, gateway: Gateway, example: str) -> None:
    """The example, with the addresses of this test."""
    script = example.replace("ws://127.0.0.1:8082/ws", url(gateway)).replace("./wup.js", str(WEB / "wup.js"))
    assert url(gateway) in script
    file.write_text(script)


@contextlib.asynccontextmanager
async def running(
    engine: Engine, gateway: Gateway, file: Path, example: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """An example as a program of its own, with a market that moves."""
    write_example(file, gateway, example)
    process = await asyncio.create_subprocess_exec(
        bundled(), str(file), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )

    async def trade() -> None:
        while True:
            engine.step()
            await asyncio.sleep(0.02)

    market = asyncio.create_task(trade())
    try:
        async with asyncio.timeout(20):
            yield process
    finally:
        market.cancel()
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
async def test_examples_of_the_docs(engine: Engine, gateway: Gateway, tmp_path: Path, example: str) -> None:
    """A reader who copies an example of docs/clients.md gets books and no error."""
    async with running(engine, gateway, tmp_path / "example.mjs", example) as process:
        out, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert FED_25.encode() in out


async def test_readme(engine: Engine, gateway: Gateway, tmp_path: Path) -> None:
    """The JavaScript client of the README prints books for as long as it runs."""
    (example,) = examples("README.md")
    async with running(engine, gateway, tmp_path / "example.mjs", example) as process:
        assert process.stdout is not None
        seen = b""
        while seen.count(b"priceMicros") < 3:
            line = await process.stdout.readline()
            assert line
            seen += line


# --- as files ----------------------------------------------------------------------------------------


def test_package_is_whole() -> None:
    """package.json names files that exist, the project's version, and no dependency."""
    package = json.loads((WEB / "package.json").read_text())
    assert all((WEB / name).is_file() for name in package["files"])
    assert (WEB / package["exports"]["."]["default"]).is_file()
    assert (WEB / package["exports"]["."]["types"]).is_file()
    project = (WEB.parent.parent.parent / "pyproject.toml").read_text()
    assert f'\nversion = "{package["version"]}"\n' in project
    assert not [name for name in package if name.lower().endswith("dependencies")]


@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on this machine")
def test_it_can_be_packed_and_installed(tmp_path: Path) -> None:
    """`npm pack` packs the module and its types, no more; installed from there, `import "wup"` works."""

    def npm(*words: str) -> str:
        quiet = ("--offline", "--no-audit", "--no-fund", "--silent", "--cache", str(tmp_path / "cache"))
        ran = subprocess.run(
            ["npm", *words, *quiet], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
        return ran.stdout.strip()

    archive = npm("pack", str(WEB))
    with tarfile.open(tmp_path / archive) as packed:
        names = {name.removeprefix("package/") for name in packed.getnames()}
    assert names == {"package.json", "wup.js", "wup.d.ts"}
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    npm("install", str(tmp_path / archive))
    script = 'import { cellHash } from "wup"; console.log(cellHash("kalshi", "bid", "0.52", "500"));'
    (tmp_path / "use.mjs").write_text(script)
    ran = subprocess.run([bundled(), "use.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "2847660764"


def test_types_name_what_the_module_exports() -> None:
    """wup.d.ts declares every export of wup.js as a value, and every public member of its classes."""
    script = """
      const wup = await import(process.argv[1]);
      const found = {};
      for (const [name, value] of Object.entries(wup)) {
        const proto = typeof value === "function" ? Object.getOwnPropertyNames(value.prototype ?? {}) : [];
        found[name] = proto.filter((member) => member !== "constructor");
      }
      console.log(JSON.stringify(found));
    """
    ran = subprocess.run(
        [bundled(), "--input-type=module", "-e", script, (WEB / "wup.js").as_uri()],
        capture_output=True,
        check=True,
    )
    types = (WEB / "wup.d.ts").read_text()
    own: dict[str, list[str]] = json.loads(ran.stdout)
    assert len(own) > 10
    declared = set(re.findall(r"export (?:const|function|class) (\w+)", types))
    assert declared == set(own)
    internal = {"put", "end", "options"}  # of Subscription: the feed's side
    for name, members in own.items():
        body = re.search(rf"export class {name}\b.*?^}}", types, re.DOTALL | re.MULTILINE)
        for member in members:
            if name == "Subscription" and member in internal:
                continue
            assert body is not None, name
            assert re.search(rf"\b{member}\b", body[0]), (name, member)


async def test_the_gateway_serves_the_client(gateway: Gateway) -> None:
    """Every file of the page and the client comes from memory with its type, nosniff and a strict policy."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        for path, asset in assets().items():
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.content == (WEB / (path[1:] or "index.html")).read_bytes()
            assert answer.headers["content-type"] == asset.content_type
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_assets_are_served_whole_and_strict() -> None:
    """All files have a type and an ETag of their own; the page needs nothing that its policy forbids."""
    files = assets()
    assert {"/", "/wup.js", "/wup.d.ts"} <= files.keys()
    assert len({asset.etag for asset in files.values()}) == len(files)
    assert files["/wup.js"].content_type.startswith("text/javascript")
    page = files["/"].body.decode()
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    for asset in files.values():
        urls = re.findall(rb"""(?:src|href)=["'](https?:[^"']+)|@import|url\(["']?(https?:)""", asset.body)
        assert urls == [], "works offline"
