"""The audit by REST: one mute market while everything else talks is found; healthy books never are."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from aggregator.system import running
from recorder.running import pipeline, replayed, sha256, table_of
from wup import config
from wup.aggregator.audit import Auditor
from wup.bus import LocalBus
from wup.clock import SYSTEM_CLOCK
from wup.mapping.catalogue import CatalogueError
from wup.metrics import AUDITS, REGISTRY, VERDICTS
from wup.recorder import segments
from wup.sim import SimSettings, Simulators
from wup.sim.faults import Fault
from wup.venues.base import Limits, RestBook
from wup.venues.kalshi.audit import KalshiAudit
from wup.venues.kalshi.settings import KalshiSettings
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aggregator.system import System

FAST = {"audit_s": 1.0}


def audited(platform: str, verdict: str) -> float:
    return REGISTRY.get_sample_value("wup_audits_total", {"platform": platform, "verdict": verdict}) or 0.0


async def audits(system: System, platform: str, verdict: str, more: int) -> None:
    """Wait for `more` verdicts of a kind."""
    AUDITS.labels(platform, verdict)
    wanted = audited(platform, verdict) + more
    async with asyncio.timeout(30):
        while audited(platform, verdict) < wanted:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("platform", ["kalshi", "polymarket"])
async def test_one_mute_market_is_found_and_no_healthy_one(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """A market whose frames alone stop coming leaves with `venue_silent` within three rounds of the audit
    (20 s each in production: inside the 60 s of G4), is live and right again once the venue speaks, and no
    other leg ever leaves."""
    async with running(monkeypatch, limits=FAST, sim={"sim_venues": (platform,)}) as system:
        await system.all_live()
        await audits(system, platform, "same", 2 * len(system.table.legs))
        assert system.judge.left == []
        activity = system.aggregator.groups[platform].activity
        await _until(lambda: bool(activity))
        mute = max(activity.items(), key=lambda item: item[1])[0]
        system.judge.excused.add(mute)
        VERDICTS.labels(platform, "resync", "venue_silent")
        system.fault("mute", asset=mute, venue=platform, seconds=3600)
        await system.judge.until(lambda: mute not in system.judge.live(), 3 * FAST["audit_s"] + 5)
        assert [(asset, state, why) for _, asset, state, why in system.judge.left] == [
            (mute, "resync", "venue_silent")
        ]
        system.simulators.exchanges[platform].menu.clear()
        await system.all_live(seconds=30)
        system.judge.excused.clear()
        await audits(system, platform, "same", 2 * len(system.table.legs))
        assert {asset for _, asset, _, _ in system.judge.left} == {mute}
        assert system.judge.wrong == []
        assert system.judge.compared > 100


async def test_old_and_unproven_answers_are_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Books from the cache of unsigned calls and ghost books of 0.01 and 0.99 make no leg leave."""
    async with running(monkeypatch, limits=FAST) as system:
        await system.all_live()
        await audits(system, "polymarket", "same", len(system.table.legs))
        system.fault("cached_rest", seconds=3600)
        system.fault("ghost_book", seconds=3600)
        ghost = "unproven_rest_book"
        before = _bad("polymarket", ghost)
        await audits(system, "kalshi", "same", 3 * len(system.table.legs))
        assert _bad("polymarket", ghost) > before
        assert system.judge.left == []


