"""One venue without I/O: connections that take client frames and engine events and give frames.

Time comes in as `now_us`; nothing here sleeps. Work that the venue does a little later waits in a queue
until `poll`. So the same code runs behind real sockets and on a virtual clock with memory sockets.
"""

from __future__ import annotations

import heapq
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wup.sim.engine import EngineEvent
from wup.sim.faults import CONNECTION_FAULTS, ENGINE_FAULTS, ONLY_KALSHI, ONLY_POLYMARKET, FaultMenu
from wup.sim.world import KALSHI, POLYMARKET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wup.sim.engine import Market
    from wup.sim.faults import Fault
    from wup.sim.market import MarketModel

_DATA = frozenset(
    {"snapshot", "delta", "book", "price_change", "trade", "ticker", "best", "tick", "lifecycle"}
)


@dataclass(frozen=True, slots=True)
class Act:
    """Something to do to the socket instead of sending a frame."""

    kind: Literal["close", "reset", "half_open", "slice"]
    code: int = 1000
    reason: str = ""
    seconds: float = 0.0


Output = str | Act


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer instead of an upgrade or a REST answer."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...] = ()


class Connection(ABC):
    """One client's conversation."""

    def __init__(self, name: str, menu: FaultMenu, rng: random.Random, now_us: int) -> None:
        self.name = name
        self.menu = menu
        self.rng = rng
        self.now_us = now_us
        self._out: list[Output] = []
        self._held: str | None = None
        self._jobs: list[tuple[int, int, Callable[[], None]]] = []
        self._job_number = 0

    # --- what the transport calls -------------------------------------------------------------------

    def client_frame(self, text: str, now_us: int) -> list[Output]:
        """Take a text frame from the client; what to send at once."""
        self.now_us = now_us
        self._received(text)
        return self._taken()

    def engine_event(self, event: EngineEvent) -> list[Output]:
        """Take a transaction; what to send about it."""
        self.now_us = max(self.now_us, event.at_us)
        self._happened(event)
        return self._taken()

    def poll(self, now_us: int) -> list[Output]:
        """Do what has become due."""
        self.now_us = max(self.now_us, now_us)
        while self._jobs and self._jobs[0][0] <= now_us:
            heapq.heappop(self._jobs)[2]()
        return self._taken()

    def next_due_us(self) -> int | None:
        """When `poll` has something to do, or None."""
        return self._jobs[0][0] if self._jobs else None

    # --- what a venue implements --------------------------------------------------------------------

    @abstractmethod
    def _received(self, text: str) -> None: ...

    @abstractmethod
    def _happened(self, event: EngineEvent) -> None: ...

    @abstractmethod
    def _strange(self, size: int) -> str:
        """A well-formed frame of a type that nobody knows, at least `size` long."""

    # --- what a venue uses --------------------------------------------------------------------------

    def _later(self, delay_us: int, job: Callable[[], None]) -> None:
        self._job_number += 1
        heapq.heappush(self._jobs, (self.now_us + delay_us, self._job_number, job))

    def act(self, act: Act) -> None:
        """Queue an act for the transport."""
        self._out.append(act)

    def _hit(self, kind: str, assets: tuple[str, ...] = (), frame: str = "") -> Fault | None:
        if not self.menu:
            return None
        return self.menu.hit(kind, self.now_us, assets, frame=frame, connection=self.name)

    def _send(self, text: str, kind: str, assets: tuple[str, ...] = ()) -> None:
        """Send a frame, through the frame faults when there are any."""
        if self.menu and kind in _DATA:
            self._bend(text, kind, assets)
        else:
            self._out.append(text)
        if self._held is not None and text is not self._held:
            self._out.append(self._held)
            self._held = None

    def _bend(self, text: str, kind: str, assets: tuple[str, ...]) -> None:
        if self._hit("silence", assets, kind) or self._hit("drop", assets, kind):
            return
        if self._hit("malformed", assets, kind):
            middle = len(text) // 2
            text = text[:middle] + '"}{,' + text[middle:]
        elif self._hit("truncate", assets, kind):
            text = text[: len(text) // 2]
        elif self._hit("unknown_field", assets, kind):
            text = text.replace("{", '{"not_yet_known":{"nested":["1",{"deep":null}]},', 1)
        if self._hit("unknown_type", assets, kind):
            self._out.append(self._strange(0))
        huge = self._hit("huge", assets, kind)
        if huge is not None:
            self._out.append(self._strange(huge.value if huge.value is not None else 2_000_000))
        if self._hit("duplicate", assets, kind):
            self._out.append(text)
        if self._held is None and self._hit("reorder", assets, kind):
            self._held = text
            return
        self._out.append(text)

    def _taken(self) -> list[Output]:
        out, self._out = self._out, []
        return out


class Exchange(ABC):
    """One venue: its connections, its faults, and the market model behind it."""

    platform: str
    ping_payload: str | None = None
    """What the venue puts into its protocol pings; None when it sends none."""
    ping_every_s = 10.0
    close_without_pong = False
    """Close a client that left a ping unanswered until the next one."""

    def __init__(self, model: MarketModel, *, seed: int) -> None:
        self.model = model
        self.menu = FaultMenu(self.platform)
        self.rng = random.Random(f"{seed}/{self.platform}")
        self.connections: dict[str, Connection] = {}
        self.refuse_until_us = 0
        self._connection_number = 0
        self._deliver: Callable[[Connection, list[Output]], None] = lambda connection, outputs: None
        self.markets = {
            market.listing.market_id: market
            for market in model.markets
            if market.listing.venue == self.platform
        }

    def attach(self, deliver: Callable[[Connection, list[Output]], None]) -> None:
        """Where the outputs of connections go."""
        self._deliver = deliver

    def connect(self, now_us: int) -> Connection:
        """A client has connected."""
        self._connection_number += 1
        connection = self._new(f"{self.platform}-{self._connection_number}", now_us)
        self.connections[connection.name] = connection
        return connection

    def disconnect(self, connection: Connection) -> None:
        """A client has gone."""
        self.connections.pop(connection.name, None)

    def engine_event(self, event: EngineEvent) -> None:
        """Tell every connection about a transaction of this venue."""
        for connection in list(self.connections.values()):
            outputs = connection.engine_event(event)
            if outputs:
                self._deliver(connection, outputs)

    def poll(self, now_us: int) -> None:
        """Do what has become due at every connection."""
        for connection in list(self.connections.values()):
            due = connection.next_due_us()
            if due is not None and due <= now_us:
                outputs = connection.poll(now_us)
                if outputs:
                    self._deliver(connection, outputs)

    def next_due_us(self) -> int | None:
        """The earliest time at which `poll` has something to do, or None."""
        dues = [due for item in self.connections.values() if (due := item.next_due_us()) is not None]
        return min(dues) if dues else None

    def refusal(self, now_us: int, *, rest: bool = False) -> Refusal | None:
        """What to answer instead of serving, while a fault says so."""
        if now_us < self.refuse_until_us and not rest:
            return Refusal(503, "maintenance", (("Retry-After", "5"),))
        if self.menu:
            if not rest and self.menu.hit("unauthorized", now_us, frame="handshake"):
                return Refusal(401, "unauthorized")
            if self.menu.hit("rate_limited", now_us, frame="rest" if rest else "handshake"):
                return self._too_many()
        return None

    def pings(self, now_us: int) -> bool:
        """Are protocol pings sent now?"""
        return not (self.menu and self.menu.hit("no_ping", now_us, frame="ping"))

    def market_of(self, asset: str | None) -> Market | None:
        """The market that an asset or market id names."""
        if asset is None:
            return next(iter(self.markets.values()), None)
        return self.markets.get(asset) or self.model.by_asset.get((self.platform, asset))

    # --- faults -------------------------------------------------------------------------------------

    def knows(self, fault: Fault) -> bool:
        """Does this kind of fault exist here?"""
        if fault.venue is not None and fault.venue != self.platform:
            return False
        return fault.kind not in (ONLY_POLYMARKET if self.platform == KALSHI else ONLY_KALSHI)

    def fault(self, fault: Fault, now_us: int) -> int:
        """Put a fault into force; its number on the menu, 0 when it was carried out at once.

        Raises:
            ValueError: the fault names an asset that does not exist.
        """
        if fault.asset is not None and self.market_of(fault.asset) is None:
            raise ValueError(f"no such asset at {self.platform}: {fault.asset}")
        if fault.kind in ENGINE_FAULTS:
            self._engine_fault(fault, now_us)
        elif fault.kind in CONNECTION_FAULTS and fault.kind not in (
            "unauthorized",
            "rate_limited",
            "no_ping",
        ):
            self._connection_fault(fault, now_us)
        else:
            return self.menu.add(fault, now_us)
        self.menu.note(fault.kind, now_us, assets=(fault.asset,) if fault.asset else ())
        return 0

    def _connection_fault(self, fault: Fault, now_us: int) -> None:
        seconds = fault.seconds if fault.seconds is not None else 10.0
        if fault.kind == "maintenance":
            self.refuse_until_us = now_us + round(seconds * 1_000_000)
            act = Act("close", 1012, "maintenance")
        elif fault.kind == "close":
            act = Act("close", fault.value if fault.value is not None else 1001, "going away")
        elif fault.kind == "slice":
            act = Act("slice", seconds=seconds)
        elif fault.kind == "half_open":
            act = Act("half_open")
        else:
            act = Act("reset")
        for connection in list(self.connections.values()):
            self._deliver(connection, [act])

    def _engine_fault(self, fault: Fault, now_us: int) -> None:
        market = self.market_of(fault.asset)
        if market is None:
            return
        model, seconds = self.model, fault.seconds if fault.seconds is not None else 5.0
        if fault.kind == "restart":
            model.paused_until[self.platform] = now_us + round(seconds * 1_000_000)
            return
        if fault.kind == "pause":
            model.cancel_only_until[self.platform] = now_us + round(seconds * 1_000_000)
            return
        if fault.kind == "close_market":
            self._close_script(market, now_us, fault.result, seconds)
            return

        def script(at_us: int) -> Iterator[EngineEvent]:
            if fault.kind == "burst":
                yield from model.burst(market, at_us, fault.value or 5)
            elif fault.kind == "tick_change":
                yield model.change_tick(market, at_us)
            elif fault.kind == "new_market":
                yield EngineEvent(market, market.stamp(at_us), "listed")
            elif market.status == "open":
                yield model.set_status(market, "halted", "halted", at_us)
                yield model.clear(market, at_us)

        model.at(now_us, script)

        def over(at_us: int) -> Iterator[EngineEvent]:
            # A market that ended meanwhile does not open again.
            if market.status == "halted":
                yield model.set_status(market, "open", "opened", at_us)

        if fault.kind == "halt":
            model.at(now_us + round(seconds * 1_000_000), over)

    # --- what a venue implements --------------------------------------------------------------------

    @abstractmethod
    def _new(self, name: str, now_us: int) -> Connection: ...

    @abstractmethod
    def _too_many(self) -> Refusal:
        """The venue's 429."""

    @abstractmethod
    def _close_script(self, market: Market, now_us: int, result: str, seconds: float) -> None:
        """Schedule the end of a market's life: closed now, determined and settled over `seconds`."""


def venue_names() -> tuple[str, ...]:
    """The venues that can be simulated."""
    return (KALSHI, POLYMARKET)
