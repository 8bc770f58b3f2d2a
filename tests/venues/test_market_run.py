"""Randomised runs: all faults of the simulated venues mixed, and never a wrong book that is shown as live."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from venues.market_run import MENU, Run, ShownWhileHalted, WrongBook
from wup.config import load
from wup.normalizer.engine import Engine
from wup.normalizer.legs import Connection
from wup.raw import Meta
from wup.venues.base import Output, Venue
from wup.venues.kalshi.normalise import KalshiNormaliser
from wup.venues.numbers import complement
from wup.venues.polymarket.normalise import PolymarketNormaliser
from wup.venues.polymarket.settings import PolymarketSettings
from wup.venues.registry import VENUES

SEEDS = int(os.environ.get("MARKET_RUN_SEEDS", "200"))
"""Seeds per venue; more for a long run."""
FIRST = int(os.environ.get("MARKET_RUN_FIRST", "0"))
"""The first of them: with MARKET_RUN_SEEDS=1 the one that a failure named is run alone."""
ENOUGH = 100
"""With so many seeds every fault of the menu must have struck."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("platform", ["kalshi", "polymarket"])
def test_no_wrong_book_is_ever_live(platform: str, record_property: Callable[[str, object], None]) -> None:
    """Frames lost, repeated, reordered, broken; connections and subscriptions ended; engines halted; markets
    ended: a live leg is the true book after every transaction, none is live while its market is halted, and
    all are live and true again within ten seconds of the last fault. Every fault on the menu has struck."""
    total: Counter[str] = Counter()
    struck: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + SEEDS):
        run = Run(platform, seed)
        run.go()
        total.update(run.figures())
        struck.update(done.kind for done in run.exchange.menu.done)
    record_property(f"market run, {platform}", {"seeds": SEEDS, **total})
    assert total["faults"] > 20 * SEEDS
    assert total["compared"] > 200 * SEEDS
    assert total["resyncs"] > SEEDS
    assert SEEDS < ENOUGH or set(MENU[platform]) <= set(struck)
    assert SEEDS < ENOUGH or total["closed"] > 0
    assert SEEDS < ENOUGH or platform != "kalshi" or total["halts_over_reconnects"] > SEEDS // 10


class GapsIgnored(KalshiNormaliser):
    """Rule 15 broken: a gap in the sequence makes nothing doubtful."""

    def _doubt(self, tickers: Iterable[str], why: str, now_us: int, out: list[Output]) -> None:
        if why != "seq_gap":
            super()._doubt(tickers, why, now_us, out)


class GapsLate(KalshiNormaliser):
    """Rule 15 broken: a gap in the sequence makes its books doubtful a second later."""

    def _doubt(self, tickers: Iterable[str], why: str, now_us: int, out: list[Output]) -> None:
        if why == "seq_gap":
            self.__dict__.setdefault("late", []).append((now_us + 1_000_000, list(tickers)))
        else:
            super()._doubt(tickers, why, now_us, out)

    def timer(self, now_us: int) -> list[Output]:
        out = super().timer(now_us)
        late = self.__dict__.setdefault("late", [])
        while late and late[0][0] <= now_us:
            super()._doubt(late.pop(0)[1], "seq_gap", now_us, out)
        return out


class OldBooksProtected(KalshiNormaliser):
    """Rule 14 broken: a snapshot that nobody asked for does not replace the book."""

    def _snapshot(self, ticker: str, *rest: Any) -> None:
        if self.book(ticker) is None:
            super()._snapshot(ticker, *rest)


class SizesMisread(KalshiNormaliser):
    """Rule 4 broken: an increment that makes a level larger is taken twice."""

    def _increment(self, ticker: str, side: Any, price: str, delta: str, *rest: Any) -> None:
        super()._increment(ticker, side, price, delta, *rest)
        if not delta.startswith("-") and self.book(ticker) is not None:
            super()._increment(ticker, side, price, delta, *rest)


class TokensConfused(PolymarketNormaliser):
    """Point 1 broken: what is said is taken for the other token's, and neither hash nor best price is looked
    at to find out."""

    def _change(self, token: Any, levels: Any, stamp: str, venue_us: Any, *rest: Any) -> None:
        turned = [
            ("ask" if side == "bid" else "bid", complement(price), size) for side, price, size in levels
        ]
        super()._change(token, turned, stamp, venue_us, None, None, None, *rest[3:])


def without_hashes(settings: Any) -> Any:
    """Point 4 broken: the session says that no hash is to be checked."""
    return VENUES["polymarket"].session(load(PolymarketSettings, hash_check="off"))


@pytest.mark.parametrize(
    ("platform", "broken"),
    [
        ("kalshi", dataclasses.replace(VENUES["kalshi"], normaliser=GapsIgnored)),
        ("kalshi", dataclasses.replace(VENUES["kalshi"], normaliser=GapsLate)),
        ("kalshi", dataclasses.replace(VENUES["kalshi"], normaliser=OldBooksProtected)),
        ("kalshi", dataclasses.replace(VENUES["kalshi"], normaliser=SizesMisread)),
        ("polymarket", dataclasses.replace(VENUES["polymarket"], session=without_hashes)),
        ("polymarket", dataclasses.replace(VENUES["polymarket"], normaliser=TokensConfused)),
    ],
    ids=[
        "gaps ignored",
        "gaps late",
        "old books protected",
        "sizes misread",
        "hashes ignored",
        "tokens confused",
    ],
)
def test_the_run_finds_a_broken_adapter(platform: str, broken: Venue) -> None:
    """With one rule broken on purpose the same run fails: it can tell."""

    def go() -> None:
        for seed in range(20):
            Run(platform, seed, venue=broken).go()

    with pytest.raises(WrongBook):
        go()


class HaltsForgotten(Engine):
    """A halt is what one connection says: the next one knows nothing of it."""

    def _open(self, meta: Meta, fields: Mapping[str, Any], n: int) -> Connection:
        for asset_id, asset in self._assets[meta.platform].items():
            if self._statuses.opened(meta.platform, asset_id):
                asset.status = None
        return super()._open(meta, fields, n)


class EndsForgotten(Engine):
    """A market's end is what one connection says."""

    def _open(self, meta: Meta, fields: Mapping[str, Any], n: int) -> Connection:
        for asset in self._assets[meta.platform].values():
            if asset.state == "closed":
                asset.state, asset.status = "down", None
        return super()._open(meta, fields, n)


@pytest.mark.parametrize(
    ("platform", "engine"),
    [("kalshi", HaltsForgotten), ("kalshi", EndsForgotten), ("polymarket", EndsForgotten)],
)
def test_the_run_finds_a_status_that_is_forgotten(platform: str, engine: type[Engine]) -> None:
    """With statuses that end with their connection the same run fails: it can tell."""

    def go() -> None:
        for seed in range(20):
            Run(platform, seed, engine=engine).go()

    with pytest.raises(ShownWhileHalted):
        go()
