"""A venue with faults on a virtual clock and memory sockets, and the invariant that every leg must keep.

The simulator's exchange is the venue; session, normaliser and engine are ours; between them is what the
aggregator does: numbers on frames, repairs, reconnects. After each engine transaction the books that a
consumer of the normalised messages has are compared with the simulator's true books.

No leg is live while the venue has its market halted or ended and has told so, whatever connections come and
go meanwhile. A live leg may differ from the truth only between a frame that never arrived and what reveals
it: at a venue
with sequence numbers the next frame of the subscription, at one with hashes the next transaction of the
asset and the time that a transaction may stay open. Every other difference is a failure.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from typing import TYPE_CHECKING, Any

import orjson

from normalizer.feed import Reader, table
from wup.config import load
from wup.normalizer.engine import Engine
from wup.raw import Kind, Meta
from wup.sim.exchange import Act
from wup.sim.faults import Fault
from wup.sim.fixed import short
from wup.sim.kalshi.protocol import KalshiExchange
from wup.sim.listed import build_world
from wup.sim.market import MarketModel
from wup.sim.polymarket.protocol import PolymarketExchange
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.sim.engine import Market
    from wup.sim.exchange import Connection, Exchange, Output
    from wup.venues.base import Venue

START_US = 1_795_353_600_000_000
FOREVER = 1 << 62
TIMER_US = 50_000
HEALED_US = 10_000_000

COMMON = """
    drop duplicate reorder malformed truncate unknown_type unknown_field huge skip_book silence reset close
    unauthorized rate_limited maintenance burst halt restart tick_change new_market close_market
