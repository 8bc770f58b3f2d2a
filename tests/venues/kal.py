"""Kalshi frames written from the venue notes alone, and a naive reader of them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

A, B = "KXFED-26DEC-C25", "KXBTCD-26SEP2516-T83399.99"
FRAME_MS = 1_790_363_624_342


def raw(frame: dict[str, Any]) -> bytes:
    """As it comes from the socket: compact, with the final newline."""
    return json.dumps(frame, separators=(",", ":")).encode() + b"\n"


def snapshot(
    ticker: str,
    seq: int,
    yes: list[list[str]] | None = None,
    no: list[list[str]] | None = None,
    sid: int = 1,
) -> bytes:
    """A side without orders is absent."""
    message: dict[str, Any] = {"market_ticker": ticker, "market_id": "943fcfe7-68a7-48aa-84b0-9b5ed2d5b922"}
    if yes is not None:
        message["yes_dollars_fp"] = yes
    if no is not None:
        message["no_dollars_fp"] = no
    return raw({"type": "orderbook_snapshot", "sid": sid, "seq": seq, "msg": message})


def delta(
    ticker: str, seq: int, side: str, price: str, change: str, sid: int = 1, ts_ms: int = FRAME_MS
) -> bytes:
    """A signed change of one level."""
    return raw(
        {
            "type": "orderbook_delta",
            "sid": sid,
            "seq": seq,
            "msg": {
                "market_ticker": ticker,
                "market_id": "943fcfe7-68a7-48aa-84b0-9b5ed2d5b922",
                "price_dollars": price,
                "delta_fp": change,
                "side": side,
                "ts": "2026-09-25T19:13:44.342537Z",
                "ts_ms": ts_ms,
            },
        }
    )


def subscribed(sid: int, channel: str, number: int = 1) -> bytes:
    """The answer to the first subscribe of a channel; it has no seq."""
    return raw({"type": "subscribed", "id": number, "msg": {"channel": channel, "sid": sid}})


def ok(seq: int, number: int = 2, sid: int = 1) -> bytes:
    """The answer to later subscribes; it has a seq."""
    return raw({"type": "ok", "id": number, "sid": sid, "seq": seq, "msg": {"market_tickers": [A, B]}})


def error(code: int, *, number: int | None = None, sid: int | None = None, seq: int | None = None) -> bytes:
    """An error frame, scoped or not."""
    frame: dict[str, Any] = {"type": "error", "msg": {"code": code, "msg": "text"}}
    frame |= {
        name: value for name, value in (("id", number), ("sid", sid), ("seq", seq)) if value is not None
    }
    return raw(frame)


def naive(frames: list[dict[str, Any]]) -> dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]]:
    """Books of a tape in the mode without `use_yes_price`, read frame by frame with Decimal and dicts:
    (bids, asks) per ticker, best first, shortest text."""
    ladders: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
    for frame in frames:
        message = frame.get("msg", {})
        if frame["type"] == "orderbook_snapshot":
            ladders[message["market_ticker"]] = {
                side: {Decimal(p): Decimal(q) for p, q in message.get(f"{side}_dollars_fp", [])}
                for side in ("yes", "no")
            }
        elif frame["type"] == "orderbook_delta":
            ladder = ladders[message["market_ticker"]][message["side"]]
            price = Decimal(message["price_dollars"])
            size = ladder.get(price, Decimal(0)) + Decimal(message["delta_fp"])
            assert size >= 0
            ladder[price] = size
            if size == 0:
                del ladder[price]

    def text(value: Decimal) -> str:
        return format(value.normalize(), "f")

    return {
        ticker: (
            [(text(p), text(q)) for p, q in sorted(sides["yes"].items(), reverse=True)],
            [(text(1 - p), text(q)) for p, q in sorted(sides["no"].items(), reverse=True)],
        )
        for ticker, sides in ladders.items()
    }
