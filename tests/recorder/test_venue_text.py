"""Books of a venue whose hash is over the text that it wrote: a checkpoint keeps that text."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from recorder.feeding import US, Feed
from venues.poly import MARKET, YES, Book, raw
from venues.shown import Shown
from venues.test_polymarket_normalise import FACTS, reader, started
from wup.bus import LocalBus
from wup.clock import ManualClock
from wup.mapping.table import BookInfo, Leg, MappingTable
from wup.playback import Replay
from wup.playback.sources import find
from wup.recorder import Recorder, files
from wup.recorder.follower import Follower

BOOK = "fed.0000000000000001.yes"
TABLE = MappingTable(
    7,
    (Leg("polymarket", YES, MARKET, "fed", BOOK, False, facts=FACTS),),
    {BOOK: BookInfo(BOOK, "fed", "Fed", "cut")},
)
BIDS, ASKS = {"0.50": "1200.00", "0.4": "7"}, {"0.610": "9.5", "0.7": "3"}


async def recording(folder: Path, venue: Book) -> list[dict[str, Any]]:
    """Two segments; the second begins with the book and goes on with two changes. Its `book` records."""
    bus, clock = LocalBus(), ManualClock(US)
    recorder = Recorder(bus, folder, clock=clock, segment_age_s=100, books=Follower())
    await recorder.start()
    recorder.set_table(TABLE)
    feed = Feed(bus, "p.1", "polymarket")
    feed.say("open", b"{}")
    feed.say("frame", raw([venue.book()]))
    await recorder.flush()
    clock.advance(101)
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while not found:
            await recorder.flush()
            await asyncio.sleep(0.01)
            log = find([folder]).records(lambda bad: None)
            found = [orjson.loads(payload) for meta, payload in log if meta.kind == "book"]
    feed.say("frame", raw(venue.move(("BUY", "0.45", "8.0"))))
    feed.say("frame", raw(venue.move(("SELL", "0.610", "0"))))
    feed.say("close", b'{"why":"disconnected"}')
    await recorder.stop()
    return found


async def test_a_pruned_recording_still_proves_its_books(tmp_path: Path) -> None:
    """Prices and sizes that are not in shortest form, and the segment with the venue's own whole book gone:
    the book's hash matches when it is taken from its record, and so does that of each change after it. With
    the segment there, the record and the book that is known are the same."""
    venue = Book(BIDS, ASKS)
    (body,) = await recording(tmp_path, venue)
    assert body["bids"] == [["0.50", "1200.00"], ["0.4", "7"]]
    whole = Replay(find([tmp_path]))
    whole.play(lambda message: None)
    checks = whole.player.checks()
    assert (checks["polymarket.checkpoint_match"], checks["polymarket.match"]) == (1, 3)
    assert "polymarket.checkpoint_mismatch" not in checks
    first = files.names(tmp_path)[0]
    for path in (files.packed_of, files.index_of, files.head_of):
        path(tmp_path, first).unlink(missing_ok=True)
    left = Replay(find([tmp_path]))
    shown = [
        [f"{level.price} {level.size}" for level in left.book(message.book).bids]
        for message in left
        if message.kind == "delta"
    ]
    assert shown[:2] == [["0.5 1200", "0.4 7"], ["0.5 1200", "0.45 8", "0.4 7"]]
    assert left.player.checks() == {"polymarket.match": 3}
    assert left.player.bad == {}


@pytest.mark.parametrize("harm", [("0.50", "1201"), ("0.51", "1200.00"), None])
def test_a_book_that_is_not_proven_is_no_checkpoint(harm: tuple[str, str] | None) -> None:
    """A whole book with a hash that nothing explains is shown, being the venue's word, but a reader who began
    with it could not tell a loss: no checkpoint until it is proven."""
    venue = Book(BIDS, ASKS)
    shown = started(venue)
    venue.apply(("BUY", "0.30", "4"))
    item = venue.book(first=False)
    if harm is not None:
        bids = [level for level in item["bids"] if level["price"] != "0.50"]
        item["bids"] = [*bids, {"price": harm[0], "size": harm[1]}]
    shown.frame(raw([item]))
    assert shown.state == {YES: "live"}
    assert (shown.normaliser.checkpoint(YES) is None) is (harm is not None)
    if harm is not None:
        shown.frame(raw([venue.book()]))
    found = shown.normaliser.checkpoint(YES)
    assert found is not None
    assert ("0.50", "1200.00") in found["bids"]


def test_every_book_is_a_checkpoint_where_no_hash_proves_any() -> None:
    """With the check off, or one change in sixteen checked, the books stand in each segment all the same; a
    look at the hash changes nothing of what is known."""
    for hash_check in ("off", "sampled"):
        venue = Book(BIDS, ASKS)
        shown = started(venue, hash_check=hash_check)
        shown.frame(raw(venue.move(("BUY", "0.45", "8.0"))))
        before = dict(shown.normaliser.checks)
        found = shown.normaliser.checkpoint(YES)
        assert found is not None, hash_check
        assert ("0.45", "8.0") in found["bids"]
        assert shown.normaliser.checks == before
        restored: Shown = reader()
        assert restored.normaliser.restore(YES, orjson.loads(orjson.dumps(found)), 0)
        assert restored.normaliser.checks["match"] == 1