"""
MENU = {
    "kalshi": f"""{COMMON}
        skip_seq repeat_seq reset_seq drift_seq early_delta negative channel_error overflow market_limit
        command_limit
    """.split(),
    "polymarket": f"""{COMMON}
        mute no_event_type strings_for_arrays empty_optional mixed_array late_trade trade_on_no missing_books
    """.split(),
}
LASTING = frozenset(
    [
        "silence",
        "mute",
        "no_event_type",
        "strings_for_arrays",
        "empty_optional",
        "mixed_array",
        "late_trade",
        "trade_on_no",
        "early_delta",
        "command_limit",
        "market_limit",
        "missing_books",
        "unauthorized",
        "rate_limited",
        "maintenance",
        "halt",
        "restart",
        "close_market",
    ]
)
# Of more than so many assets no books come, of more than so many the subscription is refused, and so on.
VALUES = {"market_limit": 3, "missing_books": 3, "huge": 100_000, "burst": 4}
CLOSED = 2
"""Markets that end in one run, at most."""
# A frame that did not arrive, or not so that it could be read, or that lies about the book.
# Frames of a mixed array wait for one another.
LOSSES = frozenset(["drop", "silence", "mute", "malformed", "truncate", "reorder", "negative", "mixed_array"])
# Frames that hold nothing of a book: their loss excuses no difference.
BOOKLESS = frozenset(["trade", "ticker", "best", "tick", "lifecycle"])
# A frame that the sequence, or its form, keeps from being used.
REFUSED = (
    "sequence_reset",
    "repeated_sequence",
    "ended_subscription",
    "bad_json",
    "bad_field",
    "unknown_type",
)
# What no input may ever cause.
OUR_FAULTS = frozenset(["normaliser_error", "timer_failed"])
GRACE_US = {"kalshi": 0, "polymarket": 250_000 + TIMER_US}


class WrongBook(AssertionError):
    """A live leg that differs from the truth without excuse."""


class ShownWhileHalted(AssertionError):
    """A live leg of a market that the venue has told to be halted or ended, and that still is."""


class NotHealed(AssertionError):
    """A leg that does not come back after the last fault."""


class Run:
    """One venue, one seed."""

    def __init__(
        self,
        platform: str,
        seed: int,
        *,
        venue: Venue | None = None,
        engine: type[Engine] = Engine,
        rate: float = 300.0,
    ) -> None:
        self.platform, self.seed = platform, seed
        self.rng = random.Random(f"{platform}/{seed}")
        self.now_us = START_US
        self.model = MarketModel(build_world(0), seed=seed, start_us=START_US, rate=rate)
        kinds = {"kalshi": KalshiExchange, "polymarket": PolymarketExchange}
        self.exchange: Exchange = kinds[platform](self.model, seed=seed)
        self.exchange.attach(self._deliver)
        self.venue = venue or VENUES[platform]
        self.settings = load(self.venue.settings)
        self.markets: dict[str, Market] = {
            market.listing.assets[0]: market for market in self.exchange.markets.values()
        }
        self.reader = Reader()
        self.engine = engine(
            epoch=1,
            instance="i",
            venues={platform: self.venue},
            emit=self.reader.take,
            repair=self._repair,
            bad=self._bad,
        )
        self.engine.set_table(
            table(*((platform, asset, market.listing.market_id) for asset, market in self.markets.items()))
        )
        self.bad: dict[str, int] = {}
        self.first_bad: dict[str, str] = {}
        self.excused = dict.fromkeys(self.markets, 0)
        self.connection: Connection | None = None
        self._name, self._opened, self._n = "", 0, 0
        self._outbox: deque[Output] = deque()
        self._later: list[tuple[int, int, Connection, str]] = []
        self._later_number = 0
        self._open_at_us: int | None = START_US
        self._next_timer_us = START_US
        self._next_beat_us = FOREVER
        self._delivered = self._seen = 0
        self.frames = self.compared = self.resyncs = 0
        self.down_us = 0
        self.ended: set[str] = set()
        self.closed = 0
        # What the venue told of markets that are not open, and on which connection.
        self._told: dict[str, tuple[str, int]] = {}
        self.halts = 0
        self._held_over: set[tuple[str, int]] = set()
        self.faults: dict[str, int] = {}

    # --- what the aggregator does -----------------------------------------------------------------

    def _record(self, kind: Kind, payload: bytes) -> None:
        meta = Meta(kind, self.platform, self._name, self.now_us, self._n)
        self.engine.record(meta, payload, self.now_us)

    def _open(self) -> None:
        if self.exchange.refusal(self.now_us) is not None:
            self._open_at_us = self.now_us + 500_000
            return
        self._open_at_us = None
        self._opened += 1
        self._n = 0
        self._name = f"c{self._opened}"
        self.session = self.venue.session(self.settings)
        self.connection = self.exchange.connect(self.now_us)
        self._record("open", orjson.dumps(self.session.open_info()))
        self._say(self.session.opened(list(self.markets)))
        beat = self.session.heartbeat_s
        self._next_beat_us = FOREVER if beat is None else self.now_us + round(beat * 1_000_000)

    def _close(self) -> None:
        if self.connection is None:
            return
        self.exchange.disconnect(self.connection)
        self.connection = None
        self._outbox.clear()
        self._record("close", b'{"why":"disconnected"}')
        self._open_at_us = self.now_us + self.rng.randint(50_000, 400_000)

    def _say(self, frames: list[str]) -> None:
        for text in frames:
            assert self.connection is not None
            self._record("sent", text.encode())
            self._later_number += 1
            # In order, and some milliseconds on their way.
            at_us = max(
                self.now_us + self.rng.randint(1_000, 20_000), max((x[0] for x in self._later), default=0)
            )
            heapq.heappush(self._later, (at_us, self._later_number, self.connection, text))

    def _repair(self, platform: str, assets: tuple[str, ...], why: str, connection: str) -> None:
        if self.connection is None or connection != self._name:
            return
        if why == "unrepaired":
            self._outbox.append(Act("reset"))
        else:
            self._wishes.append(list(assets))

    def _bad(self, platform: str, kind: str, detail: str) -> None:
        self.bad[kind] = self.bad.get(kind, 0) + 1
        self.first_bad.setdefault(kind, detail)

    # --- frames -----------------------------------------------------------------------------------

    _wishes: list[list[str]]

    def _deliver(self, connection: Connection, outputs: list[Output]) -> None:
        if connection is self.connection:
            self._outbox.extend(outputs)

    def _drain(self) -> None:
        """Hand over what the venue sent; answers go out a little later."""
        self._wishes = []
        while self._outbox:
            output = self._outbox.popleft()
            if isinstance(output, Act):
                if output.kind in ("close", "reset"):
                    self._close()
                continue
            raw = output.encode()
            self._n += 1
            self.frames += 1
            refused = self._refused()
            self._record("frame", raw)
            if (b"lifecycle" in raw[:64] or b'"market_resolved"' in raw) and refused == self._refused():
                self._heed(raw)
            self._check_statuses()
            if self.session.asset_of(raw) is None:
                self._say(self.session.received(raw))
            if b'"orderbook_' in raw[:64]:
                self._delivered += 1
        wishes, self._wishes = self._wishes, []
        for assets in wishes:
            if self.connection is not None:
                self._say(self.session.repair(assets))

    def _refused(self) -> int:
        return sum(self.bad.get(kind, 0) for kind in REFUSED)

    def _heed(self, raw: bytes) -> None:
        """What a frame says about markets themselves, read anew."""
        said = orjson.loads(raw)
        if self.platform == "kalshi":
            message = said["msg"]
            words = {message.get("market_ticker"): message.get("event_type")}
        else:
            items = said if isinstance(said, list) else [said]
            words = {asset: "determined" for item in items for asset in item.get("assets_ids", ())}
        for asset, word in words.items():
            if asset not in self.markets:
                continue
            if word == "deactivated":
                self._told[asset] = ("halted", self._opened)
                self.halts += 1
            elif word in ("determined", "settled"):
                self._told[asset] = ("closed", self._opened)

    def _check_statuses(self) -> None:
        """What is halted or ended is not live, on whichever connection it was told."""
        for asset, (status, opened) in self._told.items():
            state = self.reader.state.get(asset)
            if state == "live":
                raise ShownWhileHalted(
                    f"{self.platform} seed {self.seed}: {asset} is live at {self.now_us - START_US} us, "
                    f"{status} since connection {opened}, now {self._opened}; bad {self.bad}"
                )
            if state == "halted" and opened != self._opened:
                self._held_over.add((asset, self._opened))

    # --- time -------------------------------------------------------------------------------------

    def until(self, end_us: int) -> None:
        """Let everything happen up to `end_us`, comparing after each transaction."""
        events = self.model.advance(end_us)
        while True:
            due = [
                self.model.next_us,
                self._next_timer_us,
                self._next_beat_us,
                self._open_at_us if self._open_at_us is not None else FOREVER,
                self._later[0][0] if self._later else FOREVER,
                self.exchange.next_due_us() or FOREVER,
            ]
            at_us = min(due)
            if at_us > end_us:
                break
            self.now_us = max(self.now_us, at_us)
            if at_us == due[5]:
                self.exchange.poll(self.now_us)
            elif at_us == due[4]:
                _, _, connection, text = heapq.heappop(self._later)
                if connection is self.connection:
                    self._outbox.extend(connection.client_frame(text, self.now_us))
            elif at_us == due[3]:
                self._open()
            elif at_us == due[2]:
                self._next_beat_us = self.now_us + 1_000_000
                text_or_none = self.session.heartbeat() if self.connection is not None else None
                if text_or_none is not None:
                    self._say([text_or_none])
            elif at_us == due[1]:
                self._next_timer_us += TIMER_US
                self.engine_timer()
            else:
                self._transaction(events)
                continue
            self._drain()
            self._lost()
        self.now_us = max(self.now_us, end_us)

    def engine_timer(self) -> None:
        """Deadlines, and what they ask for."""
        self._wishes = []
        self.engine.timer(self.now_us)
        live = sum(self.reader.state.get(asset) == "live" for asset in self.markets)
        self.down_us += TIMER_US * (len(self.markets) - live)
        for assets in self._wishes:
            if self.connection is not None:
                self._say(self.session.repair(assets))
        self._wishes = []

    def _transaction(self, events: Any) -> None:
        event = next(events, None)
        if event is None:
            return
        if event.market.listing.venue != self.platform:
            return
        self._delivered = 0
        self.now_us = max(self.now_us, event.at_us)
        if event.kind == "opened" and self._told.get(event.market.listing.assets[0], ("", 0))[0] == "halted":
            del self._told[event.market.listing.assets[0]]
        self.exchange.engine_event(event)
        self._drain()
        asset = event.market.listing.assets[0]
        lost = self._lost()
        grace = GRACE_US[self.platform]
        if self.platform == "kalshi":
            if self._delivered and not lost:
                self.excused = dict.fromkeys(self.excused, 0)
        elif event.changes and not lost:
            self.excused[asset] = min(self.excused[asset], self.now_us + grace)
        self.compare(asset)

    def _lost(self) -> set[str]:
        """Assets of which something of a book was lost since the last call: not to be blamed for it yet."""
        done = self.exchange.menu.done
        lost = {
            self._asset(named)
            for fault in done[self._seen :]
            if fault.kind in LOSSES and fault.frame not in BOOKLESS
            for named in fault.assets
        } & set(self.markets)
        self._seen = len(done)
        for asset in lost:
            self.excused[asset] = FOREVER
        return lost

    def _asset(self, named: str) -> str:
        market = self.exchange.market_of(named)
        return market.listing.assets[0] if market is not None else named

    # --- the invariant ----------------------------------------------------------------------------

    def truth(self, asset: str) -> tuple[dict[str, str], dict[str, str]]:
        """The simulator's book in the reader's form."""
        levels = self.markets[asset].truth(asset)
        assert levels is not None
        bids, asks = levels
        return (
            {short(price): short(size) for price, size in bids},
            {short(price): short(size) for price, size in asks},
        )

    def compare(self, asset: str) -> None:
        """A live leg is the true book, or excused."""
        self.closed += self.reader.state.get(asset) == "closed"
        if self.reader.state.get(asset) != "live":
            return
        self.compared += 1
        if self.now_us <= self.excused[asset]:
            return
        if self.reader.books[asset] != self.truth(asset):
            done = [(d.at_us - START_US, d.kind, d.frame, d.assets) for d in self.exchange.menu.done[-6:]]
            raise WrongBook(
                f"{self.platform} seed {self.seed}: {asset} differs at {self.now_us - START_US} us: "
                f"{difference(self.reader.books[asset], self.truth(asset))}; bad {self.bad}; "
                f"faults {done}"
            )

    def go(self, seconds: float = 4.0) -> None:
        """Begin, suffer, heal: after the last fault every leg is live and equal within ten seconds."""
        self.until(START_US + 500_000)
        end_us = START_US + round(seconds * 1_000_000)
        while self.now_us < end_us:
            self.until(self.now_us + self.rng.randint(20_000, 200_000))
            kind = self.rng.choice(MENU[self.platform])
            asset = self.rng.choice([None, self.rng.choice(list(self.markets))])
            if kind == "close_market":
                if asset is None or len(self.ended | {asset}) > CLOSED:
                    continue
                self.ended.add(asset)
            wish: dict[str, Any] = {"kind": kind, "asset": asset, "value": VALUES.get(kind)}
            if kind in LASTING:
                wish["seconds"] = self.rng.uniform(0.05, 0.6)
            # Only this venue tells of halts.
            lost = kind == "halt" and self.platform == "kalshi" and self.rng.random() < 0.5
            if lost:
                wish["seconds"] = self.rng.uniform(0.6, 1.5)
            self.exchange.fault(Fault(**wish), self.now_us)
            self.faults[kind] = self.faults.get(kind, 0) + 1
            if lost:
                # A halt around a reconnect: told on the connection that goes, or while there is none.
                self.until(self.now_us + self.rng.randint(0, 60_000))
                self.exchange.fault(Fault(kind="reset"), self.now_us)
                self.faults["reset"] = self.faults.get("reset", 0) + 1
        self.exchange.menu.clear()
        self.exchange.refuse_until_us = 0
        healed_us = self.now_us + HEALED_US
        while (sick := self._sick()) and self.now_us < healed_us:
            self.until(self.now_us + 500_000)
        if ours := {kind: detail for kind, detail in self.first_bad.items() if kind in OUR_FAULTS}:
            raise AssertionError(f"{self.platform} seed {self.seed}: {ours}")
        if sick:
            raise NotHealed(
                f"{self.platform} seed {self.seed}: ten seconds after the last fault {sick}; bad {self.bad}"
            )
        self.resyncs = sum(
            message.get("state") == "resync"
            for _, message in self.reader.messages
            if message["type"] == "state"
        )

    def _sick(self) -> dict[str, str]:
        """Assets that are not live, or not the true book."""
        sick: dict[str, str] = {}
        for asset in self.markets:
            state = self.reader.state.get(asset, "unknown")
            if asset in self.ended and state != "live":
                # Whether the end was told or its frame was lost: it is not shown any more.
                continue
            if state != "live":
                sick[asset] = f"{state} ({self.reader.why.get(asset)})"
            elif self.reader.books[asset] != self.truth(asset):
                sick[asset] = "different"
        return sick

    def figures(self) -> Mapping[str, int]:
        """What happened."""
        return {
            "frames": self.frames,
            "faults": sum(self.faults.values()),
            "compared": self.compared,
            "resyncs": self.resyncs,
            "connections": self._opened,
            "closed": self.closed,
            "halts": self.halts,
            "halts_over_reconnects": len(self._held_over),
            "not_live_ms": self.down_us // 1000,
        }


def difference(have: tuple[dict[str, str], ...], want: tuple[dict[str, str], ...]) -> str:
    """Levels that differ: {price: (have, want)} per side."""
    return str(
        [
            {p: (a.get(p), b.get(p)) for p in sorted(a.keys() | b.keys()) if a.get(p) != b.get(p)}
            for a, b in zip(have, want, strict=True)
        ]
    )
