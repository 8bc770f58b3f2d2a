"""One venue's simulator against one connection's session and normaliser, on a virtual clock.

The duel also keeps account of what the reader can know: a frame that never arrived is known from the first
later frame that shows it (Kalshi: the next number of the sid; Polymarket: the next transaction of the
token). Until then a live book that differs is excused, afterwards never. Where Polymarket's hash cannot tell,
because a trade is late, lost or not told, the proof may take the two seconds that the reader grants.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from wup.model import Instrument
from wup.sim.exchange import Act, Exchange
from wup.sim.fixed import micro, short
from wup.sim.kalshi.protocol import KalshiExchange
from wup.sim.listed import build_world
from wup.sim.market import MarketModel
from wup.sim.polymarket.protocol import PolymarketExchange
from wup.sim.pump import advance, next_due_us
from wup.sim.world import KALSHI
from wup.venues.base import BookReplaced, LegChanged, RepairWanted
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wup.sim.engine import EngineEvent
    from wup.sim.faults import FaultMenu

START = 1_795_353_600_000_000
SECOND = 1_000_000
_RECONNECT_US = 200_000
_SILENT_US = 15 * SECOND
_DOUBT_US = 2_300_000
_LATE_TRADE_US = 150_000
_LOSSES = frozenset({"drop", "silence", "mute", "reorder", "half_open"})


class Duel:
    """A virtual connection, reconnecting as a real one would."""

    def __init__(self, venue: str, seed: int, *, rate: float = 400) -> None:
        self.model = MarketModel(build_world(), seed=seed, start_us=START, rate=rate)
        self.venue = venue
        self.exchange: Exchange = (
            KalshiExchange(self.model, seed=seed)
            if venue == KALSHI
            else PolymarketExchange(self.model, seed=seed)
        )
        self.assets = {market.listing.assets[0]: market for market in self.exchange.markets.values()}
        self.settings = VENUES[venue].settings()
        self.now_us = self.beat_us = self.heard_us = START
        self.states = dict.fromkeys(self.assets, "syncing")
        self.seen: Counter[str] = Counter()
        self.wrong: list[tuple[int, str]] = []
        self.compared = 0
        self.excused = 0
        """Comparisons that differed while the reader could not know."""
        self.excused_dead = 0
        """Those on an open socket that says nothing any more, found after 15 s without a frame."""
        self.unknown: set[str] = set()
        """Assets about which a frame was lost that no later frame has shown yet."""
        self.lost_now: set[str] = set()
        self.muddled: dict[str, int] = {}
        """Until when a token's hash cannot tell: trades late, lost or not told."""
        self.known_us: dict[str, int] = {}
        self.book_sid = 0
        self.held_us: dict[str, int] = {}
        self.longest_hold_us = 0
        self.dead = False
        self.reconnect_us: int | None = None
        tell = self.exchange.engine_event

        def told(event: EngineEvent) -> None:
            asset = event.market.listing.assets[0]
            before = asset in self.unknown
            self.lost_now.clear()
            tell(event)
            if event.fills:
                self.muddled[asset] = max(self.muddled.get(asset, 0), event.at_us + _LATE_TRADE_US)
            if before and event.changes and asset not in self.lost_now and venue != KALSHI:
                # This transaction arrived whole: its hash and best prices show that something is missing.
                if self.muddled.get(asset, 0) < event.at_us:
                    self.unknown.discard(asset)
                else:
                    self.known_us.setdefault(asset, event.at_us + _DOUBT_US)
            if event.at_us > self.known_us.get(asset, event.at_us):
                self.unknown.discard(asset)
                del self.known_us[asset]
            self.compare(event)
            self.lost_now.clear()

        self.exchange.engine_event = told  # type: ignore[method-assign]
        self.exchange.attach(lambda connection, items: self.deliver(items, connection))
        self.watch(self.exchange.menu)
        self.connect()

    # --- the connection -----------------------------------------------------------------------------

    def connect(self) -> None:
        parts = VENUES[self.venue]
        self.session: Any = parts.session(self.settings)
        self.reader: Any = parts.normaliser(self.session.open_info(), self.instruments())
        self.dead = False
        self.heard_us = self.now_us
        self.unknown.clear()
        self.connection = self.exchange.connect(self.now_us)
        self.seen["connections"] += 1
        self.send(self.session.opened(list(self.assets)))

    def lose(self, why: str) -> None:
        self.exchange.disconnect(self.connection)
        self.outputs(self.reader.closed(why))
        self.reconnect_us = self.now_us + _RECONNECT_US

    def instruments(self) -> dict[str, Instrument]:
        found = {}
        for asset, market in self.assets.items():
            named = market.listing.outcomes == ("Yes", "No")
            facts = {
                "neg_risk": "true" if named else "false",
                "min_order_size": "5",
                "tick": short(market.tick),
            }
            found[asset] = Instrument(self.venue, asset, market.listing.market_id, facts)
        return found

    def watch(self, menu: FaultMenu) -> None:
        """Learn of every frame that a fault takes away."""
        plain = menu.note

        def note(kind: str, now_us: int, *, frame: str = "", connection: str = "", assets: Any = ()) -> None:
            plain(kind, now_us, frame=frame, connection=connection, assets=assets)
            about = {asset for asset in self.assets if not assets or asset in assets}
            if kind in ("late_trade", "trade_on_no") or (kind in _LOSSES and frame in ("trade", "book")):
                self.muddled.update(dict.fromkeys(about, START * 2))
            if kind in _LOSSES and frame != "trade":
                self.unknown |= about
                self.lost_now |= about
                for asset in about:
                    self.known_us.pop(asset, None)

        menu.note = note  # type: ignore[method-assign]

    def send(self, frames: Sequence[str]) -> None:
        for frame in frames:
            self.outputs(self.reader.sent(frame.encode(), self.now_us) or [])
            if not self.dead:
                self.deliver(self.connection.client_frame(frame, self.now_us), self.connection)

    def deliver(self, items: Sequence[str | Act], connection: Any) -> None:
        for item in items:
            if connection is not self.connection or self.reconnect_us is not None or self.dead:
                return
            if isinstance(item, Act):
                if item.kind == "half_open":
                    self.dead = True
                elif item.kind != "slice":
                    self.lose("disconnected")
                continue
            self.heard_us = self.now_us
            self.seen["frames"] += 1
            raw = self.spoilt(item).encode()
            self.send(self.session.received(raw))
            self.outputs(self.reader.frame(raw, self.now_us))
            if self.venue == KALSHI:
                if '"channel":"orderbook_delta"' in item[:90]:
                    self.book_sid = int(item.rpartition('"sid":')[2].partition("}")[0])
                elif f'"sid":{self.book_sid},"seq":' in item[:80] and not self.lost_now:
                    # A frame that is delivered in the same breath as the loss may be an older one.
                    self.unknown.clear()

    def spoilt(self, text: str) -> str:
        """What the reader gets to see: everything. A subclass hides what one rule needs."""
        return text

    def outputs(self, items: Sequence[Any]) -> None:
        for item in items:
            self.seen[type(item).__name__] += 1
            if isinstance(item, BookReplaced):
                self.states[item.asset_id] = "live"
                for kept in (self.muddled, self.known_us):
                    kept.pop(item.asset_id, None)
                self.unknown.discard(item.asset_id)
            elif isinstance(item, LegChanged):
                self.states[item.asset_id] = item.state
            elif isinstance(item, RepairWanted):
                if item.why == "unrepaired":
                    self.lose("disconnected")
                else:
                    self.send(self.session.repair(item.assets))

    # --- comparing ----------------------------------------------------------------------------------

    def true_now(self, asset: str) -> bool:
        shown = self.reader.book(asset)
        if shown is None:
            return False
        mine = tuple([(micro(price), micro(size)) for price, size in side] for side in shown.levels())
        return mine == self.assets[asset].truth(asset)

    def compare(self, event: EngineEvent) -> None:
        """After all messages of a transaction were delivered."""
        asset = event.market.listing.assets[0]
        if self.states[asset] != "live":
            self.held_us.pop(asset, None)
            return
        if self.reader.book(asset) is None:
            # A transaction that the reader holds back is not shown; how long it does so is bounded.
            since = self.held_us.setdefault(asset, self.now_us)
            self.longest_hold_us = max(self.longest_hold_us, self.now_us - since)
            return
        self.held_us.pop(asset, None)
        self.compared += 1
        if self.true_now(asset):
            return
        if self.dead:
            self.excused_dead += 1
        elif asset in self.unknown:
            self.excused += 1
        else:
            self.wrong.append((event.at_us - START, asset))

    # --- time ---------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        end = self.now_us + round(seconds * SECOND)
        exchanges = {self.venue: self.exchange}
        while self.now_us < end:
            self.now_us = min(end, max(self.now_us, next_due_us(self.model, exchanges)), self.now_us + 20_000)
            advance(self.model, exchanges, self.now_us)
            if self.reconnect_us is not None:
                if self.now_us >= self.reconnect_us and self.exchange.refusal(self.now_us) is None:
                    self.reconnect_us = None
                    self.connect()
                continue
            self.outputs(self.reader.timer(self.now_us))
            if self.dead and self.now_us - self.heard_us > _SILENT_US:
                self.lose("venue_silent")
                continue
            beat = self.session.heartbeat_s
            if beat and self.now_us - self.beat_us >= beat * SECOND:
                self.beat_us = self.now_us
                text = self.session.heartbeat()
                if text is not None:
                    self.send([text])

    def settle(self, seconds: float = 5.0) -> bool:
        """Run until every book is live and true (the last moment may lie inside a transaction)."""
        end = self.now_us + round(seconds * SECOND)
        while not self.settled():
            if self.now_us >= end:
                return False
            self.run(0.02)
        return True

    def settled(self) -> bool:
        return all(self.states[asset] == "live" and self.true_now(asset) for asset in self.assets)
