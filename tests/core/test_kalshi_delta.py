"""The native reading of Kalshi's hot frame says what the adapter says, or leaves the frame to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from wup._core import format_micro, kalshi_delta, parse_micro
from wup.model import Increment
from wup.venues.kalshi.adapter import KalshiAdapter

if TYPE_CHECKING:
    from pathlib import Path

BODY: dict[str, Any] = {
    "market_ticker": "KXBTC-26SEP2516-B74250",
    "market_id": "ef0ce114",
    "price_dollars": "0.9600",
    "delta_fp": "-2.00",
    "side": "no",
    "ts": "2026-09-25T19:13:44.342537Z",
    "ts_ms": 1790363624342,
}


def frame(**changes: Any) -> dict[str, Any]:
    """The documented frame with other values in its body; None takes a field out."""
    body = {key: value for key, value in (BODY | changes).items() if value is not None}
    return {"type": "orderbook_delta", "sid": 1, "seq": 41076, "msg": body}


def raw(message: dict[str, Any]) -> bytes:
    """As it comes from the socket."""
    return json.dumps(message, separators=(",", ":")).encode()


def by_adapter(message: dict[str, Any], use_yes_price: bool) -> tuple[object, ...]:
    """The same from the adapter, numbers in shortest form."""
    (event,) = KalshiAdapter(use_yes_price).events(message)
    assert isinstance(event, Increment)
    delta = format_micro(parse_micro(event.delta))
    return (message["sid"], message["seq"], event.asset_id, event.side, event.price, delta, event.venue_us)


@pytest.mark.parametrize("use_yes_price", [False, True])
@pytest.mark.parametrize("side", ["yes", "no"])
def test_documented_frame(side: str, use_yes_price: bool) -> None:
    """Both sides in both price modes are read as the adapter reads them."""
    message = frame(side=side)
    assert kalshi_delta(raw(message), use_yes_price) == by_adapter(message, use_yes_price)


@pytest.mark.parametrize(
    "changes",
    [
        {"side": "maybe"},
        {"price_dollars": "1.2"},
        {"price_dollars": None, "price": 96},
        {"delta_fp": None, "delta": -2},
        {"delta_fp": -2},
        {"market_ticker": ""},
        {"ts_ms": None},
    ],
)
def test_unusual_forms_are_left_to_the_adapter(changes: dict[str, Any]) -> None:
    """Older, odd or bad forms give nothing."""
    assert kalshi_delta(raw(frame(**changes))) is None


@pytest.mark.parametrize("other", [b"", b"{", b"[]", b'{"type":"ok","sid":1,"seq":2}', b"\xff"])
def test_other_frames(other: bytes) -> None:
    """Every other frame gives nothing, and no error."""
    assert kalshi_delta(other) is None


def test_real_frames(captures: Path) -> None:
    """Every captured delta is read natively, exactly as by the adapter; no other frame is."""
    deltas = 0
    for line in (captures / "kalshi" / "ws_orderbook_stream.compact.jsonl").read_text().splitlines():
        if not line.strip():
            continue
        message = json.loads(line)["frame"]
        found = kalshi_delta(raw(message))
        if message["type"] == "orderbook_delta":
            deltas += 1
            assert found == by_adapter(message, False)
        else:
            assert found is None
    assert deltas == 245
