"""Randomised runs: all faults of the simulated venues mixed, and never a wrong book that is shown as live."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from venues.market_run import Run, WrongBook
from wup.config import load
from wup.venues.base import Output, Venue
from wup.venues.kalshi.normalise import KalshiNormaliser
from wup.venues.polymarket.settings import PolymarketSettings
from wup.venues.registry import VENUES

SEEDS = int(os.environ.get("MARKET_RUN_SEEDS", "24"))
"""Seeds per venue; more for a long run."""
BATCH = 4


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
@pytest.mark.parametrize("platform", ["kalshi", "polymarket"])
def test_no_wrong_book_is_ever_live(platform: str, first: int) -> None:
    """Frames lost, repeated, reordered, broken; connections and subscriptions ended; engines halted: a live
    leg is the true book after every transaction, and all legs are live and true again afterwards."""
    total: Counter[str] = Counter()
    for seed in range(first, first + BATCH):
        run = Run(platform, seed)
        run.go()
        total.update(run.figures())
    print(platform, first, dict(total))
    assert total["faults"] > 50
    assert total["compared"] > 1_000
    assert total["resyncs"] > 0


class GapsIgnored(KalshiNormaliser):
    """Rule 15 broken: a gap in the sequence makes nothing doubtful."""

    def _doubt(self, tickers: Iterable[str], why: str, now_us: int, out: list[Output]) -> None:
        if why != "seq_gap":
            super()._doubt(tickers, why, now_us, out)


def without_hashes(settings: Any) -> Any:
    """Point 4 broken: the session says that no hash is to be checked."""
    return VENUES["polymarket"].session(load(PolymarketSettings, hash_check="off"))


@pytest.mark.parametrize(
    ("platform", "broken"),
    [
        ("kalshi", dataclasses.replace(VENUES["kalshi"], normaliser=GapsIgnored)),
        ("polymarket", dataclasses.replace(VENUES["polymarket"], session=without_hashes)),
    ],
    ids=["gaps ignored", "hashes ignored"],
)
def test_the_run_finds_a_broken_adapter(platform: str, broken: Venue) -> None:
    """With one rule broken on purpose the same run fails: it can tell."""

    def go() -> None:
        for seed in range(20):
            Run(platform, seed, venue=broken).go()

    with pytest.raises(WrongBook):
        go()
