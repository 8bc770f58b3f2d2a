"""REST against many books at once: either it or the stream is wrong, and one book tells which."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from aggregator.system import running
from aggregator.virtual import LoopClock, VirtualLoop
from wup import subjects
from wup.aggregator.audit import BUSIEST, DOUBT_S, SLICE, UNDATED_S, Auditor
from wup.bus import LocalBus, Message
from wup.normalizer.audit import Journal, cells
from wup.venues.base import Limits, RestBook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Rest:
    """REST that answers at once, with the venue's time or without."""

    batch = 100

    def __init__(self, *, dated: bool) -> None:
        self._venue_us = 1 if dated else None
        self.asked: list[tuple[float, list[str]]] = []

    async def books(self, assets: Sequence[str]) -> list[RestBook]:
        self.asked.append((asyncio.get_running_loop().time(), list(assets)))
        return [RestBook(asset, [], [], self._venue_us) for asset in assets]

    async def close(self) -> None:
        """Nothing is held."""


def audited(
    assets: Sequence[str],
    say: Callable[[int, str], str | None],
    seconds: float,
    *,
    dated: bool = True,
    fresh: str | None = None,
) -> tuple[list[tuple[float, str, str]], Rest]:
    """Audit for that long a venue with these assets, the verdict on the n-th comparison of one being
    `say(n, asset)`, None for no answer, and `fresh` once it was condemned if that is given; (time, asset,
    why) of each that is condemned, and what REST was asked."""
    condemned: list[tuple[float, str, str]] = []
    rest = Rest(dated=dated)
    counts: dict[str, int] = {}

    async def body() -> None:
        bus = LocalBus()

        def answer(message: Message) -> None:
            books = orjson.loads(message.payload).get("books")
            if books is not None and message.reply is not None:
                found = {}
                for asset in books:
                    counts[asset] = counts.get(asset, 0) + 1
                    verdict = say(counts[asset], asset)
                    if fresh is not None and any(asset == gone for _, gone, _ in condemned):
                        verdict = fresh
                    if verdict is not None:
                        found[asset] = verdict
                bus.publish(message.reply, orjson.dumps(found))
                bus.publish(message.reply, b"")

        def take(message: Message) -> None:
            fields = orjson.loads(message.payload)
            at = asyncio.get_running_loop().time()
            condemned.extend((at, asset, fields["why"]) for asset in fields["assets"])

        await bus.subscribe(subjects.audit("toy"), answer)
        await bus.subscribe(subjects.RAW_ALL, take)
        group: Any = SimpleNamespace(
            venue=SimpleNamespace(name="toy"),
            limits=Limits(),
            activity={asset: place for place, asset in enumerate(reversed(assets))},
            assets=lambda: set(assets),
            move_away=lambda asset, why: None,
        )
        auditor = Auditor(group, rest, bus, LoopClock())
        task = asyncio.create_task(auditor.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(body())
    return condemned, rest


@pytest.mark.parametrize("assets", ["AB", "ABC", "ABCDEFGH"])
def test_healthy_quiet_books_are_not_taken_away_together(assets: str) -> None:
    """REST is wrong about all of two, three or eight quiet books: one leaves, its fresh book is what was
    shown, and no other leaves for five minutes."""

    def say(number: int, asset: str) -> str:
        return "unfounded" if number == 3 and asset == assets[-1] else "silent"

    condemned, _ = audited(assets, say, DOUBT_S - 10)
    # The quietest one: its book will hardly change by itself meanwhile.
    assert [asset for _, asset, _ in condemned] == [assets[-1]]


@pytest.mark.parametrize("found", ["same", "replaced", "not_live"])
def test_a_mute_subscription_is_found_by_one_of_its_books(found: str) -> None:
    """All eight are wrong, and the fresh book of the one that is tried is another one or does not come at
    all: the six that are wrong for the third time follow, within the 60 s of G4; the one that REST confirms
    meanwhile does not."""

    def say(number: int, asset: str) -> str:
        if number >= 3 and asset in "AH":
            return "same" if asset == "A" else found
        return "silent"

    condemned, _ = audited("ABCDEFGH", say, 59)
    assert next(asset for _, asset, _ in condemned) == "H"
    assert sorted(asset for _, asset, _ in condemned) == list("BCDEFGH")
    assert len({at for at, _, _ in condemned}) == 2
    assert {why for _, _, why in condemned} == {"venue_silent"}


@pytest.mark.parametrize("fresh", ["same", "not_live"])
@pytest.mark.parametrize("mute_s", [0.0, 2.5, 7.5, 15.0])
def test_all_of_the_busiest_mute_at_once_are_found_in_time(fresh: str, mute_s: float) -> None:
    """Two hundred books, four slices: whenever their subscription falls mute, one of them is tried, and all
    leave within the 60 s of G4, each once."""
    names = [f"A{number:03}" for number in range(BUSIEST)]
    assert BUSIEST > 3 * SLICE

    def say(number: int, asset: str) -> str:
        return "silent" if asyncio.get_running_loop().time() >= 1_000 + mute_s else "same"

    condemned, _ = audited(names, say, mute_s + 60, fresh=fresh)
    assert sorted(asset for _, asset, _ in condemned) == names
    assert len({at for at, _, _ in condemned}) > 1
    first = min(at for at, _, _ in condemned)
    assert sum(at == first for at, _, _ in condemned) == 1


def test_rest_that_lies_about_all_of_the_busiest_costs_one_leg() -> None:
    """Slices that waited for the trial of another one go by its outcome: none of them tries a book itself."""
    names = [f"A{number:03}" for number in range(BUSIEST)]
    condemned, _ = audited(names, lambda n, asset: "silent", DOUBT_S - 30, fresh="unfounded")
    assert len(condemned) == 1


@pytest.mark.parametrize("found", ["older", "too_busy", None])
def test_an_answer_that_proves_nothing_is_tried_again(found: str | None) -> None:
    """Neither REST nor the stream is shown to be wrong by it: the next round tries another book, and the mute
    subscription is found all the same."""

    def say(number: int, asset: str) -> str | None:
        if asset == "H" and number >= 3:
            return found if number == 3 else "same"
        return "same" if (asset, number) == ("G", 6) else "silent"

    condemned, _ = audited("ABCDEFGH", say, 60)
    assert [asset for _, asset, _ in condemned][:2] == ["H", "G"]
    assert sorted(asset for _, asset, _ in condemned) == list("ABCDEFGH")


def test_a_book_that_moves_is_proof_only_when_rest_agrees() -> None:
    """Books that change differ from what they were by themselves: `replaced` after `different` proves
    nothing."""
    condemned, _ = audited("AB", lambda n, asset: "replaced" if n == 3 else "different", 100)
    assert len(condemned) == 1
    condemned, _ = audited("AB", lambda n, asset: "same" if (n, asset) == (3, "B") else "different", 30)
    assert sorted(asset for _, asset, _ in condemned) == ["A", "B"]


@pytest.mark.parametrize(("assets", "wrong"), [("A", "A"), ("AB", "B"), ("ABCD", "CD")])
def test_a_minority_is_taken_away_after_two_comparisons(assets: str, wrong: str) -> None:
    """Up to half of a slice, and a single book, leave at once."""
    condemned, _ = audited(assets, lambda n, asset: "silent" if asset in wrong and n < 3 else "same", 45)
    assert sorted(asset for _, asset, _ in condemned) == list(wrong)


@pytest.mark.parametrize("dated", [True, False])
def test_an_answer_without_a_time_is_asked_for_again_later(dated: bool) -> None:
    """The second answer must not be the first one again: without the venue's time two seconds more pass
    between them."""
    _, rest = audited("A", lambda n, asset: "silent", 15, dated=dated)
    (first, _), (second, _) = rest.asked[:2]
    waited = second - first
    assert (waited >= UNDATED_S + 2) if not dated else (waited < UNDATED_S + 1)


def test_what_a_leg_came_back_with_is_told() -> None:
    """`unfounded`: the fresh book is the one that had been shown; `replaced`: another one, that REST does not
    have either; `same`: another one, that REST has; `not_live`: it has not come back."""
    shown, other, rest = ([("0.4", "5")], []), ([("0.4", "6")], []), cells([("0.4", "7")], [])
    away = orjson.dumps({"type": "state", "state": "resync", "why": "venue_silent"})

    def judged(*books: tuple[list[tuple[str, str]], list[tuple[str, str]]]) -> str:
        journal = Journal("s", None, cells(*shown), 0.0)
        journal.messages.append(away)
        for bids, asks in books:
            journal.messages.append(orjson.dumps({"type": "snapshot", "bids": bids, "asks": asks}))
        return journal.judge(rest, None)

    assert judged() == "not_live"
    assert judged(shown) == "unfounded"
    assert judged(other) == "replaced"
    assert judged(([("0.4", "7")], [])) == "same"


async def test_rest_that_lies_about_every_book_costs_one_leg(monkeypatch: pytest.MonkeyPatch) -> None:
    """With REST one share off everywhere, only the book that is tried leaves, and comes back at once."""
    async with running(monkeypatch, limits={"audit_s": 1.0}, sim={"sim_rate": 0.001}) as system:
        await system.all_live()
        for auditor in system.aggregator._auditors.values():
            true = auditor._source.books
            # Room for a busy machine: a fresh book that does not come is another finding.
            auditor._fresh_s = 3.0

            async def lie(assets: Sequence[str], true: Any = true) -> list[RestBook]:
                return [replace(book, bids=[*book.bids, ("0.0007", "1")]) for book in await true(assets)]

            monkeypatch.setattr(auditor._source, "books", lie)
        async with asyncio.timeout(30):
            while not all(auditor._doubted_until for auditor in system.aggregator._auditors.values()):
                await asyncio.sleep(0.05)
        await asyncio.sleep(2.0)
        left = [system.judge.platform[asset] for _, asset, _, _ in system.judge.left]
        assert sorted(left) == ["kalshi", "polymarket"]
        await system.all_live()
        assert system.judge.wrong == []


async def test_a_wholly_mute_subscription_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """When changes of no market come any more, and first books still do, every leg leaves for it, and all are
    live again once the venue speaks."""
    async with running(monkeypatch, limits={"audit_s": 1.0}, sim={"sim_venues": ("kalshi",)}) as system:
        await system.all_live()
        assets = {leg.asset_id for leg in system.table.legs}
        system.judge.excused |= assets
        system.fault("mute", venue="kalshi", seconds=3600)
        await system.judge.until(lambda: {asset for _, asset, _, _ in system.judge.left} >= assets, 30)
        assert "venue_silent" in {why for *_, why in system.judge.left} <= {"venue_silent", "gap"}
        system.simulators.exchanges["kalshi"].menu.clear()
        await system.all_live(seconds=30)
