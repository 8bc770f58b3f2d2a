"""Everything goes wrong at random, on a virtual clock: no book that a client calls exact is ever wrong."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from gateway.judge import Truth
from gateway.world import World, run
from javascript.node import bundled
from wup._core import MirrorBook
from wup.gateway.mirror import Mirrors
from wup.gateway.session import Session
from wup.gateway.stream import Stream

SEEDS = int(os.environ.get("WUP_GATEWAY_SEEDS", "100"))
STEPS = 90
CHUNK = 20
APPLY = Path(__file__).parent.parent / "javascript" / "apply.mjs"
_JS_MESSAGES = 300

FAULTS = {
    "bus message lost", "orderbook restart", "subscription overflow", "mapping", "garbage",
    "gateway stopped", "gateway killed", "client leaves", "client stops reading", "resync",
    "close 1012", "close 1006", "close 4490", "library lost a book",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of faults are thousands of log lines."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def javascript(worlds: list[tuple[int, World]]) -> int:
    """What one client of each world was told, to the JavaScript client: the same verdicts, the same books."""
    lines: list[bytes] = []
    expected: list[tuple[int, Truth, bytes, str]] = []
    for seed, world in worlds:
        books: dict[str, list[bytes]] = {}
        for text in world.told:
            if b'"depth":' not in text and b'"every_ms":' not in text:
                books.setdefault(orjson.loads(text)["book"], []).append(text)
        for texts in books.values():
            mirror = MirrorBook()
            lines.append(b"")
            for text in texts[:_JS_MESSAGES]:
                lines.append(text)
                expected.append((seed, world.truth, text, mirror.apply(text)))
    text = b"\n".join(lines) + b"\n"
    told = subprocess.run([bundled(), str(APPLY)], input=text, capture_output=True, timeout=100, check=True)
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    checks = 0
    found = [answer for answer in answers if answer is not None]
    assert len(found) == len(expected)
    for (seed, truth, text, verdict), answer in zip(expected, found, strict=True):
        assert answer["verdict"] == verdict, (seed, text[:300])
        if answer["exact"]:
            book = orjson.loads(text)["book"]
            place = (book[:-3] + ".yes" if book.endswith(".no") else book, answer["epoch"], answer["seq"])
            assert truth.full[place] == answer["digest"], (seed, place)
            checks += 1
    return checks


@pytest.mark.timeout(900)
def test_exact_books_are_never_wrong(record_property: Callable[[str, object], None]) -> None:
    """Lost messages, restarts and crashes of either side, late and cut snapshots, mapping changes, garbage,
    stopped readers, changing patterns: each exact book equals the published one, in both languages, and once
    it is calm everybody is exact again."""
    checks = deep = conflated = in_javascript = 0
    faults: Counter[str] = Counter()
    worlds: list[tuple[int, World]] = []
    for seed in range(SEEDS):
        world = run(seed, STEPS)
        assert world.truth.checks > 1_000
        checks += world.truth.checks
        deep += world.truth.deep_checks
        conflated += world.truth.conflated
        faults.update(world.faults)
        worlds.append((seed, world))
        if len(worlds) == CHUNK or seed == SEEDS - 1:
            in_javascript += javascript(worlds)
            worlds.clear()
    record_property(
        f"gateway on a virtual clock, {SEEDS} seeds",
        f"{checks} books checked, 0 wrong; {deep} level by level; {in_javascript} more in JavaScript; "
        f"{conflated} conflated; {dict(faults)}",
    )
    if SEEDS >= 100:
        assert checks >= 1_000_000
        assert in_javascript > 10_000
        assert deep > 500
        assert conflated > 0
        assert FAULTS - faults.keys() == set()


def test_a_seed_is_a_run() -> None:
    """The same seed gives the same messages, so that a failing one can be looked at (ages are the store's own
    clock's and ts.book those of its snapshots: they alone differ)."""

    def told(world: World) -> list[bytes]:
        return [re.sub(rb'"(age_ms|book)":[0-9]+', b"", text) for text in world.told]

    first, second = run(7, 60), run(7, 60)
    assert told(first) == told(second)
    assert (first.faults, first.truth.checks) == (second.faults, second.truth.checks)
    assert len(first.told) > 20


def _drop(patch: pytest.MonkeyPatch) -> None:
    honest, turn = Stream.send, iter(range(10**9))
    patch.setattr(Stream, "send", lambda *args: None if next(turn) % 50 == 49 else honest(*args))


def _trust(patch: pytest.MonkeyPatch) -> None:
    honest = Mirrors._change

    def change(mirrors: Any, book: Any, payload: bytes) -> None:
        if book.serving and payload.startswith(b'{"type":"delta"') and payload.endswith(b"}"):
            book.mirror.apply(payload)
            mirrors._listener.changed(book, payload, "delta")
        else:
            honest(mirrors, book, payload)

    patch.setattr(Mirrors, "_change", change)


def _miscount(patch: pytest.MonkeyPatch) -> None:
    honest = Session._say

    def say(session: Session, message: dict[str, Any]) -> None:
        honest(session, {**message, "count": message["count"] + 1} if "count" in message else message)

    patch.setattr(Session, "_say", say)


def _stale(patch: pytest.MonkeyPatch) -> None:
    """A snapshot that is made once and given to everybody."""
    honest, made = Stream._encode, {}

    def encode(stream: Stream, why: str) -> bytes:
        return made.setdefault((stream.name, why), honest(stream, why))

    patch.setattr(Stream, "_encode", encode)


@pytest.mark.parametrize("broken", [_drop, _trust, _miscount, _stale])
def test_a_broken_gateway_is_found(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same run fails when the gateway drops, trusts, miscounts, or repeats an old snapshot."""
    broken(monkeypatch)
    with pytest.raises(AssertionError, match="seed"):
        _ = [run(seed, 40) for seed in range(5)]
