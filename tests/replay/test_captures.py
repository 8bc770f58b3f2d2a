"""Real captured frames through the whole of normalizer and store."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from replay.tapes import cli_run, kalshi_capture, kalshi_tape, polymarket_array, polymarket_tape, write
from venues.kal import naive
from wup._core import MirrorBook, market_hash, unmapped_aggregate
from wup.playback import run

Levels = list[tuple[str, str]]


def short(value: Decimal) -> str:
    return format(value.normalize(), "f")


def final(paths: list[str]) -> dict[str, tuple[Levels, Levels]]:
    """Final books by id, as a reader of the messages has them; every digest is verified on the way."""
    mirrors: dict[str, MirrorBook] = {}

    def take(change: Any) -> None:
        if change.kind != "trade":
            mirror = mirrors.setdefault(change.book, MirrorBook())
            assert mirror.apply(change.payload) == "exact"

    player, bad = run(paths, take)
    assert (bad, player.bad) == ([], {})
    books: dict[str, tuple[Levels, Levels]] = {}
    for name, mirror in mirrors.items():
        view = mirror.view()
        assert view.state == "live"
        bids, asks = (
            [(short(level.price), short(level.size)) for level in side] for side in (view.bids, view.asks)
        )
        books[name] = (bids, asks)
    return books


def test_the_kalshi_capture_ends_in_the_books_of_a_naive_reading(captures: Path, tmp_path: Path) -> None:
    """269 production frames, acknowledgements among them: every level of all twelve books is the one that
    adding up the frames by hand gives."""
    tape = write(tmp_path / "kalshi.jsonl", kalshi_tape(captures))
    expected = {
        f"{unmapped_aggregate('kalshi', ticker)}.{market_hash(f'wup1|kalshi|{ticker}')}.yes": book
        for ticker, book in naive([record["frame"] for record in kalshi_capture(captures)]).items()
    }
    books = final([tape])
    assert len(books) == 12
    assert books == expected


def test_the_kalshi_capture_with_one_frame_missing_is_not_live(captures: Path, tmp_path: Path) -> None:
    """Without one delta the sequence shows it: no book of the subscription is live at the end."""
    records = kalshi_tape(captures)
    position = next(
        index for index, record in enumerate(records) if '"type":"orderbook_delta"' in record.get("raw", "")
    )
    del records[position]
    for number, record in enumerate(records[1:], 1):
        record["n"] = number
    player, _ = run([write(tmp_path / "hole.jsonl", records)], lambda change: None)
    states = {player.store.book(name).state for name in player.store.books()}
    assert states == {"down"}
    assert player.bad == {"kalshi.sequence_gap": 1}


def hashes(captures: Path, which: Callable[[int], bool]) -> dict[str, tuple[Levels, Levels]]:
    """Token books of the capture, read by hand: (bids, asks) best first, by market or asset."""
    books: dict[str, tuple[Levels, Levels]] = {}
    seen: set[str] = set()
    for item in json.loads(polymarket_array(captures)):
        first = item["market"] not in seen
        seen.add(item["market"])
        if not which(0 if first else 1):
            continue
        sides = [
            sorted(((Decimal(x["price"]), Decimal(x["size"])) for x in item[side]), reverse=side == "bids")
            for side in ("bids", "asks")
        ]
        bids, asks = ([(short(p), short(s)) for p, s in side] for side in sides)
        books[item["asset_id"]] = (bids, asks)
    return books


@pytest.mark.parametrize(("catalog", "count"), [(True, 5), (False, 10)])
def test_the_polymarket_capture_verifies_all_ten_hashes(
    captures: Path, tmp_path: Path, catalog: bool, count: int
) -> None:
    """With a catalogue the two tokens of a market share one book, five in all; without, each token has its
    own. All ten hashes verify either way, and every level is the captured one."""
    tape = write(tmp_path / "poly.jsonl", polymarket_tape(captures, catalog=catalog))
    books = final([tape])
    assert len(books) == count
    by_hand = hashes(captures, (lambda place: place == 0) if catalog else (lambda place: True))
    assert sorted(books.values()) == sorted(by_hand.values())
    assert cli_run([tape], None)["checks"] == {"polymarket.match": 10}


@pytest.mark.parametrize("level", [0, 3])
def test_a_changed_level_in_the_capture_does_not_verify(captures: Path, tmp_path: Path, level: int) -> None:
    """One size altered by hand: that token's hash no longer matches, the other nine do."""
    records = polymarket_tape(captures, catalog=True)
    items = json.loads(records[-1]["raw"])
    items[0]["bids"][level]["size"] = "1"
    records[-1]["raw"] = json.dumps(items)
    summary = cli_run([write(tmp_path / "forged.jsonl", records)], None)
    assert summary["checks"] == {"polymarket.match": 9, "polymarket.unknown": 1}


def test_the_same_file_twice_gives_identical_bytes(captures: Path, tmp_path: Path) -> None:
    """Replay reads no clock and no order of a set: two runs over both captures are the same bytes."""
    tapes = [
        write(tmp_path / "kalshi.jsonl", kalshi_tape(captures)),
        write(tmp_path / "poly.jsonl", polymarket_tape(captures, catalog=True)),
    ]
    outs = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    summaries = [cli_run(tapes, str(out)) for out in outs]
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert outs[0].stat().st_size > 100_000
    assert summaries[0] == summaries[1]
    assert summaries[0]["books"] == 17
