"""One reconnecting WebSocket loop. Knows no venue: what to say comes from the session, what is heard
goes to the bus byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from wup import backoff, logs, subjects
from wup.metrics import CONNECTIONS, FRAMES, RECONNECTS
from wup.raw import Kind, Meta
from wup.venues.base import Limits, Session, VenueUnavailable

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from wup.bus import Bus
    from wup.clock import Clock

_MAX_FRAME = 32 * 1024 * 1024
_PING_S = 5.0
_TCP_USER_TIMEOUT_MS = 10_000
_HEALTHY_S = 60.0
_UNAVAILABLE_RETRY_S = 30.0
_NO_CONNECTION = "none.0"


class Connection:
    """One place in the supervisor's plan: a set of assets, and the socket that serves them.

    Each opened socket has an id of its own, `{name}.{epoch ms}`, a fresh session and a counter from 1.
    """

    def __init__(
        self,
        name: str,
        make_session: Callable[[], Session],
        bus: Bus,
        clock: Clock,
        limits: Limits,
        rng: random.Random,
    ) -> None:
        self.name = name
        self._make_session = make_session
        self._session = make_session()
        self.platform = self._session.platform
        self._bus = bus
        self._clock = clock
        self._limits = limits
        self._rng = rng
        self._assets: list[str] = []
        self._ws: ClientConnection | None = None
        self._id = f"{name}.0"
        self._subject = subjects.raw_connection(self.platform, self._id)
        self._epoch = 0
        self._n = 0
        self._heard = 0.0
        self._silent = False
        self._why = "disconnected"
        self._changed = asyncio.Event()
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    # --- what the supervisor says ------------------------------------------------------------------

    @property
    def assets(self) -> Sequence[str]:
        """The assets this connection is to carry."""
        return self._assets

    @property
    def id(self) -> str:
        """The present socket's id, `{name}.{epoch ms}`."""
        return self._id

    @property
    def open(self) -> bool:
        """Is a socket up?"""
        return self._ws is not None

    def want(self, assets: Sequence[str]) -> None:
        """Carry exactly `assets` from now on."""
        self._assets = list(assets)
        if self._ws is not None:
            self._say(self._session.want(self._assets))

    def repair(self, assets: Sequence[str]) -> None:
        """Make the venue send fresh books of these of our assets."""
        mine = set(self._assets)
        wanted = [asset for asset in assets if asset in mine]
        if wanted and self._ws is not None:
            self._say(self._session.repair(wanted))

    def replace(self, why: str) -> None:
        """Close this socket; the loop opens the next one."""
        self._why = why
        ws = self._ws
        if ws is not None:
            # A half-open socket would hold a polite close for its whole timeout.
            ws.transport.abort()

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run(), name=f"connection-{self.name}")

    async def stop(self) -> None:
        """Close the socket and end; its legs go down."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def mark(self) -> None:
        """Publish the running counter, so that a lost last frame is found (wire.md section 2)."""
        if self._ws is not None:
            # A normalizer that starts later adopts the connection by what it was opened with.
            body = {"type": "marks", "n": self._n, "open": self._session.open_info()}
            self._record("marks", orjson.dumps(body), self._clock.now_us())

    # --- the loop ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        attempt = 0
        while True:
            began = self._clock.monotonic()
            wait: float | None = None
            try:
                await self._once()
            except VenueUnavailable as problem:
                self._log(problem.why, problem.detail)
                self._verdict(problem.why)
                wait = _UNAVAILABLE_RETRY_S
            except InvalidStatus as problem:
                status = problem.response.status_code
                self._log("refused", f"HTTP {status}")
                self._verdict("disconnected")
                after = problem.response.headers.get("Retry-After", "")
                wait = float(after) if after.isdigit() else None
            except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ConnectionClosed) as problem:
                self._log("unreachable", repr(problem))
                self._verdict("disconnected")
            except Exception as problem:
                # Whatever it was, a venue is never given up.
                logs.bad_input("aggregator", self.platform, "connection_error", repr(problem))
                self._verdict("disconnected")
            healthy = self._clock.monotonic() - began >= _HEALTHY_S
            attempt = 0 if healthy else attempt + 1
            if wait is None:
                wait = (
                    self._rng.uniform(0, 0.25) if healthy else backoff.full_jitter(attempt, self._rng.uniform)
                )
            RECONNECTS.labels(self.platform, self._why).inc()
            await asyncio.sleep(wait)

    async def _once(self) -> None:
        session = self._session = self._make_session()
        url, headers = await session.handshake()
        async with connect(
            url,
            additional_headers=headers,
            compression=None,
            max_size=_MAX_FRAME,
            max_queue=4096,
            ping_interval=None,
            open_timeout=10,
            close_timeout=1,
        ) as ws:
            self._opened(ws, session)
            jobs = {"watch": self._watch(ws), "send": self._send(ws)}
            if session.heartbeat_s is not None:
                jobs["beat"] = self._beat(session, session.heartbeat_s)
            tasks = [asyncio.create_task(job, name=f"{what}-{self.name}") for what, job in jobs.items()]
            for task in tasks:
                task.add_done_callback(self._job_ended)
            try:
                await self._read(ws, session)
            except ConnectionClosed as closed:
                if self._why == "disconnected":
                    self._log("closed", str(closed))
            finally:
                self._ws = None
                CONNECTIONS.labels(self.platform).dec()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                body = orjson.dumps({"why": self._why})
                self._record("close", body, self._clock.now_us())

    def _job_ended(self, task: asyncio.Task[None]) -> None:
        """A socket without its watcher, sender or heartbeat is not to be trusted: a new one."""
        if not task.cancelled() and self._ws is not None:
            problem = task.exception()
            if problem is not None and not isinstance(problem, ConnectionClosed):
                logs.bad_input("aggregator", self.platform, "connection_error", repr(problem))
            self.replace(self._why)

    def _opened(self, ws: ClientConnection, session: Session) -> None:
        with contextlib.suppress(OSError, AttributeError):
            ws.transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS
            )
        now_us = self._clock.now_us()
        self._epoch = max(self._epoch + 1, now_us // 1000)
        self._id = f"{self.name}.{self._epoch}"
        self._subject = subjects.raw_connection(self.platform, self._id)
        self._n = 0
        self._why = "disconnected"
        self._silent = False
        self._heard = self._clock.monotonic()
        self._outbox = asyncio.Queue()
        self._ws = ws
        CONNECTIONS.labels(self.platform).inc()
        self._record("open", orjson.dumps(session.open_info()), now_us)
        self._say(session.opened(self._assets))

    async def _read(self, ws: ClientConnection, session: Session) -> None:
        clock, bus, platform = self._clock, self._bus, self.platform
        counter = FRAMES.labels(platform)
        while True:
            raw = await ws.recv(decode=False)
            rx_us = clock.now_us()
            self._heard = clock.monotonic()
            self._n += 1
            counter.inc()
            asset = session.asset_of(raw)
            subject = self._subject if asset is None else subjects.raw(platform, asset)
            bus.publish(subject, raw, Meta("frame", platform, self._id, rx_us, self._n).headers())
            if asset is None:
                self._say(session.received(raw))

    async def _send(self, ws: ClientConnection) -> None:
        while True:
            text = await self._outbox.get()
            self._record("sent", text.encode(), self._clock.now_us())
            await ws.send(text)

    async def _beat(self, session: Session, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            text = session.heartbeat()
            if text is not None:
                self._say([text])

    async def _watch(self, ws: ClientConnection) -> None:
        """No frame and no pong for a while: legs down, then a new socket (reliability.md G3)."""
        while True:
            asyncio.ensure_future(await ws.ping()).add_done_callback(self._ponged)
            deadline = self._clock.monotonic() + _PING_S
            while self._clock.monotonic() < deadline:
                await asyncio.sleep(0.5)
                quiet = self._clock.monotonic() - self._heard
                if quiet >= self._limits.silent_replace_s:
                    self.replace("venue_silent")
                elif quiet >= self._limits.silent_down_s and not self._silent:
                    self._silent = True
                    self._log("venue_silent", f"{quiet:.1f} s")
                    self._verdict("venue_silent")
                elif self._silent and quiet < self._limits.silent_down_s:
                    # What was lost meanwhile is unknown: only fresh books make the legs live again.
                    self._silent = False
                    self._say(self._session.repair(self._assets))

    def _ponged(self, pong: asyncio.Future[float]) -> None:
        if not pong.cancelled() and pong.exception() is None:
            self._heard = self._clock.monotonic()

    # --- records -----------------------------------------------------------------------------------

    def _say(self, frames: Sequence[str]) -> None:
        for text in frames:
            self._outbox.put_nowait(text)

    def _record(self, kind: Kind, payload: bytes, rx_us: int) -> None:
        meta = Meta(kind, self.platform, self._id, rx_us, self._n)
        self._bus.publish(self._subject, payload, meta.headers())

    def _verdict(self, why: str) -> None:
        """All our legs are down; without a socket the verdict is nobody's in particular."""
        connection = self._id if self._ws is not None else _NO_CONNECTION
        meta = Meta("verdict", self.platform, connection, self._clock.now_us(), self._n)
        body = orjson.dumps({"assets": self._assets, "state": "down", "why": why})
        self._bus.publish(subjects.raw_connection(self.platform, connection), body, meta.headers())

    def _log(self, event: str, detail: str) -> None:
        logs.log("aggregator").warning(
            event, platform=self.platform, connection=self.name, detail=logs.clean(detail)
        )
