"""The fault menu: what can go wrong, switched at run time.

A fault is one wish: what, at which venue, about which asset, how many times or for how long. Frame faults
wait in the menu until a frame matches; faults of connections, handshakes and the engine are carried out by
the exchange when they are added. Everything that was done is in `FaultMenu.done`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

FrameFault = Literal[
    "drop",  # a frame never arrives
    "duplicate",  # a frame arrives twice
    "reorder",  # a frame arrives after the next one
    "malformed",  # a frame with a broken middle
    "truncate",  # the first half of a frame
    "unknown_type",  # a frame of a type that nobody knows, beside a good one
    "unknown_field",  # a good frame with fields that nobody knows
    "huge",  # a large frame of an unknown type (`value` bytes, default 2 MB)
    "silence",  # no data frames at all; heartbeats go on
    "mute",  # no data frames of one asset
    "missing_books",  # no first books when more than `value` assets are subscribed
    "skip_book",  # no first book of one asset
]
KalshiFault = Literal[
    "skip_seq",  # a hole in a sid's numbers
    "repeat_seq",  # two frames with one number
    "reset_seq",  # numbers begin at 1 again
    "drift_seq",  # a number as text
    "early_delta",  # deltas of a market before its snapshot
    "negative",  # a delta that takes a level below zero
    "channel_error",  # error 10, then nothing more on that sid
    "overflow",  # error 25, then nothing more on that sid
    "market_limit",  # error 26 above `value` tickers
    "command_limit",  # error 27 for commands
    "ignore_yes_price",  # `use_yes_price` is not honoured
    "default_yes_price",  # the announced new default
    "cached_rest",  # REST books up to 15 s old, as unsigned calls get them
]
PolymarketFault = Literal[
    "no_pong",  # PING is not answered
    "no_event_type",  # book objects without event_type
    "strings_for_arrays",  # list-valued fields as strings holding JSON
    "empty_optional",  # "" for optional decimals
    "mixed_array",  # several events in one array frame
    "late_trade",  # last_trade_price `seconds` late
    "trade_on_no",  # the last trade was one of the NO token
    "close_on_large",  # close on a frame of more than `value` ids
    "ghost_book",  # REST shows 0.01 / 0.99
]
ConnectionFault = Literal[
    "half_open",  # the socket stays, nothing is read or sent any more
    "slice",  # bytes leave one by one for `seconds`
    "reset",  # TCP reset
    "close",  # WebSocket close with code `value`
    "unauthorized",  # 401 for new connections
    "rate_limited",  # 429 for new connections and REST
    "maintenance",  # all connections closed, new ones refused for `seconds`
    "no_ping",  # no protocol pings for `seconds`
]
EngineFault = Literal[
    "burst",  # `value` crossing sweeps in one market
    "tick_change",  # the market's tick becomes 0.001
    "halt",  # trading paused for `seconds`
    "close_market",  # close, determine as `result`, settle
    "new_market",  # announce a market
    "restart",  # the engine stands still for `seconds`
    "pause",  # maintenance of the engine for `seconds`: orders can be cancelled, not placed
]
FaultKind = FrameFault | KalshiFault | PolymarketFault | ConnectionFault | EngineFault

CONNECTION_FAULTS = frozenset(get_args(ConnectionFault))
ENGINE_FAULTS = frozenset(get_args(EngineFault))
ONLY_KALSHI = frozenset(get_args(KalshiFault))
ONLY_POLYMARKET = frozenset(get_args(PolymarketFault))
_TIMED = frozenset(
    {
        "silence",
        "mute",
        "missing_books",
        "early_delta",
        "market_limit",
        "command_limit",
        "ignore_yes_price",
        "default_yes_price",
        "cached_rest",
        "no_pong",
        "no_event_type",
        "strings_for_arrays",
        "empty_optional",
        "mixed_array",
        "late_trade",
        "trade_on_no",
        "close_on_large",
        "ghost_book",
        "unauthorized",
        "rate_limited",
        "no_ping",
    }
)
DEFAULT_SECONDS = 10.0


class Fault(BaseModel):
    """One wish, as `POST /_sim/faults` takes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    venue: Literal["kalshi", "polymarket"] | None = None
    """None: both (where the kind exists)."""
    asset: str | None = None
    """An asset or market id; None: any."""
    count: int | None = Field(default=None, ge=1, le=1_000_000)
    """How many times; default 1, or without bound for kinds that last."""
    every: int = Field(default=1, ge=1)
    """Each n-th frame that matches."""
    seconds: float | None = Field(default=None, gt=0, le=86_400)
    """How long; default 10 s for kinds that last."""
    value: int | None = Field(default=None, ge=0, le=64_000_000)
    result: Literal["yes", "no"] = "yes"
    frames: tuple[str, ...] = ()
    """Kinds of frames to hit (`snapshot`, `delta`, `book`, `price_change`, `trade`, ...); empty: any data."""


@dataclass(frozen=True, slots=True)
class Done:
    """One fault that was carried out."""

    at_us: int
    kind: str
    venue: str
    connection: str
    frame: str
    assets: tuple[str, ...]


class _Active:
    __slots__ = ("fault", "left", "number", "seen", "until_us")

    def __init__(self, number: int, fault: Fault, now_us: int) -> None:
        self.number = number
        self.fault = fault
        self.seen = 0
        lasting = fault.kind in _TIMED
        self.left: int | None = fault.count if fault.count is not None else (None if lasting else 1)
        seconds = fault.seconds if fault.seconds is not None else (DEFAULT_SECONDS if lasting else None)
        # Without a duration a fault waits until it was used up.
        self.until_us: int | None = None if seconds is None else now_us + round(seconds * 1_000_000)


class FaultMenu:
    """Faults waiting at one venue, and those carried out."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self.done: list[Done] = []
        self._active: list[_Active] = []
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._active)

    def add(self, fault: Fault, now_us: int) -> int:
        """Put a fault on the menu; its number is returned."""
        self._number += 1
        self._active.append(_Active(self._number, fault, now_us))
        return self._number

    def clear(self) -> None:
        """Take everything off the menu."""
        self._active.clear()

    def active(self, now_us: int) -> list[dict[str, object]]:
        """What is on the menu now."""
        self._expire(now_us)
        return [
            {"id": item.number, "left": item.left, **item.fault.model_dump(exclude_defaults=True)}
            for item in self._active
        ]

    def hit(
        self, kind: str, now_us: int, assets: tuple[str, ...] = (), *, frame: str = "", connection: str = ""
    ) -> Fault | None:
        """Does a fault of this kind strike now? If so it is counted down and noted."""
        for item in self._active:
            fault = item.fault
            if fault.kind != kind or (item.until_us is not None and now_us >= item.until_us):
                continue
            if fault.asset is not None and fault.asset not in assets:
                continue
            if fault.frames and frame and frame not in fault.frames:
                continue
            item.seen += 1
            if item.seen % fault.every:
                continue
            if item.left is not None:
                item.left -= 1
            self.note(fault.kind, now_us, frame=frame, connection=connection, assets=assets)
            self._expire(now_us)
            return fault
        return None

    def note(
        self, kind: str, now_us: int, *, frame: str = "", connection: str = "", assets: tuple[str, ...] = ()
    ) -> None:
        """Write down that a fault was carried out."""
        self.done.append(Done(now_us, kind, self.venue, connection, frame, assets))
        if len(self.done) > 100_000:
            del self.done[:50_000]

    def _expire(self, now_us: int) -> None:
        self._active = [
            item
            for item in self._active
            if item.left != 0 and (item.until_us is None or now_us < item.until_us)
        ]
