"""Records of any shape: whatever stands in a field, a replay reads the rest of the file."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from venues.kal import A
from wup import logs
from wup.playback import run

T = 1_795_353_600_000_000
BOOK = "fed-2026-12.9b1c22d0a47e55f1.yes"
WRONG: tuple[Any, ...] = (2**63, 2**63 - 1, -1, True, None, 1.5, "x", "9" * 30, [], {})
SNAPSHOT = {
    "market_ticker": A,
    "yes_dollars_fp": [["0.4000", "10.00"]],
    "no_dollars_fp": [["0.5000", "10.00"]],
}
DELTA = {
    "market_ticker": A,
    "price_dollars": "0.4000",
    "delta_fp": "1.00",
    "side": "yes",
    "ts": "2026-11-22T00:00:00Z",
    "ts_ms": T // 1000,
}
TRADE = {
    "trade_id": "t",
    "market_ticker": A,
    "yes_price_dollars": "0.3",
    "count_fp": "10.00",
    "taker_book_side": "ask",
    "ts_ms": T // 1000,
}
WHOLE = {
    "event_type": "book",
    "market": "0x1",
    "asset_id": "77",
    "timestamp": str(T // 1000),
    "hash": "aa",
    "bids": [{"price": "0.4", "size": "10"}],
    "asks": [{"price": "0.6", "size": "10"}],
    "tick_size": "0.01",
    "last_trade_price": "0.5",
}
CHANGE = {"asset_id": "77", "price": "0.4", "size": "5", "side": "BUY", "hash": "bb", "best_bid": "0.4"}
RECORDS: list[dict[str, Any]] = [
    {"kind": "start", "rx_us": T, "epoch": T // 1000, "version": "x"},
    {"kind": "catalog", "rx_us": T, "platform": "kalshi", "market_id": A, "assets": [A], "tick": "0.01"},
    {
        "kind": "mapping",
        "rx_us": T,
        "version": 1,
        "table": [["kalshi", A, BOOK, False]],
        "books": [[BOOK, "t", "l", None]],
        "suspended": [["kalshi", "B", "halted"]],
        "epoch": T // 1000,
    },
    {"kind": "open", "rx_us": T, "platform": "kalshi", "conn": "c1", "use_yes_price": True},
    {"kind": "sent", "rx_us": T, "platform": "kalshi", "conn": "c1", "raw": {"cmd": "subscribe"}},
    {
        "rx_us": T + 1,
        "platform": "kalshi",
        "conn": "c1",
        "n": 1,
        "raw": {"type": "orderbook_snapshot", "sid": 1, "seq": 1, "msg": SNAPSHOT},
    },
    {
        "rx_us": T + 2,
        "platform": "kalshi",
        "conn": "c1",
        "n": 2,
        "raw": {"type": "orderbook_delta", "sid": 1, "seq": 2, "msg": DELTA},
    },
    {
        "rx_us": T + 3,
        "platform": "kalshi",
        "conn": "c1",
        "n": 3,
        "raw": {"type": "trade", "sid": 2, "seq": 1, "msg": TRADE},
    },
    {"kind": "open", "rx_us": T + 4, "platform": "polymarket", "conn": "p1"},
    {"kind": "open", "rx_us": T + 4, "platform": "kalshi", "conn": "c2"},
    {"kind": "open", "rx_us": T + 4, "platform": "polymarket", "conn": "p2"},
    {"rx_us": T + 4, "platform": "polymarket", "conn": "p1", "n": 1, "raw": [WHOLE]},
    {
        "rx_us": T + 5,
        "platform": "polymarket",
        "conn": "p1",
        "n": 2,
        "raw": {
            "event_type": "price_change",
            "market": "0x1",
            "timestamp": str(T // 1000 + 1),
            "price_changes": [CHANGE],
        },
    },
    {
        "kind": "verdict",
        "rx_us": T + 9,
        "platform": "kalshi",
        "conn": "c1",
        "asset": A,
        "state": "down",
        "why": "venue_silent",
    },
    {"kind": "close", "rx_us": T + 10, "platform": "kalshi", "conn": "c1", "why": "disconnected"},
]


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field and item, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*before, key)
        yield from places(inner, (*before, key))


def line(record: dict[str, Any]) -> bytes:
    raw = record.get("raw")
    # Not orjson: it refuses the numbers that this is about.
    text = {} if raw is None or isinstance(raw, str) else {"raw": json.dumps(raw)}
    return json.dumps({**record, **text}).encode() + b"\n"


@pytest.mark.parametrize("place", range(len(RECORDS)), ids=lambda n: f"{n}-{RECORDS[n].get('kind', 'frame')}")
def test_no_value_ends_a_replay(tmp_path: Path, place: int) -> None:
    """Any field of any record with a value of another type or size: the replay goes to its end, and the
    record after it is played."""
    logs.configure("error")
    tape = tmp_path / "tape"
    last = {"kind": "catalog", "rx_us": T + 11, "platform": "polymarket", "market_id": "0x2", "assets": ["5"]}
    for path in places(RECORDS[place]):
        for wrong in WRONG:
            records = copy.deepcopy([*RECORDS, last])
            holder: Any = records[place]
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = wrong
            tape.write_bytes(b"".join(map(line, records)))
            player, bad = run([str(tape)], lambda change: None)
            assert player.records + len(bad) == len(records), (path, wrong)
