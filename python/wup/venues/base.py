"""What a venue's folder provides; everything here is free of I/O.

One folder per venue, the same file names in each: `settings`, `auth` (where needed), `session` (frames to
send, control frames read), `normalise` (frames to normalised messages), `catalog` (REST discovery). The
registry in `wup.venues` is the only other place that knows a venue's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from wup._core import VenueBook
    from wup.mapping.catalogue import Catalogue
    from wup.model import Instrument, LegState, Level, VenueEvent


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
    """New absolute sizes, one venue transaction.

    `placed`: an order was placed, which the venue allows only while trading is on. Left out where the venue's
    frames do not tell, or where orders can be placed in a halt.
    """

    asset_id: str
    bids: Sequence[tuple[str, str]]
    asks: Sequence[tuple[str, str]]
    venue_us: int | None
    placed: bool = False


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
    """The leg leaves: what this connection has of it is not to be shown. It becomes live by `BookReplaced`
    only."""

    asset_id: str
    state: LegState
    why: str
    result: str | None = None


@dataclass(slots=True)
class StatusTold:
    """The venue said that the market is halted, closed, or open again: about the market, not about this
    connection's book, which goes on. Held over connections (`wup.normalizer.statuses`).

    `venue_us`: the latest of the venue's times known then.
    """

    asset_id: str
    status: Literal["open", "halted", "closed"]
    why: str
    result: str | None = None
    venue_us: int | None = None


@dataclass(slots=True)
class ListingChanged:
    """The stream says that the venue's catalogue says something else now: ask it, and not at its next turn.

    `new`: a market was announced, of a followed event or not. Otherwise something of a followed asset's
    market, or of an event, changed: tick, close, fees. `event`: as the catalogue names it, where it is said.
    """

    asset_id: str | None
    event: str | None
    new: bool = False


@dataclass(slots=True)
class StatusesLost:
    """Frames were lost that may have told the status of any market of the venue: its catalogue is asked."""


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


@dataclass(slots=True)
class LegCheck:
    """How one asset's book has compared with what its venue offers to compare with, on one connection.

    `kind`: what is compared, `hash` (of the whole book) or `sequence` (of the subscription's frames).
    `verdict`: the last one, `match`, `mismatch`, `unknown` (nothing could tell) or `best_mismatch` (only the
    reported best prices told), given at `at_us`; None and 0 before the first. The rest is how often.
    """

    kind: str
    verdict: str | None = None
    at_us: int = 0
    match: int = 0
    mismatch: int = 0
    unknown: int = 0
    best_mismatch: int = 0

    def say(self, verdict: str, now_us: int) -> None:
        """One more verdict."""
        setattr(self, verdict, getattr(self, verdict) + 1)
        self.verdict, self.at_us = verdict, now_us

    def add(self, other: LegCheck) -> None:
        """Count what another counted."""
        self.match += other.match
        self.mismatch += other.mismatch
        self.unknown += other.unknown
        self.best_mismatch += other.best_mismatch

    def counts(self) -> dict[str, int]:
        """How often, by verdict."""
        return {verdict: getattr(self, verdict) for verdict in VERDICTS}


VERDICTS = ("match", "mismatch", "unknown", "best_mismatch")

Output = (
    BookReplaced
    | BookChanged
    | TradeSeen
    | LegChanged
    | StatusTold
    | StatusesLost
    | ListingChanged
    | RepairWanted
    | BadInput
)


class Normaliser(Protocol):
    """One connection's state: sequence trackers, transactions, and the book of each of its assets."""

    @property
    def checks(self) -> Mapping[str, int]:
        """Verifications against what the venue offers (hash, top of book) so far, by verdict."""
        ...

    def check(self, asset_id: str) -> LegCheck | None:
        """What those said about one asset; None where nothing was compared. Read from another thread."""
        ...

    def sent(self, raw: bytes, now_us: int) -> list[Output]:
        """A frame that the client sent: it may carry the subscription mode, or make legs leave."""
        ...

    def frame(self, raw: bytes, now_us: int) -> list[Output]:
        """A received frame. Never raises: what cannot be used comes out as `BadInput`."""
        ...

    def timer(self, now_us: int) -> list[Output]:
        """Deadlines that passed by `now_us`: open transactions, missing first books."""
        ...

    def doubt(self, assets: Iterable[str], why: str, now_us: int) -> list[Output]:
        """It is known from elsewhere that these books are not right: they leave until their next whole book,
        which is asked for as after a loss of our own finding."""
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

    def checkpoint(self, asset_id: str) -> dict[str, Any] | None:
        """What a reader who begins here must know to go on with this book: `bids`, `asks`, and the venue's
        own (JSON values). None unless the book is live here and whole."""
        ...

    def restore(self, asset_id: str, fields: Mapping[str, Any], now_us: int) -> list[Output]:
        """Take a book from its `checkpoint`, as if the venue had sent it whole. Never raises."""
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

    def books_of(self, raw: bytes) -> Collection[str]:
        """The followed assets of which a frame brings whole books, by a search in the bytes. Asked only while
        books are awaited; what it leaves out is taken to be still missing."""
        ...


@dataclass(frozen=True, slots=True)
class RestBook:
    """A whole book as the venue's REST tells it: shortest decimal text, in the asset's own coordinates.

    `venue_us`: the time of its last change, where the venue says it.
    """

    asset_id: str
    bids: Sequence[Level]
    asks: Sequence[Level]
    venue_us: int | None


class BookAudit(Protocol):
    """The venue's books by another way than the stream."""

    batch: int
    """Assets in one call, at most."""

    async def books(self, assets: Sequence[str]) -> list[RestBook]:
        """The books of `assets` as they are now; left out is what the venue does not know, and what is not
        fit to be compared with.

        Raises:
            VenueUnavailable: there is no way to ask (say, no credentials).
            CatalogueError: no usable answer; `wup.mapping.catalogue`.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class VenueUnavailable(Exception):
    """This venue cannot be connected to; `why` is a status reason of wire.md section 3."""

    def __init__(self, why: str, detail: str) -> None:
        super().__init__(f"{why}: {detail}")
        self.why = why
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Limits:
    """What the venue allows, and how long its silence is borne."""

    assets_per_connection: int = 200
    crowded: int = 0
    """Assets on one connection when there may be no further one; 0: as many as usual."""
    connections: int = 100
    frames_per_s: float = 2_000.0
    """A connection that usually brings more than this is split."""
    connects_per_minute: float = 20.0
    connects_at_once: int = 30
    """The bucket behind `connects_per_minute`: what may be opened after a quiet time."""
    ping_s: float = 5.0
    silent_down_s: float = 15.0
    silent_replace_s: float = 30.0
    first_book_s: float = 10.0
    """Until then a subscription has sent its books: deadline of a first book, and of a move."""
    audit_s: float = 20.0
    """Between two audits of the busiest books."""


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
    audit: Callable[[Any], BookAudit] | None = None
    """settings -> the books by REST; None where the venue has no such thing."""
