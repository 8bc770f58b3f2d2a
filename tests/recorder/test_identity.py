"""A live run on sockets, with faults, and its own recording: the same output (wire.md section 6)."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from end_to_end.running import command
from recorder.running import Live, pipeline, replayed, sha256, table_of
from wup.clock import SYSTEM_CLOCK
from wup.playback import Replay
from wup.playback.moment import book_at
from wup.playback.open import open_replay
from wup.playback.sources import Part, find
from wup.playback.verify import verify
from wup.recorder import segments
from wup.recorder.files import names, packed_of
from wup.sim.faults import Fault

SECONDS = float(os.environ.get("WUP_IDENTITY_SECS", "60"))
MENU: dict[str, tuple[str, ...]] = {
    "kalshi": ("skip_seq", "repeat_seq", "reset_seq", "negative", "channel_error", "overflow", "halt"),
    "polymarket": ("mixed_array", "late_trade", "no_event_type", "empty_optional", "trade_on_no"),
}
BOTH = (
    *("drop", "duplicate", "reorder", "malformed", "truncate", "unknown_type", "unknown_field", "mute"),
    *("reset", "close", "rate_limited", "burst", "tick_change", "restart"),
)
FAULTS = (
    ("kalshi", "skip_seq"),
    ("polymarket", "drop"),
    ("kalshi", "malformed"),
    ("polymarket", "duplicate"),
    ("kalshi", "reset"),
    ("polymarket", "close"),
    ("kalshi", "drop"),
    ("polymarket", "reorder"),
)


async def until_live(live: Live, books: int) -> None:
    async with asyncio.timeout(20):
        while live.live() < books:
            await asyncio.sleep(0.02)


async def test_replay_of_a_recorded_run_is_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every consolidated message of a run comes out of its recording again, byte for byte, stamps of clocks
    aside: with lost, broken, repeated and reordered frames, frames that the bus lost, two connections lost,
    one leg suspended, and two that go and come back."""
    async with pipeline(tmp_path, monkeypatch, rate=300, segment_bytes=20_000) as live:
        table = await table_of(live.sims)
        await live.set_table(table)
        await until_live(live, len(live.sims.pairs))
        for platform, kind in FAULTS:
            live.sims.fault(Fault(kind=kind, venue=platform))
            await asyncio.sleep(0.4)
        for group in live.aggregator.groups.values():
            group.lost()
        await asyncio.sleep(0.4)
        await until_live(live, len(live.sims.pairs))
        first, second, *rest = table.legs
        for version, legs in enumerate(
            ((replace(first, suspended="halted"), second, *rest), tuple(rest), table.legs), table.version + 1
        ):
            await live.set_table(replace(table, version=version, legs=legs))
            await asyncio.sleep(0.4)
        await until_live(live, len(live.sims.pairs))
        await live.aggregator.stop()
    files = segments(tmp_path)
    again, bad = replayed(files)
    assert bad == []
    for place, (one, other) in enumerate(zip(live.messages, again, strict=False)):
        assert one == other, f"message {place}"
    assert len(again) == len(live.messages) > 500
    assert sha256(again) == sha256(live.messages)
    assert len(files) > 3
    said = b"".join(live.messages)
    # The faults struck, titles and ticks were compared too, and less than everything is not the same.
    for why in (b"seq_gap", b"disconnected", b'"why":"halted"', b"unmapped", b'"title":"', b'"tick":"'):
        assert why in said
    assert sha256(replayed(files[: len(files) // 2])[0]) != sha256(live.messages)


async def trouble(live: Live, seconds: float, rng: random.Random) -> None:
    """A fault every second or so, of every kind, and a leg suspended, dropped or taken back now and then."""
    loop = asyncio.get_running_loop()
    table = live.orderbook.table
    version = table.version
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        venue = rng.choice(sorted(MENU))
        kind = rng.choice((*MENU[venue], *BOTH))
        live.sims.fault(Fault(kind=kind, venue=venue, seconds=rng.choice((0.5, 2.0))))
        if rng.random() < 0.15:
            version += 1
            legs = list(table.legs)
            place = rng.randrange(len(legs))
            if rng.random() < 0.5:
                legs[place] = replace(legs[place], suspended="halted")
            else:
                del legs[place]
            await live.set_table(replace(table, version=version, legs=tuple(legs)))
        elif rng.random() < 0.3:
            version += 1
            await live.set_table(replace(table, version=version))
        await asyncio.sleep(min(left, rng.uniform(0.3, 1.5)))


@pytest.mark.timeout(SECONDS * 2 + 120)
async def test_a_long_run_with_faults_is_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Live output and replay of its own recording have the same SHA-256, over a minute (`make soak`: ten)
    with every kind of fault and changes of the mapping, replayed twice; nothing is missing in the
    recording."""
    async with pipeline(tmp_path, monkeypatch, rate=100, segment_bytes=100_000) as live:
        await live.set_table(await table_of(live.sims))
        await until_live(live, len(live.sims.pairs))
        await trouble(live, SECONDS, random.Random(11))
        await live.aggregator.stop()
    files = segments(tmp_path)
    first, bad = replayed(files)
    assert bad == []
    for place, (one, other) in enumerate(zip(live.messages, first, strict=False)):
        assert one == other, f"message {place}"
    assert len(first) == len(live.messages) > SECONDS * 20
    assert sha256(first) == sha256(live.messages) == sha256(replayed(files)[0])
    found = verify(Replay(find([tmp_path])), [tmp_path])
    assert found["sha256"] == sha256(live.messages)
    # Another process has another order of sets.
    for seed in ("1", "2"):
        async with command("verify", str(tmp_path), env={"PYTHONHASHSEED": seed}) as judged:
            assert judged.process.stdout is not None
            assert orjson.loads(await judged.process.stdout.read())["sha256"] == found["sha256"]
    # The books at the beginning of each segment are those that a replay has there.
    checks = found["checks"]
    assert min(checks["kalshi.checkpoint_match"], checks["polymarket.checkpoint_match"]) > 0
    assert not any("checkpoint_mismatch" in key for key in checks), checks
    assert found["whole"], {key: found[key] for key in ("gaps", "damaged_files", "bad_lines")}
    with capsys.disabled():
        print(f"\n{SECONDS:.0f} s: {found['frames']} frames, {len(first)} messages, sha256 {found['sha256']}")


async def test_without_its_oldest_segments_a_recording_has_all_books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left when old segments were deleted has every book again a moment after its start, level for
    level as the whole recording has it, checked by the venues' own sequences and hashes from there on. A
    market that was halted, and one that ended, on a connection that is gone, are so there too."""
    async with pipeline(tmp_path, monkeypatch, rate=300, segment_bytes=30_000) as live:
        await live.set_table(await table_of(live.sims))
        await until_live(live, len(live.sims.pairs))
        ours = [leg for pair in live.sims.pairs for leg in pair["legs"] if leg["platform"] == "kalshi"]
        for kind, leg, seconds in (("halt", ours[0], 600.0), ("close_market", ours[1], 0.5)):
            live.sims.fault(Fault(kind=kind, venue="kalshi", asset=leg["asset_id"], seconds=seconds))
        await asyncio.sleep(1)
        live.sims.fault(Fault(kind="reset", venue="kalshi"))
        await until_live(live, len(live.sims.pairs) - 1)
        async with asyncio.timeout(40):
            while len(names(tmp_path)) < 4:
                await asyncio.sleep(0.1)
        # Long enough for `quick` to begin with one of these segments.
        await asyncio.sleep(11)
        await live.recorder.flush()
        end_us = SYSTEM_CLOCK.now_us() - 200_000
        await live.aggregator.stop()
    whole = Replay(find([tmp_path]), part=Part(None, end_us))
    whole.play(lambda message: None)
    for name in whole.books():
        exact = book_at(lambda: open_replay([tmp_path], seek=end_us), name, end_us)
        quick = book_at(lambda: open_replay([tmp_path], seek=end_us, quick=True), name, end_us, quick=True)
        assert (quick["bids"], quick["asks"], quick["state"]) == (
            exact["bids"],
            exact["asks"],
            exact["state"],
        )
        assert quick["digest"] == exact["digest"]
        assert exact["seq"] > 1
        assert "seq" not in quick
    short = open_replay([tmp_path], seek=end_us, quick=True)
    short.play(lambda message: None)
    assert short.player.frames < whole.player.frames
    for name in names(tmp_path)[:2]:
        packed_of(tmp_path, name).unlink()
    left = Replay(find([tmp_path]), part=Part(None, end_us))
    left.play(lambda message: None)
    assert 0 < left.player.frames < whole.player.frames
    assert left.bad_lines == []
    assert left.books() == whole.books()
    states: list[str] = []
    for name in whole.books():
        one, other = whole.book(name), left.book(name)
        assert (other.state, other.digest) == (one.state, one.digest)
        assert (other.bids, other.asks) == (one.bids, one.asks)
        ended = {name: leg["state"] for name, leg in one.legs.items() if leg["state"] != "live"}
        assert {name: leg["state"] for name, leg in other.legs.items() if leg["state"] != "live"} == ended
        states += [one.state, *ended.values()]
    assert sorted(states) == sorted(["halted", "closed", "degraded", *["live"] * (len(whole.books()) - 1)])
    checks = left.player.checks()
    assert checks["polymarket.match"] > 100
    assert left.player.bad == {}
