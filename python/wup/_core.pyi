"""The native order book core.

Numbers: price and size are integers of 1e-6 inside; text goes in and comes out in shortest exact form.
Errors: CoreError
        +-- ParseError      bytes or text that cannot be read
        +-- UnknownAsset    no leg in the mapping for (platform, asset)
        +-- UnknownBook     no such book id
        +-- NumberError     a number that does not fit (also a ValueError)
        +-- NegativeSize    an increment took a level below zero
        +-- MappingError    a mapping table that contradicts itself; nothing of it was applied
A fault inside the core is caught and raised as a plain CoreError; it never ends the interpreter.

Messages, subjects and rules are those of the wire contract (docs/wire.md); "section" means its sections.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal, final

__all__ = [
    "OPTIMISED",
    "Book",
    "BookState",
    "BookStore",
    "Change",
    "CoreError",
    "Histogram",
    "LegState",
    "Level",
    "MappingError",
    "MirrorBook",
    "NegativeSize",
    "NumberError",
    "OrderBook",
    "ParseError",
    "Side",
    "UnknownAsset",
    "UnknownBook",
    "VenueBook",
    "Verdict",
    "Writer",
    "cell_hash",
    "complement",
    "format_micro",
    "kalshi_delta",
    "kalshi_snapshot",
    "market_hash",
    "matches",
    "mirror_message",
    "parse_micro",
    "polymarket_frame",
    "recorded_frame",
    "salt",
    "unmapped_aggregate",
]

LegState = Literal["syncing", "live", "resync", "down", "halted", "closed"]
BookState = Literal["live", "degraded", "down", "closed"]
Side = Literal["bid", "ask"]
Verdict = Literal["exact", "gap", "broken", "ignored"]

class CoreError(Exception): ...
class ParseError(CoreError): ...
class UnknownAsset(CoreError): ...
class UnknownBook(CoreError): ...
class NumberError(CoreError, ValueError): ...
class NegativeSize(CoreError): ...
class MappingError(CoreError): ...

OPTIMISED: bool  # False for a debug build: do not measure with it

def parse_micro(text: str) -> int:
    """Exact integer of millionths. Venue forms (".48", "0.920") and a minus sign are read.

    A seventh decimal does not fit: NumberError, never rounded.
    """

def format_micro(value: int) -> str:
    """Shortest exact text of an integer of millionths."""

def complement(price: str) -> str:
    """The opposite outcome's price, 1 - p."""

def salt(leg: str) -> int: ...
def cell_hash(leg: str, side: Side, price: str, size: str) -> int: ...
def market_hash(key: str) -> str:
    """First 16 hex digits of SHA-256 over the canonical market key."""

def unmapped_aggregate(platform: str, slug: str) -> str:
    """Aggregate id of an event without mapping (wire.md section 1)."""

def matches(pattern: str, book: str) -> bool:
    """NATS rules over three tokens; wildcards never match NO ids. ParseError for what is no pattern."""

def kalshi_delta(
    frame: bytes, use_yes_price: bool = False
) -> tuple[int, int, str, Side, str, str, int | None] | None:
    """Kalshi's `orderbook_delta` read natively: (sid, seq, ticker, side, price, delta, venue_us).

    Side and price in YES coordinates, numbers in shortest form. None for every other frame and for every
    unusual form of this one: the adapter reads those.
    """

def kalshi_snapshot(
    frame: bytes, use_yes_price: bool = False
) -> tuple[int, int, int | None, str, int | None, VenueBook] | None:
    """Kalshi's `orderbook_snapshot` read natively: (sid, seq, command id, ticker, venue_us, book).

    The book is in YES coordinates. None as with `kalshi_delta`, and for a level that does not fit.
    """

def polymarket_frame(
    frame: bytes, tokens: dict[str, Any] | None = None
) -> (
    list[
        tuple[
            str,
            str,
            str,
            int | None,
            list[tuple[Side, str, str]],
            str | None,
            str | None,
            str | None,
        ]
        | tuple[str, dict[str, Any], int | None, VenueBook]
        | tuple[str, str, int | None]
    ]
    | None
):
    """Polymarket's `price_change` and `book` objects, alone or in an array, read natively.

    A change gives, per asset that it names, (asset, market, timestamp, venue_us, [(side, price, size)], hash,
    best bid, best ask) in the venue's text; when it is alone in its frame, an asset that is not in `tokens`
    gives (asset, market, venue_us). A book gives (asset, what it says beside its levels, venue_us, book).
    None when anything in the frame is of another type or not in the usual form: the adapter reads those.
    """

