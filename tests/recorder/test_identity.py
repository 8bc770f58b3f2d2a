"""A live run on sockets, with faults, and its own recording: the same output (wire.md section 6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from recorder.running import Live, pipeline, replayed, sha256, table_of
from wup.recorder import segments
from wup.sim.faults import Fault

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
    aside: with lost, broken, repeated and reordered frames, two connections lost, one leg suspended, and two
    that go and come back."""
    async with pipeline(tmp_path, monkeypatch, rate=300, segment_bytes=20_000) as live:
        table = await table_of(live.sims)
        await live.set_table(table)
        await until_live(live, len(live.sims.pairs))
        for platform, kind in FAULTS:
            live.sims.fault(Fault(kind=kind, venue=platform))
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
    assert sha256(replayed(files[:-1])[0]) != sha256(live.messages)
