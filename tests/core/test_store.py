"""The store as Python code uses it; the rules themselves are tested in Rust and by the stateful test."""

from __future__ import annotations

import json

import pytest

from core.naive import normalised
from wup._core import (
    BookStore,
    CoreError,
    MappingError,
    MirrorBook,
    ParseError,
    UnknownAsset,
    UnknownBook,
    mirror_message,
)

BOOK = "fed-2026-12.9b1c22d0a47e55f1.yes"
KALSHI, POLYMARKET = ("kalshi", "KXFED-26DEC-C25"), ("polymarket", "6519...")
NOW = 1_795_353_605_001_000


@pytest.fixture
def store() -> BookStore:
    """The example book of the contract, from its two legs."""
    store = BookStore(0)
    store.describe(BOOK, "Fed decision in December", "25 bps cut")
    store.set_mapping(412, [(*KALSHI, BOOK, False), (*POLYMARKET, BOOK, False)], 1_795_353_600_123_000)
    store.apply(normalised("snapshot", KALSHI, (1, 1), bids=[["0.52", "500"]], asks=[["0.54", "250"]]), NOW)
    bids = [["0.52", "700"], ["0.51", "300.5"]]
    store.apply(normalised("snapshot", POLYMARKET, (1, 1), bids=bids, asks=[]), NOW)
    return store


def test_example_digest(store: BookStore) -> None:
    """The example book has the digest printed in the contract."""
    message = json.loads(store.snapshot(BOOK, now_us=NOW))
    assert message["digest"] == 2395318003
    assert message["bids"][0] == ["0.52", "1200", {"kalshi": "500", "polymarket": "700"}]
    assert (message["title"], message["label"], message["mapping"]) == (
        "Fed decision in December",
        "25 bps cut",
        412,
    )


def test_change_says_what_it_is(store: BookStore) -> None:
    """A change carries its subject and its place in the sequence beside the bytes."""
    changes = store.apply(normalised("update", KALSHI, (1, 2), bids=[["0.5", "1"]], asks=[]), NOW)
    (change,) = changes
    assert (change.kind, change.book, change.subject) == ("delta", BOOK, f"orderbook.changes.{BOOK}")
    assert change.seq == change.prev + 1
    message = json.loads(change.payload)
    assert (message["epoch"], message["seq"], message["digest"]) == (change.epoch, change.seq, change.digest)
    assert "delta" in repr(change)


def test_no_snapshot_is_the_mirrored_one(store: BookStore) -> None:
    """The NO snapshot by id is byte for byte the mirrored YES snapshot, at every depth."""
    no = BOOK.replace(".yes", ".no")
    for depth in (None, 1, 50):
        yes = store.snapshot(BOOK, depth=depth, now_us=NOW)
        assert store.snapshot(no, depth=depth, now_us=NOW) == mirror_message(yes)
        assert MirrorBook().apply(yes) == "exact"


def test_errors_are_typed(store: BookStore) -> None:
    """Only input whose leg cannot be told raises, each kind with its own class under CoreError."""
    for bad in (b"", b"{", b"[1]", b'{"type":"update"}'):
        with pytest.raises(ParseError):
            store.apply(bad, NOW)
    with pytest.raises(UnknownAsset, match="kalshi:NEVER"):
        store.apply(normalised("update", ("kalshi", "NEVER"), (1, 1), bids=[], asks=[]), NOW)
    for book in ("a.b.yes", "nonsense", ""):
        with pytest.raises(UnknownBook):
            store.snapshot(book)
    with pytest.raises(MappingError):
        store.set_mapping(1, [("kalshi", "K", "not a book", False)], NOW)
    for error in (ParseError, UnknownAsset, UnknownBook, MappingError):
        assert issubclass(error, CoreError)
    with pytest.raises(ParseError):
        store.books("not a pattern")
    with pytest.raises(ParseError):
        store.set_leg_state(*KALSHI, "odd", "gap", NOW)  # type: ignore[arg-type]


def test_bad_message_of_a_known_leg_is_doubt(store: BookStore) -> None:
    """A level that does not fit takes the leg's sizes out and asks for a snapshot."""
    store.take_resyncs()
    changes = store.apply(normalised("update", KALSHI, (1, 2), bids=[["0.1234567", "1"]], asks=[]), NOW)
    assert [change.kind for change in changes] == ["delta", "status"]
    assert store.take_resyncs() == [(*KALSHI, "gap")]
    assert store.book(BOOK).state == "degraded"
    assert store.stats()["bad"] == 1


def test_mapping_wishes_and_marks(store: BookStore) -> None:
    """New legs are queued for a snapshot; marks find what was lost; marks of the store name its books."""
    assert store.take_resyncs() == [(*KALSHI, "mapping"), (*POLYMARKET, "mapping")]
    marks = json.dumps({"type": "marks", "epoch": 1, "assets": {KALSHI[1]: 2}}).encode()
    changes = store.check_marks("kalshi", marks, NOW)
    assert [change.kind for change in changes] == ["delta", "status"]
    assert store.take_resyncs() == [(*KALSHI, "gap")]
    (message,) = store.marks("0", NOW)
    book = store.book(BOOK)
    assert json.loads(message)["books"] == {BOOK: [book.epoch, book.seq, book.digest, "degraded"]}


def test_books_by_pattern(store: BookStore) -> None:
    """Ids come out in the form that the pattern asks for."""
    assert store.books() == store.books("fed-2026-12.>") == [BOOK]
    assert store.books("*.*.no") == [BOOK.replace(".yes", ".no")]
    assert store.books("other.>") == []
    assert len(store) == 1


def test_resolved_book(store: BookStore) -> None:
    """A resolved book ends closed with its result and leaves after 60 s."""
    status = json.loads(store.resolve(BOOK, "yes", NOW)[-1].payload)
    assert (status["state"], status["why"], status["result"]) == ("closed", "resolved", "yes")
    store.tick(NOW + 60_000_000)
    assert store.books() == []


def test_epochs_survive_a_restart(store: BookStore) -> None:
    """A store that is given the last epoch opens larger ones, whatever the clock says."""
    after = BookStore(store.last_epoch())
    (opening,) = after.set_mapping(1, [(*KALSHI, BOOK, False)], 0)
    assert opening.epoch == store.last_epoch() + 1
    assert (opening.seq, opening.prev, json.loads(opening.payload)["why"]) == (1, 0, "epoch")


def test_mirror_before_its_first_snapshot() -> None:
    """A mirror that has seen nothing can show nothing, and says so."""
    mirror = MirrorBook()
    assert (mirror.book, mirror.exact, mirror.state) == ("", False, "down")
    with pytest.raises(UnknownBook):
        mirror.snapshot()
    with pytest.raises(ParseError):
        mirror.apply(b"{")


def test_mirror_in_doubt(store: BookStore) -> None:
    """A mirror told to doubt is not exact, ignores deltas, and heals with the next snapshot."""
    mirror = MirrorBook()
    mirror.apply(store.snapshot(BOOK))
    mirror.doubt()
    (change,) = store.apply(normalised("update", KALSHI, (1, 2), bids=[["0.5", "1"]], asks=[]), NOW)
    assert mirror.apply(change.payload) == "ignored"
    assert mirror.apply(store.snapshot(BOOK, why="resync")) == "exact"
    assert "exact" in repr(mirror)
