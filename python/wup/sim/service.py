"""The simulators as a service: settings, start and stop, addresses, truth, faults."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from wup.clock import SYSTEM_CLOCK
from wup.config import EnvSettings, Port, is_loopback
from wup.errors import SettingsError
from wup.sim.control import router
from wup.sim.fixed import short
from wup.sim.httpserver import VenueHttpServer, application
from wup.sim.kalshi.auth import KeyPair
from wup.sim.kalshi.protocol import KalshiExchange
from wup.sim.kalshi.rest import KalshiRest
from wup.sim.listed import build_world
from wup.sim.mapping import pairs_of
from wup.sim.market import MarketModel
from wup.sim.polymarket.protocol import PolymarketExchange
from wup.sim.polymarket.rest import PolymarketRest
from wup.sim.pump import Pump
from wup.sim.socketserver import VenueSocketServer
from wup.sim.world import KALSHI, POLYMARKET

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.clock import Clock
    from wup.sim.exchange import Exchange
    from wup.sim.faults import Fault
    from wup.sim.mapping import Pair

_VENUES = (KALSHI, POLYMARKET)


class SimSettings(EnvSettings):
    """What to simulate and where. Port 0 is any free one."""

    sim_seed: int = 1
    sim_rate: Annotated[float, Field(gt=0, le=100_000)] = 300.0
    """Engine transactions per second, all markets together."""
    sim_extra_events: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Generated events beside the two named ones, listed on both venues."""
    sim_extra_outcomes: Annotated[int, Field(ge=1, le=200)] = 4
    """Outcomes of each generated event."""
    sim_depth: Annotated[int, Field(ge=0, le=9_999)] = 0
    """Levels of each book, both sides together, on as fine a grid as that takes; 0 = usual books."""
    sim_venues: Annotated[tuple[str, ...], NoDecode] = _VENUES
    sim_kalshi_ws_port: Port = 0
    sim_kalshi_http_port: Port = 0
    sim_polymarket_ws_port: Port = 0
    sim_polymarket_http_port: Port = 0
    sim_kalshi_key_path: Path | None = None
    """Where the client's private key is written (mode 0600); an existing file is read, never replaced."""
    sim_polymarket_idle_s: Annotated[float, Field(ge=0)] = 60.0
    """A client that sends nothing for so long is closed; 0 = never."""
    sim_buffer_bytes: Annotated[int, Field(ge=65_536)] = 32 * 2**20
    """What may wait for one slow client before its subscriptions end (Kalshi) or it is cut (Polymarket)."""
    sim_close_without_pong: bool = False
    """Does Kalshi close a client that does not answer its pings?"""
    bind_host: str = "127.0.0.1"

    @field_validator("sim_venues", mode="before")
    @classmethod
    def _comma_list(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("sim_venues")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= set(_VENUES):
            raise ValueError(f"must be one or more of {', '.join(_VENUES)}")
        return value

    @field_validator("bind_host")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if not is_loopback(value):
            raise ValueError("simulators listen on loopback only")
        return value


class Simulators:
    """Both venues over one market model. `start` before use, `stop` after."""

    def __init__(self, settings: SimSettings | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self.settings = settings if settings is not None else SimSettings()
        self.clock = clock
        chosen = self.settings
        self.world = build_world(chosen.sim_extra_events, outcomes_per_event=chosen.sim_extra_outcomes)
        self.model = MarketModel(
            self.world,
            seed=chosen.sim_seed,
            start_us=clock.now_us(),
            rate=chosen.sim_rate,
            depth=chosen.sim_depth,
        )
        self.exchanges: dict[str, Exchange] = {}
        if KALSHI in chosen.sim_venues:
            kalshi = KalshiExchange(self.model, seed=chosen.sim_seed)
            kalshi.close_without_pong = chosen.sim_close_without_pong
            self.exchanges[KALSHI] = kalshi
        if POLYMARKET in chosen.sim_venues:
            self.exchanges[POLYMARKET] = PolymarketExchange(
                self.model, seed=chosen.sim_seed, idle_us=round(chosen.sim_polymarket_idle_s * 1_000_000)
            )
        self.pairs: list[Pair] = pairs_of(self.world, chosen.sim_venues)
        """The unified truth: one entry per outcome, with its legs on the chosen venues."""
        self.pump = Pump(self.model, self.exchanges, clock)
        self._key: KeyPair | None = None
        self._key_path: Path | None = None
        self._scratch: Path | None = None
        self._sockets: dict[str, VenueSocketServer] = {}
        self._https: dict[str, VenueHttpServer] = {}

    async def start(self) -> None:
        """Make the key, listen on all ports, let the markets run.

        Raises:
            PortInUse: a port is taken; names the setting.
            SettingsError: the key file cannot be used.
        """
        host, chosen = self.settings.bind_host, self.settings
        ports = {
            KALSHI: (chosen.sim_kalshi_ws_port, chosen.sim_kalshi_http_port),
            POLYMARKET: (chosen.sim_polymarket_ws_port, chosen.sim_polymarket_http_port),
        }
        try:
            if KALSHI in self.exchanges:
                self._make_key()
            for name, exchange in self.exchanges.items():
                path = "/trade-api/ws/v2" if name == KALSHI else "/ws/market"
                sockets = VenueSocketServer(
                    exchange,
                    self.clock,
                    path=path,
                    arm=self.pump.arm,
                    key=self._key if name == KALSHI else None,
                    buffer_bytes=chosen.sim_buffer_bytes,
                )
                await sockets.start(host, ports[name][0], f"SIM_{name.upper()}_WS_PORT")
                self._sockets[name] = sockets
                https = VenueHttpServer(
                    application(exchange, self.clock, self._routes(exchange), router(self))
                )
                await https.start(host, ports[name][1], f"SIM_{name.upper()}_HTTP_PORT")
                self._https[name] = https
        except BaseException:
            await self.stop()
            raise
        self.pump.start()

    async def stop(self) -> None:
        """Stop everything and remove what was written. May be called twice."""
        self.pump.stop()
        await asyncio.gather(
            *(sockets.stop() for sockets in self._sockets.values()),
            *(https.stop() for https in self._https.values()),
        )
        self._sockets.clear()
        self._https.clear()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def env(self) -> dict[str, str]:
        """The variables that lead the stages to these simulators (architecture.md section 4)."""
        host = self.settings.bind_host
        host = f"[{host}]" if ":" in host else host
        found: dict[str, str] = {}
        if KALSHI in self._sockets and self._key is not None:
            sockets = self._sockets[KALSHI]
            found["KALSHI_WS_URL"] = f"ws://{host}:{sockets.port}{sockets.path}"
            found["KALSHI_API_URL"] = f"http://{host}:{self._https[KALSHI].port}/trade-api/v2"
            found["KALSHI_API_KEY_ID"] = self._key.key_id
            found["KALSHI_PRIVATE_KEY_PATH"] = str(self._key_path)
        if POLYMARKET in self._sockets:
            sockets = self._sockets[POLYMARKET]
            found["POLYMARKET_WS_URL"] = f"ws://{host}:{sockets.port}{sockets.path}"
            for name in ("POLYMARKET_CLOB_URL", "POLYMARKET_GAMMA_URL"):
                found[name] = f"http://{host}:{self._https[POLYMARKET].port}"
        return found

    def control_url(self) -> str:
        """Base address of the `/_sim` routes."""
        host = self.settings.bind_host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{next(iter(self._https.values())).port}/_sim"

    def slugs(self) -> list[str]:
        """Every event as `EVENT_SLUG` takes it: `platform:slug`."""
        return [f"{name}:{event.slug}" for name in self.exchanges for event in self.world.events(name)]

    def truth(self, platform: str, asset: str, at_us: int | None = None) -> dict[str, list[list[str]]] | None:
        """The true book of an asset, in its own coordinates, best first.

        `at_us` is an engine time; the answer is the book after the last transaction up to the end of its
        millisecond (venues stamp in milliseconds, and no two transactions of a market share one). Without
        `at_us`: now. None for an unknown asset, and for a time before the kept history.
        """
        market = self.model.by_asset.get((platform, asset))
        book = market.truth(asset, at_us) if market is not None else None
        if book is None:
            return None
        bids, asks = ([[short(price), short(size)] for price, size in side] for side in book)
        return {"bids": bids, "asks": asks}

    def fault(self, fault: Fault) -> list[dict[str, Any]]:
        """Put a fault into force at every venue that it concerns.

        Raises:
            ValueError: no venue has this fault or this asset.
        """
        concerned, now_us = self.concerned(fault), self.clock.now_us()
        added = [{"platform": item.platform, "id": item.fault(fault, now_us)} for item in concerned]
        self.pump.arm()
        return added

    def concerned(self, fault: Fault) -> list[Exchange]:
        """The venues that a fault would strike.

        Raises:
            ValueError: no venue has this fault or this asset.
        """
        found = [
            exchange
            for exchange in self.exchanges.values()
            if exchange.knows(fault) and (fault.asset is None or exchange.market_of(fault.asset) is not None)
        ]
        if not found:
            raise ValueError(f"no simulated venue has fault {fault.kind} for {fault.asset or 'any asset'}")
        return found

    def _routes(self, exchange: Exchange) -> Any:
        if isinstance(exchange, KalshiExchange):
            return KalshiRest(exchange, self.clock.now_us, self._key).router()
        if isinstance(exchange, PolymarketExchange):
            return PolymarketRest(exchange, self.clock.now_us).router()
        raise TypeError(f"no REST routes for {exchange.platform}")

    def _make_key(self) -> None:
        path = self.settings.sim_kalshi_key_path
        if path is not None and path.exists():
            try:
                self._key = KeyPair(pem=path.read_bytes())
            except (OSError, ValueError, TypeError) as error:
                raise SettingsError(
                    [f"SIM_KALSHI_KEY_PATH: {path} is no RSA private key ({error})"]
                ) from None
            self._key_path = path
            return
        self._key = KeyPair()
        if path is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="wup-sim-"))
            path = self._scratch / "kalshi.pem"
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(self._key.private_pem())
        except OSError as error:
            raise SettingsError(
                [f"SIM_KALSHI_KEY_PATH: {path} cannot be written ({error.strerror})"]
            ) from None
        self._key_path = path


async def run(settings: SimSettings, ready: Callable[[dict[str, Any]], None], stop: asyncio.Event) -> None:
    """Serve until `stop`; `ready` gets the addresses once everything listens.

    Raises:
        PortInUse: a port is taken; names the setting.
        SettingsError: the key file cannot be used.
    """
    simulators = Simulators(settings)
    await simulators.start()
    try:
        ready(
            {
                "type": "ready",
                **simulators.env(),
                "sim": simulators.control_url(),
                "events": simulators.slugs(),
                "seed": settings.sim_seed,
            }
        )
        await stop.wait()
    finally:
        await simulators.stop()
