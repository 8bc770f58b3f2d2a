"""What a venue's folder provides; everything here is free of I/O.

One folder per venue, the same file names in each: `settings`, `auth` (where needed), `session` (frames to
send, control frames read), `normalise` (frames to normalised messages), `catalog` (REST discovery). The
registry in `wup.venues` is the only other place that knows a venue's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wup._core import VenueBook
    from wup.mapping.catalogue import Catalogue
    from wup.model import Instrument, LegState, VenueEvent


class ExchangeAdapter(Protocol):
    """Bytes of one frame to what it says: pure."""

    exchange_name: str

    def parse_message(self, raw: bytes) -> list[VenueEvent]:
        """Read one frame.

        Raises:
            VenueMessageError: the frame, or all that is useful in it, cannot be read.
        """
        ...


# --- what a normaliser puts out -------------------------------------------------------------------
# Not frozen: one is made for every frame, and a frozen one takes three times as long to make.


@dataclass(slots=True)
class BookReplaced:
    """The asset's whole book is now `Normaliser.book(asset_id)`: publish a snapshot."""

    asset_id: str
    venue_us: int | None


@dataclass(slots=True)
class BookChanged:
    """New absolute sizes, one venue transaction."""

    asset_id: str
    bids: Sequence[tuple[str, str]]
    asks: Sequence[tuple[str, str]]
    venue_us: int | None


@dataclass(slots=True)
class TradeSeen:
    """A trade in the asset's own coordinates."""

    asset_id: str
    price: str
    size: str
    side: str
    trade_id: str
    venue_us: int | None
    block: bool = False


@dataclass(slots=True)
class LegChanged:
    """The leg leaves or changes state (it becomes live by `BookReplaced` only)."""

    asset_id: str
    state: LegState
    why: str
    result: str | None = None


@dataclass(slots=True)
class RepairWanted:
    """The venue must be asked for fresh books of these assets."""

    assets: tuple[str, ...]
    why: str


@dataclass(slots=True)
class BadInput:
    """Something in the frame could not be used; `kind` is the counter's label."""

    kind: str
    detail: str
    asset_id: str | None = None


Output = BookReplaced | BookChanged | TradeSeen | LegChanged | RepairWanted | BadInput


class Normaliser(Protocol):
    """One connection's state: sequence trackers, transactions, and the book of each of its assets."""

    checks: Mapping[str, int]
    """Verifications against what the venue offers (hash, top of book) so far, by verdict."""

    def sent(self, raw: bytes, now_us: int) -> list[Output]:
        """A frame that the client sent: it may carry the subscription mode, or make legs leave."""
        ...

    def frame(self, raw: bytes, now_us: int) -> list[Output]:
        """A received frame. Never raises: what cannot be used comes out as `BadInput`."""
        ...

    def timer(self, now_us: int) -> list[Output]:
        """Deadlines that passed by `now_us`: open transactions, missing first books."""
        ...

    def closed(self, why: str) -> list[Output]:
        """The connection is gone: every asset that was shown leaves (`LegChanged` to `down`)."""
        ...

    def book(self, asset_id: str) -> VenueBook | None:
        """The book of an asset if it is live here and whole; None also within a transaction."""
        ...

    def assets(self) -> Iterable[str]:
        """Assets that this connection has books for."""
        ...


class Session(Protocol):
    """One connection's conversation: which frames to send, and when."""

    platform: str
    heartbeat_s: float | None
    """Seconds between application heartbeats; None when the venue has none."""

    async def handshake(self) -> tuple[str, dict[str, str]]:
        """URL and headers for a new connection (signed anew each time).

        Raises:
            VenueUnavailable: this venue cannot be connected to (say, no credentials).
        """
        ...

    def open_info(self) -> dict[str, Any]:
        """Fields for the recording's `open` record (wire.md section 6)."""
        ...

    def opened(self, assets: Sequence[str]) -> list[str]:
        """Text frames that subscribe a fresh connection to `assets`."""
        ...

    def want(self, assets: Sequence[str]) -> list[str]:
        """Text frames that lead from the present subscription to `assets`."""
        ...

    def repair(self, assets: Sequence[str]) -> list[str]:
        """Text frames that make the venue send fresh books of `assets`."""
        ...

    def received(self, raw: bytes) -> list[str]:
        """Look at a received frame (control frames only); text frames to send in answer."""
        ...

    def heartbeat(self) -> str | None:
        """The text frame to send every `heartbeat_s`."""
        ...

    def asset_of(self, raw: bytes) -> str | None:
        """The one followed asset a frame is about, else None. Cheap: no JSON parse."""
        ...


class VenueUnavailable(Exception):
    """This venue cannot be connected to; `why` is a status reason of wire.md section 3."""

    def __init__(self, why: str, detail: str) -> None:
        super().__init__(f"{why}: {detail}")
        self.why = why
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Limits:
    """What the venue allows."""

    assets_per_connection: int = 200
    silent_down_s: float = 15.0
    silent_replace_s: float = 30.0
    first_book_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Venue:
    """A registered venue: how to make each of its parts."""

    name: str
    settings: type[Any]
    session: Callable[[Any], Session]
    """settings -> Session, one per connection."""
    normaliser: Callable[[Mapping[str, Any], Mapping[str, Instrument]], Normaliser]
    """(fields of the `open` record, instruments by asset id) -> Normaliser, one per connection."""
    catalogue: Callable[[Any], Catalogue]
    """settings -> REST discovery."""
    limits: Limits = field(default_factory=Limits)
