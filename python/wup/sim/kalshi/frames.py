"""Kalshi's frames as text: key order, decimals and line end as on the wire (venue note, section 3)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wup.sim.fixed import MICRO, fixed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wup.sim.engine import Change, Fill, Market


def dollars(value: int) -> str:
    """A price: four decimals."""
    return fixed(value, 4)


def count(value: int) -> str:
    """A number of contracts: two decimals."""
    return fixed(value, 2)


def rfc3339(at_us: int) -> str:
    """A time with up to six decimals, zeros at the end dropped."""
    seconds, rest = divmod(at_us, MICRO)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:06d}".rstrip("0")
    return stamp + (fraction if fraction != "." else "") + "Z"


def compact(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def subscribed(command: int | None, channel: str, sid: int) -> str:
    """The answer to a first `subscribe` of a channel: no seq."""
    return f'{{"type":"subscribed",{_id(command)}"msg":{{"channel":"{channel}","sid":{sid}}}}}\n'


def ok(command: int | None, sid: int, seq: int | None, tickers: Sequence[str] | None) -> str:
    """The answer to a merge or an update; `tickers` is the full list afterwards, None = left out."""
    numbered = "" if seq is None else f'"seq":{seq},'
    body = "{}" if tickers is None else compact({"market_tickers": list(tickers)})
    return f'{{"type":"ok",{_id(command)}"sid":{sid},{numbered}"msg":{body}}}\n'


def listing(command: int | None, subscriptions: Iterable[tuple[str, int]]) -> str:
    """The answer to `list_subscriptions`."""
    body = compact([{"channel": channel, "sid": sid} for channel, sid in subscriptions])
    return f'{{"type":"ok",{_id(command)}"msg":{body}}}\n'


def unsubscribed(command: int | None, sid: int, seq: int | None) -> str:
    """Sent once per sid."""
    numbered = "" if seq is None else f',"seq":{seq}'
    return f'{{"type":"unsubscribed",{_id(command)}"sid":{sid}{numbered}}}\n'


ERRORS = {
    1: "Unable to process message",
    2: "Params required",
    3: "Channels required",
    4: "Subscription IDs required",
    5: "Unknown command",
    7: "Unknown subscription ID",
    8: "Unknown channel name",
    9: "Authentication required",
    10: "Channel error",
    11: "Invalid parameter",
    12: "Exactly one subscription ID is required",
    13: "Unsupported action",
    14: "Market ticker required",
    15: "Action required",
    18: "Command timeout",
    25: "Subscription buffer overflow",
    26: "Subscription market limit exceeded",
    27: "Too many requests",
}


def error(command: int | None, code: int, sid: int | None = None, seq: int | None = None) -> str:
    """An error; with `sid` and `seq` when it concerns a sequenced subscription."""
    scope = "" if sid is None else f'"sid":{sid},' + ("" if seq is None else f'"seq":{seq},')
    return f'{{"type":"error",{_id(command)}{scope}"msg":{{"code":{code},"msg":"{ERRORS[code]}"}}}}\n'


def snapshot(
    market: Market, sid: int, seq: int, *, yes_price: bool, command: int | None = None, empty: bool = False
) -> str:
    """The whole book; a side without orders is absent."""
    parts = [f'"market_ticker":"{market.listing.market_id}","market_id":"{market.listing.uuid}"']
    yes = [] if empty else market.book.bids.ascending()
    # Ascending by NO price is descending by YES price.
    no = [] if empty else market.book.asks.ascending()[::-1]
    if yes:
        parts.append(f'"yes_dollars_fp":[{_levels(yes)}]')
    if no:
        shown = no if yes_price else [(MICRO - price, size) for price, size in no]
        parts.append(f'"no_dollars_fp":[{_levels(shown)}]')
    return (
        f'{{"type":"orderbook_snapshot",{_id(command)}"sid":{sid},"seq":{seq},"msg":{{{",".join(parts)}}}}}\n'
    )


def delta(market: Market, change: Change, at_us: int, sid: int, seq: int, *, yes_price: bool) -> str:
    """A signed change of one level."""
    if change.side == "bid":
        side, price = "yes", change.price
    else:
        side, price = "no", change.price if yes_price else MICRO - change.price
    return (
        f'{{"type":"orderbook_delta","sid":{sid},"seq":{seq},"msg":{{"market_ticker":"{market.listing.market_id}",'
        f'"market_id":"{market.listing.uuid}","price_dollars":"{dollars(price)}",'
        f'"delta_fp":"{count(change.new - change.old)}","side":"{side}","ts":"{rfc3339(at_us)}",'
        f'"ts_ms":{at_us // 1000}}}}}\n'
    )


def trade(market: Market, fill: Fill, at_us: int, sid: int, seq: int) -> str:
    """One fill; `taker_book_side` bid = the taker bought YES."""
    side, book_side = ("yes", "bid") if fill.taker == "buy" else ("no", "ask")
    return (
        f'{{"type":"trade","sid":{sid},"seq":{seq},"msg":{{"trade_id":"{fill.trade_id}",'
        f'"market_ticker":"{market.listing.market_id}","yes_price_dollars":"{dollars(fill.price)}",'
        f'"no_price_dollars":"{dollars(MICRO - fill.price)}","count_fp":"{count(fill.size)}",'
        f'"taker_side":"{side}",'
        f'"taker_outcome_side":"{side}","taker_book_side":"{book_side}","is_block_trade":false,'
        f'"ts":{at_us // MICRO},"ts_ms":{at_us // 1000}}}}}\n'
    )


def top(market: Market) -> dict[str, str]:
    """Best prices and sizes; a missing ask is 1.0000 with size 0, a missing bid 0.0000."""
    bid, ask = market.book.best_bid(), market.book.best_ask()
    return {
        "yes_bid_dollars": dollars(bid or 0),
        "yes_ask_dollars": dollars(MICRO if ask is None else ask),
        "yes_bid_size_fp": count(market.book.bids.levels.get(bid, 0) if bid is not None else 0),
        "yes_ask_size_fp": count(market.book.asks.levels.get(ask, 0) if ask is not None else 0),
    }


def ticker(market: Market, at_us: int, sid: int, last_size: int) -> str:
    """Best prices, volume and open interest: no seq."""
    best = top(market)
    return (
        f'{{"type":"ticker","sid":{sid},"msg":{{"market_id":"{market.listing.uuid}",'
        f'"market_ticker":"{market.listing.market_id}","price_dollars":"{dollars(market.last_trade)}",'
        f'"yes_bid_dollars":"{best["yes_bid_dollars"]}","yes_ask_dollars":"{best["yes_ask_dollars"]}",'
        f'"volume_fp":"{count(market.volume)}","open_interest_fp":"{count(_cents(market.open_interest))}",'
        f'"dollar_volume":{market.traded_usd},"dollar_open_interest":{market.open_interest // MICRO // 2},'
        f'"yes_bid_size_fp":"{best["yes_bid_size_fp"]}","yes_ask_size_fp":"{best["yes_ask_size_fp"]}",'
        f'"last_trade_size_fp":"{count(last_size)}","ts":{at_us // MICRO},"ts_ms":{at_us // 1000},'
        f'"time":"{rfc3339(at_us)}"}}}}\n'
    )


def lifecycle(market: Market, event_type: str, at_us: int, sid: int, seq: int) -> str:
    """A step of the market's life."""
    body: dict[str, object] = {"market_ticker": market.listing.market_id}
    if event_type in ("activated", "deactivated"):
        body["is_deactivated"] = event_type == "deactivated"
    elif event_type == "created":
        listing = market.listing
        body["exchange_index"] = 0
        body["open_ts"] = at_us // MICRO
        body["price_level_structure"] = "linear_cent"
        body["price_ranges"] = price_ranges(market)
        body["additional_metadata"] = {
            "name": listing.label,
            "title": listing.question,
            "yes_sub_title": listing.label,
            "no_sub_title": listing.label,
            "rules_primary": listing.primary,
            "rules_secondary": "",
            "can_close_early": True,
            "event_ticker": listing.event,
        }
    elif event_type == "determined":
        body["result"] = market.result
        body["settlement_value"] = "1.0000" if market.result == "yes" else "0.0000"
        body["determination_ts"] = at_us // MICRO
    elif event_type == "settled":
        body["settled_ts"] = at_us // MICRO
    body["event_type"] = event_type
    return f'{{"type":"market_lifecycle_v2","sid":{sid},"seq":{seq},"msg":{compact(body)}}}\n'


def price_ranges(market: Market) -> list[dict[str, str]]:
    """The grid as the catalogue shows it."""
    return [
        {"start": dollars(start), "end": dollars(end), "step": dollars(step)}
        for start, end, step in market.grid
    ]


def _cents(value: int) -> int:
    return value - value % 10_000


def _levels(levels: Iterable[tuple[int, int]]) -> str:
    return ",".join(f'["{dollars(price)}","{count(size)}"]' for price, size in levels)


def _id(command: int | None) -> str:
    return "" if command is None else f'"id":{command},'
