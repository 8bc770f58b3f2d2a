"""Records for the engine, and a reader of its messages that is written from wire.md section 2 alone."""

from __future__ import annotations

from typing import Any

import orjson

from wup import subjects
from wup.mapping.table import Leg, MappingTable
from wup.normalizer.engine import Engine
from wup.raw import Kind, Meta
from wup.venues.registry import VENUES

START_US = 1_795_353_600_000_000
EPOCH = 1_795_353_600_001


def table(*legs: tuple[str, str, str], version: int = 1) -> MappingTable:
    """(platform, asset, market) rows."""
    return MappingTable(
        version,
        tuple(
            Leg(platform, asset, market, "event", f"agg.{'0' * 16}.yes", False)
            for platform, asset, market in legs
        ),
    )


class Reader:
    """What a consumer of `normalized.>` knows; counts holes in n and refuses messages it cannot place."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.n: dict[str, int] = {}
        self.state: dict[str, str] = {}
        self.why: dict[str, str] = {}
        self.books: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        self.trades: list[dict[str, Any]] = []

    def take(self, subject: str, payload: bytes) -> None:
        """One message."""
        message = orjson.loads(payload)
        self.messages.append((subject, message))
        if message["type"] == "marks":
            return
        asset = message["asset_id"]
        assert subject == subjects.normalized(message["platform"], message["market_id"], asset)
        last = self.n.get(asset)
        if message["type"] == "snapshot":
            assert last is None or message["n"] > last
        else:
            assert last is None or message["n"] == last + 1, "a hole in n"
        self.n[asset] = message["n"]
        if message["type"] == "snapshot":
            self.books[asset] = (dict(message["bids"]), dict(message["asks"]))
            self.state[asset] = "live"
        elif message["type"] == "update":
            assert self.state[asset] == "live", "an update of a leg that is not live"
            for ladder, changes in zip(self.books[asset], (message["bids"], message["asks"]), strict=True):
                for price, size in changes:
                    if size == "0":
                        ladder.pop(price, None)
                    else:
                        ladder[price] = size
        elif message["type"] == "state":
            assert message["state"] != "live", "a leg becomes live by a snapshot only"
            self.state[asset], self.why[asset] = message["state"], message["why"]
        elif message["type"] == "trade":
            self.trades.append(message)

    def types(self, asset: str | None = None) -> list[str]:
        """Types of all messages so far, of one asset or of all."""
        return [m["type"] for _, m in self.messages if asset is None or m.get("asset_id") == asset]


class Feed:
    """An engine with its reader; records are numbered per connection as the aggregator does."""

    def __init__(self, *legs: tuple[str, str, str], **options: Any) -> None:
        self.reader = Reader()
        self.repairs: list[tuple[str, tuple[str, ...], str, str]] = []
        self.bad: list[tuple[str, str]] = []
        self.verdicts: list[tuple[str, str, str, str, str]] = []
        self.now_us = START_US
        self.engine = Engine(
            epoch=EPOCH,
            instance="i1",
            venues=options.pop("venues", VENUES),
            emit=self.reader.take,
            repair=lambda *wish: self.repairs.append(wish),
            bad=lambda platform, kind, detail: self.bad.append((platform, kind)),
            verdict=lambda *verdict: self.verdicts.append(verdict),
            **options,
        )
        if legs:
            self.engine.set_table(table(*legs))
        self.n: dict[str, int] = {}

    def record(
        self,
        kind: Kind,
        platform: str,
        connection: str,
        payload: bytes | dict[str, Any],
        n: int | None = None,
    ) -> None:
        """One record, as from the bus."""
        if isinstance(payload, dict):
            payload = orjson.dumps(payload)
        number = self.n.get(connection, 0) if n is None else n
        self.engine.record(Meta(kind, platform, connection, self.now_us, number), payload, self.now_us)

    def open(self, platform: str, connection: str = "c1", **fields: Any) -> None:
        """A connection opens."""
        self.n[connection] = 0
        self.record("open", platform, connection, fields)

    def frame(self, platform: str, payload: bytes, connection: str = "c1") -> None:
        """The next frame of a connection."""
        self.n[connection] = self.n.get(connection, 0) + 1
        self.record("frame", platform, connection, payload)

    def lose(self, connection: str = "c1") -> None:
        """A frame was received and got lost on its way to the engine."""
        self.n[connection] += 1

    def wait(self, seconds: float) -> None:
        """Let time pass, then run the timer."""
        self.now_us += round(seconds * 1_000_000)
        self.engine.timer(self.now_us)
