"""One reconnecting WebSocket loop. Knows no venue: what to say comes from the session, what is heard
goes to the bus byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

import orjson

from wup import backoff, logs, subjects
from wup.aggregator.expectation import Expectation
from wup.aggregator.socket import Refused, Unreachable, VenueSocket, open_socket
from wup.metrics import CONNECTIONS, FRAMES, RECONNECTS, VERDICTS
from wup.raw import Kind, Meta
from wup.venues.base import Limits, Session, VenueUnavailable

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Sequence

    from wup.aggregator.gate import Gate
    from wup.bus import Bus
    from wup.clock import Clock

_TICK_S = 0.5
_STALLED_S = 2.0
"""A tick that comes this late means that we stood still, not the venue."""
_HEALTHY_S = 60.0
_UNAVAILABLE_RETRY_S = 30.0
_NO_CONNECTION = "none.0"
_REASONS = {401: "no_credentials", 403: "no_credentials", 503: "maintenance"}
"""What a refused upgrade says about the legs; every other status is `disconnected`."""


class Connection:
    """One place in the supervisor's plan: a set of assets, and the socket that serves them.

    Each opened socket has an id of its own, `{name}.{epoch ms}`, a fresh session and a counter from 1.

    Args:
        elsewhere: the assets that another open connection carries: their legs are not ours to take down.
        activity: frames per asset, shared by the connections of a venue.
    """

    def __init__(
        self,
        name: str,
        make_session: Callable[[], Session],
        bus: Bus,
        clock: Clock,
        limits: Limits,
        rng: random.Random,
        gate: Gate,
        *,
        activity: dict[str, int],
        elsewhere: Callable[[Connection], Collection[str]] = lambda connection: (),
    ) -> None:
        self.name = name
        self._make_session = make_session
        self._session = make_session()
        self.platform = self._session.platform
        self._bus = bus
        self._clock = clock
        self._limits = limits
        self._rng = rng
        self._gate = gate
        self._activity = activity
        self._elsewhere = elsewhere
        self._assets: list[str] = []
        self._socket: VenueSocket | None = None
        self._id = f"{name}.0"
        self._subject = subjects.raw_connection(self.platform, self._id)
        self._epoch = 0
        self._n = 0
        self._frames = FRAMES.labels(self.platform)
        self._opened_at = 0.0
        self._spoken = False
        self._silent = False
        self._why = "disconnected"
        self._hole = False
        self._bare: set[str] = set()
        self._data = 0
        self._usual = Expectation(clock.monotonic())
        self._outbox: deque[str] = deque()
        self._flushing: asyncio.Handle | None = None
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
        return self._socket is not None

    @property
    def open_s(self) -> float:
        """For how long the present socket is up."""
        return self._clock.monotonic() - self._opened_at if self._socket is not None else 0.0

    def has_book(self, asset: str) -> bool:
        """Has the venue sent the whole book of one of our assets on the present socket?"""
        return self._socket is not None and asset not in self._bare

    @property
    def frames_per_s(self) -> float:
        """Frames about assets that it usually brings."""
        return self._usual.per_second

    def want(self, assets: Sequence[str]) -> None:
        """Carry exactly `assets` from now on."""
        fresh = set(assets).difference(self._assets)
        self._assets = list(assets)
        self._bare = self._bare.intersection(assets) | fresh
        if self._socket is not None:
            self._say(self._session.want(self._assets))

    def repair(self, assets: Sequence[str]) -> None:
        """Make the venue send fresh books of these of our assets."""
        mine = set(self._assets)
        wanted = [asset for asset in assets if asset in mine]
        if wanted and self._socket is not None:
            self._say(self._session.repair(wanted))

    def replace(self, why: str) -> None:
        """Close this socket; the loop opens the next one."""
        self._why = why
        if self._socket is not None:
            self._socket.abort(why)

    def lost(self) -> None:
        """Records were lost on the way to the readers that we cannot know of: the counter tells them."""
        self._hole = True

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
        if self._socket is not None:
            # A normalizer that starts later adopts the connection by what it was opened with.
            body = {"type": "marks", "n": self._n + self._hole, "open": self._session.open_info()}
            self._record("marks", orjson.dumps(body), self._clock.now_us())

    # --- the loop ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        attempt = 0
        while True:
            wait: float | None = None
            self._opened_at = 0.0
            self._spoken = False
            number = await self._gate.enter()
            try:
                await self._once()
            except asyncio.CancelledError:
                self._gate.left(number)
                raise
            except VenueUnavailable as problem:
                self._gate.left(number)
                self._log(problem.why, problem.detail)
                self._down(problem.why)
                wait = _UNAVAILABLE_RETRY_S
            except Refused as refused:
                self._gate.failed(number, refused.retry_after_s)
                self._log("refused", str(refused))
                self._down(_REASONS.get(refused.status, "disconnected"))
                # The venue's own word wins over ours, both ways.
                wait = None if refused.retry_after_s is None else 0.0
            except Unreachable as problem:
                self._gate.failed(number, None)
                self._log("unreachable", str(problem))
                self._down("disconnected")
            except Exception as problem:
                # Whatever it was, a venue is never given up.
                self._gate.failed(number, None)
                logs.bad_input("aggregator", self.platform, "connection_error", repr(problem))
                self._down("disconnected")
            else:
                if not self._spoken:
                    self._gate.failed(number, None)
            lived = self._clock.monotonic() - self._opened_at if self._opened_at else 0.0
            healthy = lived >= _HEALTHY_S
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
        jobs: list[asyncio.Task[None]] = []
        try:
            venue = await open_socket(url, headers, self, self._clock)
            jobs.append(asyncio.create_task(self._watch(venue), name=f"watch-{self.name}"))
            if session.heartbeat_s is not None:
                beat = self._beat(session, session.heartbeat_s)
                jobs.append(asyncio.create_task(beat, name=f"beat-{self.name}"))
            for job in jobs:
                job.add_done_callback(self._job_ended)
            await venue.wait_closed()
            if self._why == "disconnected":
                self._log("closed", venue.ended)
        finally:
            if self._socket is not None:
                self._socket.abort("stopped")
                self._socket = None
                CONNECTIONS.labels(self.platform).dec()
                self._outbox.clear()
                body = orjson.dumps({"why": self._why})
                self._record("close", body, self._clock.now_us())
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    def _job_ended(self, task: asyncio.Task[None]) -> None:
        """A socket without its watcher or heartbeat is not to be trusted: a new one."""
        if not task.cancelled() and self._socket is not None:
            problem = task.exception()
            if problem is not None:
                logs.bad_input("aggregator", self.platform, "connection_error", repr(problem))
            self.replace(self._why)

    # --- what the socket tells ---------------------------------------------------------------------

    def opened(self, venue: VenueSocket) -> None:
        """A new socket: nothing of the last one holds any more."""
        now_us = self._clock.now_us()
        self._epoch = max(self._epoch + 1, now_us // 1000)
        self._id = f"{self.name}.{self._epoch}"
        self._subject = subjects.raw_connection(self.platform, self._id)
        self._n = 0
        self._hole = False
        self._why = "disconnected"
        self._silent = False
        self._opened_at = self._clock.monotonic()
        self._bare = set(self._assets)
        self._data = 0
        self._usual = Expectation(self._opened_at)
        self._outbox.clear()
        self._socket = venue
        CONNECTIONS.labels(self.platform).inc()
        self._record("open", orjson.dumps(self._session.open_info()), now_us)
        self._say(self._session.opened(self._assets))

    def frame(self, raw: bytes, rx_us: int) -> None:
        """One frame, as it came."""
        if self._socket is None:
            return
        if not self._spoken:
            self._spoken = True
            self._gate.succeeded()
        try:
            session, platform = self._session, self.platform
            self._n += 1 + self._hole
            self._hole = False
            self._frames.inc()
            asset = session.asset_of(raw)
            if asset is None:
                subject = self._subject
            else:
                subject = subjects.raw(platform, asset)
                self._data += 1
                self._activity[asset] = self._activity.get(asset, 0) + 1
            # A frame that the bus could not take leaves a hole in the counter, which the reader finds; a book
            # in it was not given.
            headers = Meta("frame", platform, self._id, rx_us, self._n).headers()
            if self._bus.publish(subject, raw, headers) and self._bare:
                self._bare.difference_update(session.books_of(raw))
            if asset is None:
                self._say(session.received(raw))
        except Exception as problem:
            logs.bad_input("aggregator", self.platform, "connection_error", repr(problem))
            self.replace(self._why)

    # --- jobs of an open socket --------------------------------------------------------------------

    async def _beat(self, session: Session, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            text = session.heartbeat()
            if text is not None:
                self._say([text])

    async def _watch(self, venue: VenueSocket) -> None:
        """Pings, and what silence means: of everything (reliability.md G3), and of the data alone."""
        clock, limits = self._clock, self._limits
        ping_at = last = clock.monotonic()
        while True:
            now = clock.monotonic()
            if now >= ping_at:
                venue.ping()
                ping_at = now + limits.ping_s
            await asyncio.sleep(_TICK_S)
            now = clock.monotonic()
            if now - last > _STALLED_S:
                # What came meanwhile is still to be read.
                venue.heard = max(venue.heard, now - _TICK_S)
            last = now
            self._listen(now - venue.heard)
            if not self._spoken and self._assets and self.open_s >= self._mute_s():
                # It answers pings, but nobody is served: the breaker waits for its first word.
                self.replace("venue_silent")
            self._expect(now)

    def _mute_s(self) -> float:
        """How long a new socket may say nothing: first books, and answers to two heartbeats, are over."""
        return max(self._limits.first_book_s, 2 * (self._session.heartbeat_s or 0.0))

    def _listen(self, quiet: float) -> None:
        if quiet >= self._limits.silent_replace_s:
            self.replace("venue_silent")
        elif quiet >= self._limits.silent_down_s:
            if not self._silent:
                self._silent = True
                self._log("venue_silent", f"{quiet:.1f} s")
                self._down("venue_silent")
        elif self._silent:
            # What was lost meanwhile is unknown: only fresh books make the legs live again.
            self._silent = False
            self._say(self._session.repair(self._assets))

    def _expect(self, now: float) -> None:
        """Data that usually comes does not: one fresh book is asked for, and if even that does not come the
        subscription is dead, whatever the heartbeats say."""
        usual = self._usual
        usual.count(self._data, now)
        if usual.overdue(now) and self._assets and not self._silent:
            usual.ask(now)
            busiest = max(self._assets, key=lambda asset: self._activity.get(asset, 0))
            self._say(self._session.repair([busiest]))
        elif usual.asked is not None and now - usual.asked >= self._limits.first_book_s:
            self._log("venue_silent", f"no data, and none when asked, {now - usual.asked:.1f} s")
            self._down("venue_silent")
            self.replace("venue_silent")

    # --- records -----------------------------------------------------------------------------------

    def _say(self, frames: Sequence[str]) -> None:
        """Send soon: a request that a frame brings about must be recorded after that frame."""
        if frames:
            self._outbox.extend(frames)
            if self._flushing is None:
                self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        venue = self._socket
        while self._outbox and venue is not None:
            text = self._outbox.popleft()
            self._record("sent", text.encode(), self._clock.now_us())
            venue.send(text)

    def _record(self, kind: Kind, payload: bytes, rx_us: int) -> None:
        hole = self._hole and kind in ("marks", "close")
        meta = Meta(kind, self.platform, self._id, rx_us, self._n + hole)
        if not self._bus.publish(self._subject, payload, meta.headers()):
            # Nobody counts these: the reader is told by a number that is missing among the frames.
            self._hole = True
        elif hole:
            # Told: what is lost after this is another hole.
            self._n += 1
            self._hole = False

    def _down(self, why: str) -> None:
        """All our legs are down; without a socket the verdict is nobody's in particular."""
        connection = self._id if self._socket is not None else _NO_CONNECTION
        others = self._elsewhere(self) if self._socket is None else ()
        assets = [asset for asset in self._assets if asset not in others]
        if not assets:
            return
        VERDICTS.labels(self.platform, "down", why).inc(len(assets))
        meta = Meta("verdict", self.platform, connection, self._clock.now_us(), self._n)
        body = orjson.dumps({"assets": assets, "state": "down", "why": why})
        subject = subjects.raw_connection(self.platform, connection)
        if not self._bus.publish(subject, body, meta.headers()):
            self._hole = True

    def _log(self, event: str, detail: str) -> None:
        self._gate.tell(event, self.name, detail)