def recorded_frame(head: bytes, rx_us: int, n: int, payload: bytes) -> bytes | None:
    """A frame as a line of a recording, `{"rx_us":...HEAD...,"raw":"..."}`; None when it is no UTF-8. Numbers
    beyond 64 bits: OverflowError."""

def mirror_message(message: bytes) -> bytes:
    """The NO view of a YES snapshot, delta, status or trade message, or back (the digest stays)."""

@final
class Change:
    """One outgoing message: publish `payload` on `subject` as it is."""

    @property
    def book(self) -> str:
        """Id of the YES book."""
    @property
    def subject(self) -> str: ...
    @property
    def kind(self) -> Literal["snapshot", "delta", "status", "trade"]: ...
    @property
    def epoch(self) -> int: ...
    @property
    def prev(self) -> int:
        """Sequence before; 0 for a snapshot. A trade leaves the sequence as it is (prev == seq)."""
    @property
    def seq(self) -> int: ...
    @property
    def digest(self) -> int: ...
    @property
    def payload(self) -> bytes: ...

@final
class Level:
    """One price level; its Decimals are made when they are read."""

    @property
    def price(self) -> Decimal: ...
    @property
    def size(self) -> Decimal: ...
    @property
    def by_leg(self) -> dict[str, Decimal]: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class Book:
    """A book at one moment: it does not change while the store goes on. Sides are best first."""

    @property
    def id(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def digest(self) -> int:
        """In YES coordinates, the same for both views."""
    @property
    def state(self) -> BookState: ...
    @property
    def crossed(self) -> bool: ...
    @property
    def legs(self) -> dict[str, dict[str, object]]:
        """As on the wire: platform, asset, inverted, state, age_ms, tick, min_size by leg name."""
    @property
    def bids(self) -> list[Level]: ...
    @property
    def asks(self) -> list[Level]: ...
    @property
    def best_bid(self) -> Level | None: ...
    @property
    def best_ask(self) -> Level | None: ...
    def depth(self, n: int) -> Book:
        """Only the best n levels of each side."""

    def cost(self, side: Side, size: Decimal | str | int) -> tuple[Decimal | None, Decimal]:
        """Take `size` from a side ("ask" to buy, "bid" to sell): average price, and how much is there."""

    def no(self) -> Book:
        """The other outcome's view: price' = 1 - price, sides swapped."""

    def _repr_html_(self) -> str: ...

@final
class BookStore:
    """Consolidated books fed by normalised messages.

    `epoch` is the last one ever given out (0 when there is none): every new one is larger. All times are
    microseconds since 1970 and come from the caller, so that a replay can set them. Calls are safe from
    several threads; one writer per book keeps its sequence in the order of its calls.
    """

    def __new__(cls, epoch: int) -> BookStore: ...
    def set_mapping(
        self, version: int, table: Sequence[tuple[str, str, str, bool]], now_us: int
    ) -> list[Change]:
        """Put rows (platform, asset_id, YES book, inverted) in force, all or nothing.

        New books and books whose legs changed open one new epoch with a snapshot (why "epoch"); a book left
        without legs ends with a status ("mapping" when an asset of it feeds another book now, else
        "unmapped") and is dropped; an asset that stays mapped keeps what it shows, also when it moves or
        turns around. New legs are `syncing` and are queued for `take_resyncs` (why "mapping").
        """

    def describe(self, book: str, title: str | None = None, label: str | None = None) -> None:
        """Name a book. Before `set_mapping`, so that the opening snapshot carries the names."""

    def set_facts(
        self, platform: str, asset_id: str, tick: str | None = None, min_size: str | None = None
    ) -> None:
        """State an asset's tick and smallest order, also before the mapping knows it."""

    def apply(
        self, normalized: bytes, now_us: int, platform: str | None = None, asset_id: str | None = None
    ) -> list[Change]:
        """Apply one normalised message (section 2); one message is at most one delta and one status.

        `platform` and `asset_id` say whose it should be: about another asset it is a ParseError and changes
        nothing. ParseError and UnknownAsset otherwise only when the leg cannot be told. A hole in `n` or a
        bad message of a known leg puts it into `resync`, returns the removal, and queues a wish for
        `take_resyncs`. Repeats and older epochs are ignored. Types of a later version are ignored but
        counted in `n`.
        """

    def set_leg_state(
        self, platform: str, asset_id: str, state: LegState, why: str, now_us: int
    ) -> list[Change]:
        """The caller's own verdict about a leg. Only a snapshot makes a leg live: "live" asks for one. A
        closed leg stays closed whatever is doubted of it ("down", "resync", "syncing")."""

    def resolve(self, book: str, result: str, now_us: int) -> list[Change]:
        """Close a book for good with its outcome; dropped 60 s later (by `tick` or `marks`)."""

    def check_marks(self, platform: str, marks: bytes, now_us: int) -> list[Change]:
        """Compare a producer's marks (section 2) with what arrived; who is behind goes to `resync` ("gap").

        A leg that still waits for a snapshot is queued again: the wish itself may have been lost.
        """

    def leg_epoch(self, platform: str, asset_id: str) -> int | None:
        """The epoch of an asset's last message, which names the process that it came from; None before the
        first, and for what is not mapped."""

    def speaks_for(self, platform: str, epoch: int, assets: Sequence[str]) -> list[str]:
        """Those of `assets` that a producer of this epoch speaks for: mapped, and not heard of in a later
        epoch."""

    def take_resyncs(self) -> list[tuple[str, str, str]]:
        """(platform, asset, why) of each snapshot to ask for since the last call."""

    def snapshot(
        self, book: str, depth: int | None = None, why: str = "subscribe", now_us: int | None = None
    ) -> bytes:
        """The snapshot message, YES or NO by the id; with `depth` its digest covers the levels shown."""

    def lines(self, books: Sequence[str], why: str, now_us: int) -> bytes:
        """Snapshot messages, each followed by a line feed; books that are gone are left out."""

    def row(self, book: str, now_us: int) -> bytes:
        """A row of a list of books, JSON: identity, state, best bid and ask, legs with their age."""

    def bbo(self, book: str, now_us: int) -> bytes:
        """Best bid and ask with the legs behind them, per platform, and the size at a crossing, JSON."""

    def marks(self, shard: str, now_us: int, full: bool = False) -> list[bytes]:
        """This second's marks messages (section 3 rule 7), at least one. To be called once a second."""

    def tick(self, now_us: int) -> None:
        """Drop resolved books whose time is over."""

    def book(self, book: str, now_us: int | None = None) -> Book:
        """A frozen look at a book, YES or NO by the id."""

    def books(self, pattern: str = ">") -> list[str]:
        """Ids that match, in mapping order; NO ids for a pattern whose third token is `no`."""

    def raise_epoch(self, epoch_ms: int) -> None:
        """Every epoch given out from now on is larger than this."""

    def last_epoch(self) -> int:
        """The last epoch given out; keep it where the next process finds it."""

    def stats(self) -> dict[str, int]:
        """books, assets; counts: messages, changes, ignored, holes, bad, unknown_asset, resyncs, panics."""

    def __len__(self) -> int: ...

@final
class MirrorBook:
    """A client's copy of one book that can tell whether it is exact (section 4).

    It adopts the book of its first snapshot: full YES streams, NO views (mirrored back before the digest is
    checked), streams with depth or interval.
    """

    @property
    def book(self) -> str:
        """Id as the stream names it; empty before the first snapshot."""
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def digest(self) -> int: ...
    @property
    def exact(self) -> bool: ...
    @property
    def state(self) -> BookState: ...
    @property
    def crossed(self) -> bool: ...
    def __new__(cls) -> MirrorBook: ...
    def apply(self, message: bytes) -> Verdict:
        """Apply any message. After "gap" or "broken" the copy is not exact: ask for a resync.

        "ignored": a repeat, older, another book, another kind of message, or not exact yet. A status by the
        gateway makes the copy not exact and is "ignored". ParseError (not exact then) for what is no message.
        """

    def doubt(self) -> None:
        """Something outside the stream is in doubt: not exact until the next snapshot."""

    def snapshot(
        self, no: bool = False, depth: int | None = None, why: str = "subscribe", now_us: int | None = None
    ) -> bytes:
        """The snapshot message of the copy, byte for byte as the store encodes it (legs as last said).

        `no` names the view to encode, whatever the stream's own is. UnknownBook before the first snapshot.
        """

    def view(self) -> Book:
        """A frozen look at the copy, in the coordinates of its stream."""

@final
class VenueBook:
    """One asset's own book, as its venue has it, with the venue's exact text beside the numbers."""

    def __new__(cls) -> VenueBook: ...
    def replace(
        self,
        bids: Iterable[tuple[str, str] | list[str] | dict[str, str]],
        asks: Iterable[tuple[str, str] | list[str] | dict[str, str]],
    ) -> None:
        """Replace both sides, or neither (NumberError). Levels as pairs or as {"price": ..., "size": ...}."""

    def set(self, side: Side, price: str, size: str) -> bool:
        """Set a level's size, "0" removes it; whether the size changed."""

    def change(
        self, changes: Sequence[tuple[Side, str, str]], best_bid: str | None, best_ask: str | None
    ) -> tuple[list[tuple[str, str]], list[tuple[str, str]], bool | None]:
        """Set many levels or none: what changed as (bids, asks) in shortest exact form, each price once, and
        whether the best prices are then those reported (None: they were not, or not as numbers)."""

    def add(self, side: Side, price: str, delta: str) -> tuple[str, bool]:
        """Add an increment (it may be negative): the level's new size, and whether the book is crossed then.

        NegativeSize leaves the book as is.
        """

    def clear(self) -> None: ...
    def best(self, side: Side) -> str | None: ...
    def size(self, side: Side, price: str) -> str:
        """Size at a price, "0" when there is none."""

    def top_is(self, bid: str | None, ask: str | None) -> bool:
        """Whether the best prices are those reported; None, "", "0" and "1" mean an empty side."""

    def crossed(self) -> bool:
        """Best bid above best ask."""

    def levels(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """(bids, asks), best first, shortest exact form: what a normalised snapshot carries."""

    def texts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """(bids, asks), best first, as the venue wrote them: what its hash is over. The sum of an increment
        (`add`) has the shortest form."""

    def polymarket_hash(
        self,
        market: str,
        asset_id: str,
        timestamp: str,
        min_order_size: str,
        tick_size: str,
        neg_risk: bool,
        last_trade_price: str | None,
    ) -> str:
        """The venue's SHA-1 over the levels' text as sent.

        `last_trade_price` None leaves the field out: the nine-field form used until late 2025. A market
        that has not traded yet has "".
        """

    def __len__(self) -> int: ...

@final
class Writer:
    """Writes one asset's normalised messages that carry levels (section 2); unknown stamps are left out."""

    def __new__(cls, platform: str, market_id: str, asset_id: str, epoch: int) -> Writer: ...
    def snapshot(
        self,
        n: int,
        book: VenueBook,
        venue_us: int | None,
        recv_us: int | None,
        norm_us: int | None,
    ) -> bytes:
        """A whole book."""

    def update(
        self,
        n: int,
        bids: Sequence[tuple[str, str]],
        asks: Sequence[tuple[str, str]],
        venue_us: int | None,
        recv_us: int | None,
        norm_us: int | None,
    ) -> bytes:
        """Levels in shortest exact text."""

@final
class OrderBook:
    """A book in three lines, for scripts: legs are made by naming them."""

    def __new__(cls, name: str = "book") -> OrderBook: ...
    def set(
        self, side: Side, price: Decimal | str | int, size: Decimal | str | int, leg: str = "me"
    ) -> None: ...
    def clear(self) -> None: ...
    def view(self) -> Book: ...
    def _repr_html_(self) -> str: ...

@final
class Histogram:
    """Latency in microseconds, log-bucketed: quantiles right within one eighth. Safe from several threads."""

    def __new__(cls) -> Histogram: ...
    def observe(self, us: int) -> None:
        """Count one duration; a negative one counts as 0."""

    def quantile(self, q: float) -> float: ...
    def count(self) -> int: ...
    def sum(self) -> int: ...
    def buckets(self) -> list[tuple[int, int]]:
        """(upper bound in microseconds, how many are at most that), at powers of two."""
