"""The audit by REST: one mute market while everything else talks is found; healthy books never are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from aggregator.system import running
from wup.metrics import AUDITS, REGISTRY, VERDICTS

if TYPE_CHECKING:
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
        mute = max(system.aggregator.groups[platform].activity.items(), key=lambda item: item[1])[0]
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


def _bad(platform: str, kind: str) -> float:
    labels = {"stage": "aggregator", "platform": platform, "kind": kind}
    return REGISTRY.get_sample_value("wup_bad_input_total", labels) or 0.0
