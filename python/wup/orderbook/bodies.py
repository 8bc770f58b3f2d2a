"""The answers of the HTTP interface as its OpenAPI document describes them. The core writes the bytes; these
models are for the document, and a test holds live answers against it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Number = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]*)(\.[0-9]{0,5}[1-9])?$", examples=["0.52"])]
"""Shortest exact decimal text (wire.md section 1)."""
LegState = Literal["syncing", "live", "resync", "down", "halted", "closed"]
BookState = Literal["live", "degraded", "down", "closed"]
PriceAndSize = tuple[Number, Number]
Level = tuple[Number, Number, dict[str, Number]]
"""Price, total size, and the size of each leg."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Leg(_Body):
    """A venue's asset in a book."""

    platform: str
    asset: str
    inverted: bool = Field(description="its YES is the book's NO")
    state: LegState = Field(description="only a live leg contributes size")
    age_ms: int = Field(default=0, ge=0, description="since it was last heard; absent when it never was")
    tick: Number = "0.01"
    min_size: Number = "1"


class _Book(_Body):
    book: str = Field(examples=["fed-2026-12.9b1c22d0a47e55f1.yes"])
    epoch: int
    seq: int
    digest: int = Field(ge=0, le=0xFFFF_FFFF)
    state: BookState
    crossed: bool = Field(description="best bid above best ask: information, never repaired")
    result: Literal["yes", "no"] = Field(default="yes", description="of a closed book")
    legs: dict[str, Leg]


class Stamps(_Body):
    """Microseconds since 1970 UTC."""

    book: int


class Snapshot(_Book):
    """A whole book: the `snapshot` message of the stream."""

    type: Literal["snapshot"]
    why: str
    mapping: int
    title: str = ""
    label: str = ""
    depth: int = Field(default=0, description="when only the best levels are shown")
    bids: list[Level]
    asks: list[Level]
    ts: Stamps


class Row(_Book):
    """A book in a list."""

    best_bid: PriceAndSize | None
    best_ask: PriceAndSize | None


class Rows(_Body):
    """A page of books."""

    books: list[Row]
    next: str | None = Field(description="`after` of the next page")


class Best(_Body):
    """One platform's best prices."""

    best_bid: PriceAndSize | None
    best_ask: PriceAndSize | None


class Bbo(_Book):
    """Best bid and ask with the legs behind them."""

    best_bid: Level | None
    best_ask: Level | None
    crossing_size: Number = Field(description="what could be taken at once, bids above asks")
    platforms: dict[str, Best]


class Settled(_Body):
    """A venue's market that has left the book with a result, in the book's terms."""

    platform: str
    market: str
    result: str | None


class FactChange(_Body):
    """A fact that the venue changed, when it was first seen."""

    ts_us: int
    what: str
    before: str | None
    after: str | None


class Market(_Body):
    """A market of an aggregate."""

    book: str
    label: str
    result: str | None
    settled: list[Settled]


class MarketLeg(_Body):
    """What feeds a market."""

    platform: str
    event: str
    market: str
    asset: str
    inverted: bool
    suspended: str | None = Field(description="why it is kept out of its book")
    tick: str | None
    min_size: str | None
    fees: dict[str, str]
    close_us: int | None
    facts_us: int | None = Field(description="since when tick, size, close and fees are what they are")
    changes: list[FactChange]


class MarketWithLegs(Market):
    """A market and what feeds it."""

    legs: list[MarketLeg]


class Summary(_Body):
    """An aggregate in a list."""

    aggregate: str
    title: str
    markets: list[Market]


class Aggregates(_Body):
    """A page of aggregates."""

    aggregates: list[Summary]
    next: str | None


class Aggregate(_Body):
    """An aggregate with its markets and their legs."""

    aggregate: str
    title: str
    markets: list[MarketWithLegs]


class Disagreement(_Body):
    """Venues of one book that have been apart, or turned round, for a minute."""

    book: str
    kind: Literal["apart", "turned"]
    platforms: list[str]
    mids: list[Number]
    since: int = Field(description="microseconds since 1970 UTC")


class DisagreementList(_Body):
    """Merged books whose mapping should be looked at."""

    disagreements: list[Disagreement]


class Health(_Body):
    """Alive, or ready."""

    status: str
    warnings: list[str] = []
