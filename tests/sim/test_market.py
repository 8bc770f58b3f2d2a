"""The market model: deterministic, plausible, and with a truth that can be asked for."""

from __future__ import annotations

import random

import pytest

from wup.sim.fixed import MICRO, fixed, micro, short
from wup.sim.listed import build_world
from wup.sim.market import MarketModel
from wup.sim.world import KALSHI, POLYMARKET

START = 1_795_353_600_000_000


def model(seed: int = 7, **more: float) -> MarketModel:
    return MarketModel(build_world(), seed=seed, start_us=START, **more)  # type: ignore[arg-type]


def told(event: object) -> tuple[object, ...]:
    return (
        event.market.listing.market_id,  # type: ignore[attr-defined]
        event.at_us,  # type: ignore[attr-defined]
        event.kind,  # type: ignore[attr-defined]
        tuple(event.changes),  # type: ignore[attr-defined]
        tuple(event.fills),  # type: ignore[attr-defined]
    )


def test_same_seed_same_events() -> None:
    """Two models of one seed do the same, however time is cut; another seed does something else."""
    whole = [told(event) for event in model().advance(START + 20 * MICRO)]
    cut, rng, now = model(), random.Random(1), START
    pieces = []
    while now < START + 20 * MICRO:
        now = min(now + rng.randint(1, 400_000), START + 20 * MICRO)
        pieces += [told(event) for event in cut.advance(now)]
    assert len(whole) > 4_000
    assert pieces == whole
    assert [told(event) for event in model(8).advance(START + 20 * MICRO)] != whole


def test_transactions_of_a_market_never_share_a_millisecond() -> None:
    """Engine times of one market rise by at least one millisecond, at any rate."""
    last: dict[str, int] = {}
    for event in model(rate=50_000).advance(START + MICRO):
        ms = event.at_us // 1000
        assert ms > last.get(event.market.listing.market_id, START // 1000)
        last[event.market.listing.market_id] = ms


def test_books_are_plausible() -> None:
    """No book crosses after a transaction; sides keep levels; prices lie on the grid; both venues trade."""
    made = model()
    kinds: dict[tuple[str, str], int] = {}
    crossing_rests = 0
    for event in made.advance(START + 40 * MICRO):
        market, book = event.market, event.market.book
        bid, ask = book.best_bid(), book.best_ask()
        assert bid is None or ask is None or bid < ask
        for change in event.changes:
            assert change.price == market.floor(change.price)
            assert change.old != change.new
            assert change.new >= 0
        key = (market.listing.venue, event.kind)
        kinds[key] = kinds.get(key, 0) + 1
        crossing_rests += any(change.new > change.old for change in event.changes) and bool(event.fills)
    for venue in (KALSHI, POLYMARKET):
        assert kinds[venue, "match"] > 100
        assert kinds[venue, "change"] > 1_000
    assert crossing_rests > 50
    depths = [len(item.book.bids.prices) + len(item.book.asks.prices) for item in made.markets]
    assert min(depths) >= 10
    assert max(depths) <= 100


def test_truth_at_any_time() -> None:
    """The book at an engine time is the one after the last transaction up to the end of its millisecond."""
    made = model()
    seen: dict[tuple[str, int], tuple[object, ...] | None] = {}
    for event in made.advance(START + 20 * MICRO):
        asset = event.market.listing.assets[0]
        seen[asset, event.at_us // 1000] = event.market.truth(asset)
    for (asset, ms), book in seen.items():
        market = next(item for item in made.markets if asset in item.listing.assets)
        assert market.truth(asset, ms * 1000) == book
        assert market.truth(asset, ms * 1000 + 999) == book
        if (asset, ms + 1) not in seen:
            assert market.truth(asset, ms * 1000 + 1_000) == book
    assert made.markets[0].truth(made.markets[0].listing.assets[0], START - 1_000) is None


def test_truth_of_the_no_token_is_the_mirror() -> None:
    """Of a two-token market the second token's book is the first one's with prices complemented."""
    market = next(item for item in model().markets if item.listing.venue == POLYMARKET)
    yes, no = (market.truth(asset) for asset in market.listing.assets)
    assert yes is not None
    assert no is not None
    assert no[0] == [(MICRO - price, size) for price, size in yes[1]]
    assert no[1] == [(MICRO - price, size) for price, size in yes[0]]


def test_history_is_bounded_and_says_so() -> None:
    """A time that was forgotten is answered by nothing, one that is kept exactly."""
    made = model(rate=3_000, history=4_000)
    market = made.markets[0]
    for _ in made.advance(START + 5 * MICRO):
        pass
    assert market.history.first_ms() > START // 1000
    asset = market.listing.assets[0]
    assert market.truth(asset, START) is None
    assert market.truth(asset, market.changed_us) == market.truth(asset)


def test_world_has_the_two_events() -> None:
    """Five outcomes on both venues, and a game of two Kalshi markets (one inverted) against one."""
    world = build_world(3)
    fed, game, *extra = world.aggregates
    assert [len(event.listings) for event in fed.events] == [5, 5]
    legs = [item for event in game.events for item in event.listings]
    assert [(item.venue, item.inverted) for item in legs] == [
        (KALSHI, False),
        (KALSHI, True),
        (POLYMARKET, False),
    ]
    assert legs[2].outcomes == ("Texas Rangers", "New York Yankees")
    assert len(extra) == 3
    assets = [asset for item in world.listings for asset in item.assets]
    assert len(assets) == len(set(assets))
    assert any("." in item.market_id for item in world.listings)


@pytest.mark.parametrize(
    ("value", "text"),
    [(520_000, "0.52"), (1_200 * MICRO, "1200"), (1, "0.000001"), (0, "0"), (-2_500_000, "-2.5")],
)
def test_shortest_text(value: int, text: str) -> None:
    """Numbers have one shortest text, and it reads back."""
    assert short(value) == text
    assert micro(text) == value


def test_fixed_text_never_rounds() -> None:
    """A number that does not fit the decimals is refused, not rounded."""
    assert fixed(960_000, 4) == "0.9600"
    with pytest.raises(ValueError, match="more than 2 decimals"):
        fixed(1_001, 2)
    for bad in ("", ".", "1e3", "0.1234567", "+1", "١"):
        with pytest.raises(ValueError, match="decimal"):
            micro(bad)


@pytest.mark.parametrize(("depth", "least"), [(999, 990), (9_999, 9_900)])
def test_deep_books(depth: int, least: int) -> None:
    """Books of 999 and 9,999 levels can be asked for; they live on a grid that has room for them."""
    made = MarketModel(build_world(), seed=1, start_us=START, depth=depth)
    for market in made.markets:
        assert least <= len(market.book.bids.prices) + len(market.book.asks.prices) <= depth
    assert sum(1 for _ in made.advance(START + MICRO)) > 200
