"""Rows W1 to W7 of the security check list: who is let in. Real sockets to a gateway as it ships."""

from __future__ import annotations

import asyncio
import hmac
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conformance.conftest import Dial
from gateway.conftest import Opener, Starter
from gateway.engine import FED_25, Engine
from gateway.raw import RawClient
from security.conftest import entry
from security.doors import FED, FULL, Tokens, bearer, guarded, local_addresses
from wup.cli import app
from wup.gateway import Gateway, Limits


async def test_w01_loopback_unless_tokens(gateway: Gateway) -> None:
    """Other addresses without tokens end every listening stage with exit 2 and a clear line; the default is
    loopback."""
    for stage in ("gateway", "orderbook", "events", "up"):
        ended = CliRunner().invoke(app, [stage], env={"BIND_HOST": "0.0.0.0"})
        assert ended.exit_code == 2, (stage, ended.output)
        assert "TOKENS_FILE" in ended.output
    assert local_addresses(gateway.port) == ["0100007F"]


async def test_w02_origins(start: Starter, engine: Engine, raw: Dial) -> None:
    """An Origin must be the gateway's own or listed, to the letter; who sends none is no browser."""
    gateway = await start(allowed_origins=("https://app.example",))
    own = f"http://127.0.0.1:{gateway.port}"
    allowed = [
        None,
        own,
        own.upper(),
        "https://app.example",
        "https://app.example:443",
        "HTTPS://APP.EXAMPLE",
    ]
    refused = [
        "null", "", "https://evil.example", "https://app.example.evil", "https://evilapp.example",
        "https://app.example:444", "http://app.example", "https://sub.app.example", "https://app.example/x",
        "https://user@app.example", "file://", "app.example", "https://app.example https://evil.example",
        own + "0",
    ]  # fmt: skip
    for origin in allowed:
        assert (await raw(gateway, more="" if origin is None else f"Origin: {origin}\r\n")).status == 101, (
            origin
        )
    for origin in refused:
        assert (await raw(gateway, more=f"Origin: {origin}\r\n")).status == 403, origin
    twice = f"Origin: {own}\r\nOrigin: https://evil.example\r\n"
    assert (await raw(gateway, more=twice)).status == 403


async def test_w02_browsers_of_other_sites_by_default(gateway: Gateway, raw: Dial) -> None:
    """With the settings as they ship every page but the gateway's own is refused."""
    for origin in ("https://app.example", "http://localhost:3000", f"http://127.0.0.1:{gateway.port + 1}"):
        assert (await raw(gateway, more=f"Origin: {origin}\r\n")).status == 403


async def test_w03_hosts(gateway: Gateway, raw: Dial) -> None:
    """A Host that is not ours is 421 before anything else, so a rebound name gets nothing."""
    port = gateway.port
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert (await raw(gateway, host=host)).status == 101, host
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.",
        "127.0.0.2",
        "x" * 300,
    ):
        assert (await raw(gateway, host=host)).status == 421, host