async def test_without_a_key_the_signed_audit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unsigned answers are never compared: without credentials the books count as unanswered."""
    async with running(monkeypatch, limits=FAST, sim={"sim_venues": ("kalshi",)}) as system:
        await system.all_live()
        auditor = system.aggregator._auditors["kalshi"]
        source = auditor._source
        source._settings = source._settings.model_copy(update={"kalshi_api_key_id": None})  # type: ignore[attr-defined]
        source._signer = None  # type: ignore[attr-defined]
        await audits(system, "kalshi", "unanswered", 3)
        assert system.judge.left == []


@pytest.mark.parametrize(("age", "usable"), [(None, True), ("0", True), ("7", False), ("soon", False)])
async def test_an_answer_from_a_cache_is_refused(
    monkeypatch: pytest.MonkeyPatch, age: str | None, usable: bool
) -> None:
    """Whatever a signed call brings, an answer with an `Age` is not what the venue has now."""
    simulators = Simulators(SimSettings(sim_venues=("kalshi",)))
    await simulators.start()
    body = orjson.dumps(
        {
            "orderbooks": [
                {"ticker": "K", "orderbook_fp": {"yes_dollars": [["0.4000", "7.00"]], "no_dollars": []}}
            ]
        }
    )
    signed: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        signed.append(await reader.readuntil(b"\r\n\r\n"))
        extra = "" if age is None else f"Age: {age}\r\n"
        head = f"HTTP/1.1 200 OK\r\n{extra}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        for name, value in simulators.env().items():
            monkeypatch.setenv(name, value)
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("KALSHI_API_URL", f"http://127.0.0.1:{port}/trade-api/v2")
        audit = KalshiAudit(config.load(KalshiSettings))
        if usable:
            assert await audit.books(["K"]) == [RestBook("K", [("0.4", "7")], [], None)]
        else:
            with pytest.raises(CatalogueError):
                await audit.books(["K"])
        assert b"KALSHI-ACCESS-SIGNATURE" in signed[0].upper()
        await audit.close()
    await simulators.stop()


async def test_every_book_has_its_turn() -> None:
    """Of 5,000 books the 200 busiest are in every round of 20 s, and each of the others in one of any 31: all
    of them within 15 minutes (G4)."""
    names = [f"A{number:04}" for number in range(5_000)]
    activity = {name: 5_000 - number for number, name in enumerate(names)}
    group: Any = SimpleNamespace(
        venue=SimpleNamespace(name="toy"), limits=Limits(), activity=activity, assets=lambda: set(names)
    )
    auditor = Auditor(group, None, LocalBus(), SYSTEM_CLOCK)  # type: ignore[arg-type]
    rounds = [auditor.sample() for _ in range(62)]
    for sample in rounds:
        assert set(names[:200]) <= set(sample)
        assert len(sample) == len(set(sample)) <= 362
    for start in (0, 13, 31):
        assert {name for sample in rounds[start : start + 31] for name in sample} == set(names)


async def test_a_verdict_of_the_audit_is_replayed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A recording in which the audit took a leg away and a fresh book brought it back gives the same output:
    replay asks no venue."""
    quick = {name: replace(venue, limits=replace(venue.limits, **FAST)) for name, venue in VENUES.items()}
    monkeypatch.setattr("recorder.running.VENUES", quick)
    async with pipeline(tmp_path, monkeypatch, rate=200) as live:
        await live.set_table(await table_of(live.sims))
        groups = live.aggregator.groups
        await _until(lambda: live.live() == len(live.sims.pairs))
        # First books come many in one frame: which markets are busy shows a little later.
        await _until(lambda: all(groups[platform].activity for platform in VENUES))
        for platform in VENUES:
            asset = max(groups[platform].activity.items(), key=lambda item: item[1])[0]
            live.sims.fault(Fault(kind="mute", venue=platform, asset=asset, seconds=3600))
        await _until(lambda: sum(b'"why":"venue_silent"' in message for message in live.messages) >= 2)
        for exchange in live.sims.exchanges.values():
            exchange.menu.clear()
        await _until(lambda: live.live() == len(live.sims.pairs))
        await asyncio.sleep(0.5)
        await live.aggregator.stop()
    again, bad = replayed(segments(tmp_path))
    assert bad == []
    for place, (one, other) in enumerate(zip(live.messages, again, strict=False)):
        assert one == other, f"message {place}"
    assert sha256(again) == sha256(live.messages)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def _bad(platform: str, kind: str) -> float:
    labels = {"stage": "aggregator", "platform": platform, "kind": kind}
    return REGISTRY.get_sample_value("wup_bad_input_total", labels) or 0.0
