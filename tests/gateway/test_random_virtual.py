"""Everything goes wrong at random, on a virtual clock: no book that a client calls exact is ever wrong."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.puppet import Puppet
from gateway.world import World, run
from javascript.node import HERE
from wup.gateway.frame import Beat
from wup.gateway.mirror import Mirrors
from wup.gateway.stream import Stream

SEEDS = int(os.environ.get("WUP_GATEWAY_SEEDS", "100"))
STEPS = 90
WEB = HERE.parents[1] / "python" / "wup" / "web"

FAULTS = {
    "bus message lost", "orderbook restart", "subscription overflow", "mapping", "garbage",
    "gateway stopped", "gateway killed", "client leaves", "client stops reading", "resync",
    "close 1012", "close 1006", "close 4490", "library lost a book",
    "JavaScript lost a book", "library subscribes", "library unsubscribes",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of faults are thousands of log lines."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.mark.timeout(900)
def test_exact_books_are_never_wrong(record_property: Callable[[str, object], None]) -> None:
    """Lost messages, restarts and crashes of either side, late and cut snapshots, mapping changes, garbage,
    stopped readers, changing patterns: each exact book equals the published one, in both languages, and once
    it is calm everybody is exact again."""
    checks = deep = conflated = in_javascript = whole_in_javascript = 0
    faults: Counter[str] = Counter()
    with Puppet() as puppet:
        for seed in range(SEEDS):
            world = run(seed, STEPS, puppet)
            assert world.node is not None
            assert world.truth.checks > 1_000
            assert world.node.checks > 100
            checks += world.truth.checks
            deep += world.truth.deep_checks
            conflated += world.truth.conflated
            in_javascript += world.node.checks
            whole_in_javascript += world.node.whole_checks
            faults.update(world.faults)
    record_property(
        f"gateway on a virtual clock, {SEEDS} seeds",
        f"{checks} books checked, 0 wrong; {deep} level by level; {in_javascript} of them in JavaScript, "
        f"{whole_in_javascript} whole; "
        f"{conflated} conflated; {dict(faults)}",
    )
    if SEEDS >= 100:
        assert checks >= 1_000_000
        assert in_javascript > 100_000
        assert deep > 500
        assert conflated > 0
        assert FAULTS - faults.keys() == set()


def test_a_seed_is_a_run() -> None:
    """The same seed gives the same messages, so that a failing one can be looked at (ages are the store's own
    clock's and ts.book those of its snapshots: they alone differ)."""

    def told(world: World) -> list[bytes]:
        return [re.sub(rb'"(age_ms|book)":[0-9]+', b"", text) for text in world.told]

    with Puppet() as puppet:
        first, second = run(2, 60, puppet), run(2, 60, puppet)
    assert told(first) == told(second)
    assert (first.faults, first.truth.checks) == (second.faults, second.truth.checks)
    assert first.node is not None
    assert second.node is not None
    assert first.node.checks == second.node.checks > 100
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
    honest = Beat.frame
    patch.setattr(Beat, "frame", lambda beat, count: honest(beat, count + 1))


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


_JAVASCRIPT_FAULTS = {
    "believes a gateway that lost something": (
        'if (message.by === "gateway") {\n      this.exact = false;',
        'if (message.by === "gateway") {',
        "exact though the gateway is not",
    ),
    "stays exact without a connection": (
        'book.doubt();\n        this.#tell(key, book, new FeedEvent("lost", book, null, "disconnected"));',
        'this.#tell(key, book, new FeedEvent("lost", book, null, "disconnected"));',
        "lost and shown",
    ),
    "neither applies asks nor looks at the digest": (
        "&& this.#levels(message.asks, true, fresh);\n",
        "|| true;\n    message = { ...message, digest: this.#digest >>> 0 };\n",
        "wrong book",
    ),
    "does not subscribe again": (
        'subscription.put(new FeedEvent("connected"));\n      this.#askFor(subscription);',
        'subscription.put(new FeedEvent("connected"));\n      '
        "if (this.stats.connects < 2) this.#askFor(subscription);",
        "TimeoutError",
    ),
}


@pytest.mark.parametrize("fault", _JAVASCRIPT_FAULTS)
def test_a_broken_javascript_client_is_found(fault: str, tmp_path: Path) -> None:
    """The same run fails when wup.js believes, forgets, or keeps what it must not."""
    right, wrong, found = _JAVASCRIPT_FAULTS[fault]
    text = (WEB / "wup.js").read_text()
    assert text.count(right) == 1
    (tmp_path / "wup.js").write_text(text.replace(right, wrong))
    (tmp_path / "fake.mjs").write_text((HERE / "fake.mjs").read_text())
    puppet = (HERE / "puppet.mjs").read_text().replace("../../python/wup/web/wup.js", "./wup.js")
    (tmp_path / "puppet.mjs").write_text(puppet)
    with Puppet(tmp_path / "puppet.mjs") as broken, pytest.raises(AssertionError, match=f"seed .*{found}"):
        _ = [run(seed, 40, broken) for seed in range(5)]