async def test_w04_tokens_come_by_header_or_message(
    start: Starter,
    engine: Engine,
    raw: Dial,
    dial: Opener,
    tokens: Tokens,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A token in the address is 400 and reaches no log; no cookie is set or read."""
    gateway = await guarded(start, engine, tokens(entry(FULL, ">")))
    for query in (f"token={FULL}", f"a=b&TOKEN={FULL}", f"token={FULL}&token=x", "token"):
        refused = await raw(gateway, path=f"/ws?{query}")
        assert refused.status == 400, query
    cookie = await raw(gateway, more=f"Cookie: token={FULL}; Authorization=Bearer {FULL}\r\n")
    assert cookie.status == 101
    assert "set-cookie" not in cookie.headers
    cookie.op("list", "1")
    assert (await cookie.message("error"))["code"] == "unauthorized"
    header = await raw(gateway, more=bearer(FULL))
    header.op("list", "1")
    assert (await header.message("books"))["books"]
    message = await dial(gateway)
    assert (await message.op("auth", token=FULL))["type"] == "authenticated"
    shown = capsys.readouterr()
    assert FULL not in shown.out + shown.err


async def test_w05_tokens(
    start: Starter,
    engine: Engine,
    raw: Dial,
    dial: Opener,
    tokens: Tokens,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hashes only, compared in constant time; expired 4401, out of scope `forbidden`, revoked within 5 s."""
    past, soon = 1, time.time_ns() // 1_000 + 2_500_000
    path = tokens(
        entry(FULL, ">"),
        entry(FED, "fed-2026-12.>"),
        entry("old", ">", expires=past),
        entry("soon", ">", expires=soon),
    )
    with open(path) as file:  # noqa: ASYNC230
        assert FULL not in file.read()
    gateway = await guarded(start, engine, path)
    compared: list[str] = []
    honest = hmac.compare_digest

    def counting(known: str, given: str) -> bool:
        compared.append(known)
        return honest(known, given)

    with monkeypatch.context() as patch:
        patch.setattr(hmac, "compare_digest", counting)
        expired = await raw(gateway, more=bearer("old"))
    assert len(compared) == 4
    assert await expired.close_code() == 4401
    narrow = await dial(gateway, additional_headers={"Authorization": f"Bearer {FED}"})
    assert (await narrow.op("subscribe", books=[">"]))["code"] == "forbidden"
    assert (await narrow.op("subscribe", books=["*.9b1c22d0a47e55f1.yes"]))["code"] == "forbidden"
    assert (await narrow.op("subscribe", books=[FED_25]))["type"] == "subscribed"
    short = await dial(gateway, additional_headers={"Authorization": "Bearer soon"})
    wide = await dial(gateway, additional_headers={"Authorization": f"Bearer {FULL}"})
    tokens(entry(FED, "fed-2026-12.>"), entry("soon", ">", expires=soon))
    await wide.until(lambda: wide.closed is not None, 5)
    await short.until(lambda: short.closed is not None, 5)
    assert wide.closed is not None
    assert short.closed is not None
    assert (wide.closed[0], short.closed[0], narrow.closed) == (4401, 4401, None)


def command(*arguments: str) -> tuple[int, str]:
    """`wup token ...`: exit code and what was printed."""
    ended = CliRunner().invoke(app, ["token", *arguments])
    return ended.exit_code, ended.output


async def test_w05_made_tokens(start: Starter, engine: Engine, dial: Opener, tmp_path: Path) -> None:
    """`wup token` makes 256 random bits, shows them once, keeps the hash in a 0600 file, and revokes."""
    path = tmp_path / "made"
    file = f"--file={path}"
    code, made = command("add", file, "--scope", "fed-2026-12.>", "--days", "1")
    token = made.strip()
    assert (code, len(token), len(set(token)) > 16) == (0, 43, True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text()
    gateway = await guarded(start, engine, str(path))
    client = await dial(gateway, additional_headers={"Authorization": f"Bearer {token}"})
    assert (await client.op("subscribe", books=["fed-2026-12.>"]))["matched"] == 2
    code, other = command("add", file)
    code, listed = command("list", file)
    first, second = listed.splitlines()
    assert (code, first.split()[1], second.split()[1]) == (0, "fed-2026-12.>", ">")
    assert token not in listed
    assert other.strip() not in listed
    assert command("revoke", file, first.split()[0]) == (0, "revoked\n")
    await client.until(lambda: client.closed is not None, 5)
    assert client.closed is not None
    assert client.closed[0] == 4401
    for wrong in (["add", file, "--scope", "a..b"], ["revoke", file, "ffff"], ["revoke", file, ""]):
        code, said = command(*wrong)
        assert (code, said[:5]) == (2, "wup: ")
    path.chmod(0o644)
    assert "chmod 600" in command("list", file)[1]


async def test_w06_forwarded_addresses(engine: Engine, start: Starter, raw: Dial) -> None:
    """`X-Forwarded-For` of a stranger is not believed; behind a trusted proxy each client is its own."""
    alone = await start(Limits(ws_per_address=1))
    assert (await raw(alone, more="X-Forwarded-For: 10.0.0.1\r\n")).status == 101
    assert (await raw(alone, more="X-Forwarded-For: 10.0.0.2\r\n")).status == 503
    behind = await start(Limits(ws_per_address=1), trusted_proxies=("127.0.0.0/8", "10.9.0.0/16"))
    for hops, status in (
        ("10.0.0.1", 101),
        ("10.0.0.2", 101),
        ("10.0.0.2", 503),
        ("1.2.3.4, 10.0.0.2", 503),  # what the client wrote itself stands to the left
        ("10.0.0.3, 10.9.1.1", 101),  # two trusted hops
        ("2001:db8::1", 101),
        ("2001:db8::2", 503),  # the same customer's /64
        ("2001:db8:0:1::2", 101),
    ):
        client = await raw(behind, more=f"X-Forwarded-For: {hops}\r\n")
        assert client.status == status, hops


async def test_w07_connection_caps(engine: Engine, start: Starter, raw: Dial, tokens: Tokens) -> None:
    """The 33rd connection of an address gets 503 with `Retry-After`; another address is not affected; a token
    has a cap of its own."""
    gateway = await start(Limits(ws_connects_per_second=1_000))
    assert {(await raw(gateway)).status for _ in range(32)} == {101}
    over = await raw(gateway)
    assert over.status == 503
    assert int(over.headers["retry-after"]) >= 1
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, local_addr=("127.0.0.2", 0))
    other = RawClient(reader, writer)
    head = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    )
    other.send(f"{head}Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    assert (await reader.readline()).split()[1] == b"101"
    await other.close()
    limited = await guarded(start, engine, tokens(entry(FULL, ">"), entry(FED, ">")), ws_per_token=2)
    assert [(await raw(limited, more=bearer(FULL))).status for _ in range(3)] == [101, 101, 503]
    late = await raw(limited)
    late.op("auth", "1", token=FULL)
    assert (await late.message("error"))["code"] == "rate_limited"
    assert await late.close_code() == 1013
    assert (await raw(limited, more=bearer(FED))).status == 101


async def test_w07_places_are_given_back(engine: Engine, start: Starter, raw: Dial, tokens: Tokens) -> None:
    """However a connection ends, its places (address, token, all) are free again."""
    gateway = await guarded(start, engine, tokens(entry(FULL, ">")), ws_per_token=1, ws_per_address=3)
    for _ in range(5):
        client = await raw(gateway, more=bearer(FULL))
        assert client.status == 101
        client.op("list", "1")
        await client.message("books")
        client.writer.transport.abort()
        async with asyncio.timeout(3):
            while gateway._core.admission.total:
                await asyncio.sleep(0.002)
    assert (await raw(gateway, more=bearer("wrong"))).status == 101
    assert gateway._core.tokens is not None
    assert gateway._core.tokens._held == {}
