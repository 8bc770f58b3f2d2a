"""Facts of a market beside its book: dated, per leg, with their changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mapping.files import aggregate, leg, market, venue_event, venue_market
from orderbook.feeding import Feed
from wup.mapping.catalogue import FactChange, VenueEventRecord, dated
from wup.mapping.compile import Compiler
from wup.mapping.file import read
from wup.mapping.records import event_record, read_event
from wup.orderbook.contents import Contents

AT = 1_795_353_600_000_000
EVENT = replace(venue_event("polymarket", "fed", venue_market("0x01", close_us=AT)), fetched_us=AT)


def test_facts_carry_the_date_of_their_last_change() -> None:
    """A refresh without a change keeps the date; each change is remembered with before and after."""
    first = dated(EVENT, None)
    assert first.markets[0].facts_us == AT
    second = dated(replace(EVENT, fetched_us=AT + 1), first)
    assert second.markets == first.markets
    market = replace(EVENT.markets[0], tick="0.001", fees={"rate": "0.07"})
    third = dated(replace(EVENT, markets=(market,), fetched_us=AT + 2), second)
    assert third.markets[0].facts_us == AT + 2
    assert third.markets[0].changes == (
        FactChange(AT + 2, "tick", "0.01", "0.001"),
        FactChange(AT + 2, "fees", "rate=0.05", "rate=0.07"),
    )
    for number in range(20):
        again = replace(market, tick=f"0.{number + 1:02}")
        third = dated(replace(EVENT, markets=(again,), fetched_us=AT + 3 + number), third)
    assert len(third.markets[0].changes) == 8
    assert third.markets[0].changes[-1] == FactChange(AT + 22, "tick", "0.19", "0.20")


def test_a_status_is_dated_by_the_question_that_found_it_changed() -> None:
    """No date while a market never had another status; a change has the time of its question, and
    further answers that say the same date it anew until one comes twenty seconds after the first, for that
    may have lain in a cache, however long the next took to come. The date reaches the leg of the table."""

    def said(status: str, at: int) -> VenueEventRecord:
        changed = replace(EVENT.markets[0], status=status)
        return replace(EVENT, markets=(changed,), fetched_us=AT + at * 1_000_000)

    event, compiler = None, Compiler()
    for at, status, date in (
        (0, "open", None),
        (10, "open", None),
        (20, "halted", 20),
        (25, "open", 25),
        (40, "open", 40),
        (101, "open", 101),
        (102, "open", 101),
        (131, "open", 101),
    ):
        event = dated(said(status, at), event)
        event, _ = read_event(event_record(event).encode())
        compiler.set_event(event)
        (leg,) = compiler.table(1).legs
        assert leg.status_us == (None if date is None else AT + date * 1_000_000), (at, status)


def test_dates_survive_storage() -> None:
    """What is written to Redis is read back with its dates and changes."""
    changed = replace(EVENT, markets=(replace(EVENT.markets[0], tick="0.001"),), fetched_us=AT + 1)
    event = dated(changed, dated(EVENT, None))
    again, _ = read_event(event_record(event).encode())
    assert again.markets[0].changes == event.markets[0].changes
    assert dated(replace(changed, fetched_us=AT + 9), again).markets[0].facts_us == AT + 1


async def test_facts_reach_aggregates_and_snapshots() -> None:
    """Tick, smallest size, fees, close, their date and changes per leg; the result of a leg that has left;
    tick and smallest size in the legs of the book's own messages."""
    other = venue_market("0x02")
    event = dated(replace(EVENT, markets=(*EVENT.markets, other)), None)
    changed = replace(EVENT.markets[0], tick="0.001")
    event = dated(replace(event, markets=(changed, other), fetched_us=AT + 5), event)
    compiler = Compiler()
    compiler.set_event(event)
    table = compiler.table(1)
    markets = Contents(table).aggregate("polymarket-fed", legs=True)["markets"]
    (one,) = (x for m in markets for x in m["legs"] if x["market"] == "0x01")
    assert (one["tick"], one["min_size"], one["fees"], one["close_us"]) == (
        "0.001",
        "1",
        {"rate": "0.05"},
        AT,
    )
    assert one["facts_us"] == AT + 5
    assert one["changes"] == [{"ts_us": AT + 5, "what": "tick", "before": "0.01", "after": "0.001"}]
    async with Feed() as feed:
        await feed.start(table)
        shown = {leg["asset"]: leg for m in feed.take() for leg in m["legs"].values()}
    assert (shown["0x01-y"]["tick"], shown["0x01-y"]["min_size"]) == ("0.001", "1")


def test_the_result_of_a_leg_that_has_left(tmp_path: Path) -> None:
    """One venue has resolved, the other not yet: the aggregate tells who said what, in the book's terms."""
    legs = [leg("kalshi", "E", "E-A", polarity='"inverted"'), leg("polymarket", "fed", "0x01")]
    (tmp_path / "a.toml").write_text(aggregate("a", market("wup1|a|k|s|-|p", *legs, tie='"impossible"')))
    files, problems = read(tmp_path)
    assert problems == []
    compiler = Compiler()
    compiler.set_files(files)
    resolved = venue_market("E-A", status="resolved", result="no", rules="rules of E-A")
    compiler.set_event(venue_event("kalshi", "E", resolved))
    compiler.set_event(EVENT)
    (shown,) = Contents(compiler.table(1)).aggregate("a", legs=True)["markets"]
    assert shown["result"] is None
    assert shown["settled"] == [{"platform": "kalshi", "market": "E-A", "result": "yes"}]
    assert [x["platform"] for x in shown["legs"]] == ["polymarket"]
