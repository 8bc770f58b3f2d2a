"""A verified feed: connects, subscribes, checks every digest and every heartbeat count, repairs itself."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as ws_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from wup._core import CoreError
from wup.backoff import full_jitter
from wup.client.book import LiveBook
from wup.client.event import Event
from wup.client.routes import StreamKey, belongs, head
from wup.client.subscription import Subscription
from wup.errors import WupError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

DEFAULT_URL = "ws://127.0.0.1:8082/ws"
_SILENT_S = 5.0
_OPEN_S = 10.0
_MAX_MESSAGE = 64 * 1024 * 1024
_RESYNC_DELAY_S = 0.05
_RESYNC_DELAY_MAX_S = 5.0
_RESYNC_AT_ONCE = 200
_FATAL_CLOSES = frozenset({1002, 1003, 1007, 1009, 4400, 4401, 4403})
_FATAL_STATUSES = frozenset({400, 401, 403, 404, 421, 426})
_RATE_CLOSE = 4429
_RATE_WAIT_S = 10.0
_BOOK_KINDS = frozenset({"snapshot", "delta", "status"})


class FeedError(WupError):
    """The feed ended, and trying again would not help."""


class Refused(FeedError):
    """The gateway answered an operation with an error of wire.md section 4 rule 7."""

    def __init__(self, code: str, message: str, at: int | None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.at = at


@dataclass(slots=True)
class Stats:
    """What a feed has seen. `mismatches` are digests that did not agree: always 0, or something is wrong."""

    messages: int = 0
    mismatches: int = 0
    gaps: int = 0
    heartbeats: int = 0
    count_mismatches: int = 0
    connects: int = 0


def connect(
    url: str = DEFAULT_URL,
    token: str | None = None,
    *,
    uniform: Callable[[float, float], float] | None = None,
) -> Feed:
    """A feed of the gateway at `url`; use it with `async with`.

    `token` is sent as `Authorization: Bearer`. `uniform` replaces the random source of the reconnect jitter.
    """
    return Feed(url, token, uniform or random.Random().uniform)  # noqa: S311


class Feed:
    """One connection, kept up, and the books on it.

    Raises:
        FeedError: on entering, when the gateway refuses this client or cannot be reached in ten seconds.
    """

    def __init__(self, url: str, token: str | None, uniform: Callable[[float, float], float]) -> None:
        self.url = url
        self.books: dict[StreamKey, LiveBook] = {}
        self.stats = Stats()
        self._token = token
        self._uniform = uniform
        self._subscriptions: list[Subscription] = []
        self._routes: dict[StreamKey, list[Subscription]] = {}
        self._assets: dict[str, frozenset[str]] = {}
        self._with_options = False
        self._ws: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._fatal: FeedError | None = None
        self._last_problem = "no answer"
        self._next_id = 0
        self._answers: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._doubtful: set[str] = set()
        self._resync_timer: asyncio.TimerHandle | None = None
        self._senders: set[asyncio.Task[None]] = set()
        self._resync_delay = _RESYNC_DELAY_S
        self._count = 0

    async def __aenter__(self) -> Feed:
        self._task = asyncio.create_task(self._run(), name="wup-feed")
        up = asyncio.create_task(self._up.wait())
        try:
            await asyncio.wait({up, self._task}, timeout=_OPEN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if self._fatal is not None or not self._up.is_set():
            await self.close()
            raise self._fatal or FeedError(f"{self.url}: {self._last_problem}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect and end all subscriptions."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._senders, return_exceptions=True)
            self._task = None
        if self._resync_timer is not None:
            self._resync_timer.cancel()
        for subscription in self._subscriptions:
            subscription.end()

    @property
    def connected(self) -> bool:
        """Is there a connection now?"""
        return self._ws is not None

    def book(self, book: str, depth: int | None = None, every_ms: int | None = None) -> LiveBook | None:
        """The book of one stream, if it has come."""
        return self.books.get((book, depth, every_ms))

    def subscribe(
        self,
        *patterns: str,
        depth: int | None = None,
        every_ms: int | None = None,
        trades: bool = False,
        limit: int = 65_536,
    ) -> Subscription:
        """Events of all books that match, from now on and after every reconnect.

        Iterating raises `Refused` when the gateway refuses the patterns.
        """
        if not patterns:
            raise ValueError("at least one pattern")
        subscription = Subscription(self, patterns, depth, every_ms, trades, limit)
        self._subscriptions.append(subscription)
        self._with_options = self._with_options or depth is not None or every_ms is not None
        self._routes.clear()
        if self._fatal is not None:
            subscription.fail(self._fatal)
        elif self._ws is not None:
            self._ask_for(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop one subscription; books that no other one reads are dropped."""
        if subscription not in self._subscriptions:
            return
        self._subscriptions.remove(subscription)
        self._routes.clear()
        body = {**subscription.request(), "op": "unsubscribe"}
        self._send_op(body, lambda answer: None)
        for key in list(self.books):
            if not self._route(key):
                del self.books[key]
        subscription.end()

    # --- the connection ---------------------------------------------------------------------------

    async def _run(self) -> None:
        attempt = 0
        try:
            while True:
                wait: float | None = None
                try:
                    await self._session()
                except InvalidStatus as error:
                    status = error.response.status_code
                    self._last_problem = f"HTTP {status}"
                    if status in _FATAL_STATUSES:
                        raise FeedError(f"{self.url}: HTTP {status}") from None
                except ConnectionClosed as error:
                    code = error.rcvd.code if error.rcvd is not None else 1006
                    self._last_problem = f"closed {code}"
                    if code in _FATAL_CLOSES:
                        reason = error.rcvd.reason if error.rcvd is not None else ""
                        raise FeedError(f"closed {code} {reason}") from None
                    wait = _RATE_WAIT_S if code == _RATE_CLOSE else None
                except (OSError, TimeoutError, WebSocketException) as error:
                    self._last_problem = str(error) or type(error).__name__
                if self._drop_connection():
                    attempt = 0
                if wait is None:
                    wait = full_jitter(attempt, self._uniform)
                attempt += 1
                await asyncio.sleep(wait)
        except FeedError as error:
            self._drop_connection()
            self._fatal = error
            self._up.set()
            for subscription in self._subscriptions:
                subscription.fail(error)

    def _drop_connection(self) -> bool:
        """Nothing is exact any more; True when there was a connection."""
        was_up = self._ws is not None
        self._ws = None
        self._answers.clear()
        self._doubtful.clear()
        if was_up:
            for key, book in self.books.items():
                if book.exact:
                    book.mirror.doubt()
                    self._tell(key, Event("lost", book, why="disconnected"))
            for subscription in self._subscriptions:
                subscription.put(Event("disconnected", why=self._last_problem))
        return was_up

    async def _session(self) -> None:
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        ws = await ws_connect(
            self.url,
            subprotocols=["wup.v1"],  # type: ignore[list-item]
            additional_headers=headers,
            compression=None,
            ping_interval=None,
            open_timeout=_SILENT_S,
            close_timeout=1.0,
            max_size=_MAX_MESSAGE,
            proxy=None,
        )
        try:
            await self._read(ws)
        finally:
            await ws.close()

    async def _read(self, ws: ClientConnection) -> None:
        self._ws = ws
        self._count = 0
        self.stats.connects += 1
        self._up.set()
        for subscription in self._subscriptions:
            subscription.put(Event("connected"))
            self._ask_for(subscription)
        while True:
            async with asyncio.timeout(_SILENT_S):
                message = await ws.recv(decode=False)
            if not self._take(message):
                self._last_problem = "heartbeat count differs"
                return

    # --- messages ---------------------------------------------------------------------------------

    def _take(self, message: bytes) -> bool:
        """One message; False when frames were lost on the way."""
        try:
            kind, book = head(message)
        except (orjson.JSONDecodeError, AttributeError):
            self._last_problem = "unreadable message"
            return False
        if kind in _BOOK_KINDS and book is not None:
            self._count += 1
            self.stats.messages += 1
            self._apply(kind, book, message)
        elif kind == "trade":
            self._count += 1
            self.stats.messages += 1
            if book is not None:
                self._trade(book, message)
        elif kind == "heartbeat":
            self.stats.heartbeats += 1
            if orjson.loads(message).get("count") != self._count:
                self.stats.count_mismatches += 1
                return False
        elif kind == "notice":
            for subscription in self._subscriptions:
                subscription.put(Event("notice", message=message, why=orjson.loads(message).get("code")))
        elif kind != "welcome":
            self._answer(orjson.loads(message))
        return True

    def _apply(self, kind: str, book_id: str, message: bytes) -> None:
        key: StreamKey = (book_id, None, None)
        if self._with_options:
            body = orjson.loads(message)
            key = (book_id, body.get("depth"), body.get("every_ms"))
        book = self.books.get(key)
        if book is None:
            if kind != "snapshot":
                return  # on its way when we unsubscribed
            book = self.books[key] = LiveBook(*key)
        was_exact = book.exact
        try:
            verdict = book.mirror.apply(message)
        except CoreError:
            verdict = "broken"
        if verdict == "exact":
            if kind == "snapshot":
                self._doubtful.discard(book_id)
                self._resync_delay = _RESYNC_DELAY_S
                self._learn(key, book, message)
            elif kind == "status":
                self._learn(key, book, message)
            self._tell(key, Event(kind, book, message))  # type: ignore[arg-type]
            return
        if verdict == "broken":
            self.stats.mismatches += 1
        elif verdict == "gap":
            self.stats.gaps += 1
        if was_exact and not book.exact:
            self._tell(key, Event("lost", book, message, why=verdict if verdict != "ignored" else "gateway"))
        if verdict in ("broken", "gap"):
            self._resync(book_id)

    def _learn(self, key: StreamKey, book: LiveBook, message: bytes) -> None:
        body = orjson.loads(message)
        book.title = body.get("title", book.title)
        book.label = body.get("label", book.label)
        legs = body.get("legs")
        if isinstance(legs, dict):
            assets = frozenset(f"{leg.get('platform')}:{leg.get('asset')}" for leg in legs.values())
            if self._assets.get(key[0]) != assets:
                self._assets[key[0]] = assets
                self._routes.clear()

    def _trade(self, book_id: str, message: bytes) -> None:
        for key, book in self.books.items():
            if key[0] == book_id:
                for subscription in self._route(key):
                    if subscription.trades:
                        subscription.put(Event("trade", book, message))

    def _route(self, key: StreamKey) -> list[Subscription]:
        route = self._routes.get(key)
        if route is None:
            assets = self._assets.get(key[0], frozenset())
            route = [held for held in self._subscriptions if belongs(held, key, assets)]
            self._routes[key] = route
        return route

    def _tell(self, key: StreamKey, event: Event) -> None:
        for subscription in self._route(key):
            subscription.put(event)

    # --- operations -------------------------------------------------------------------------------

    def _ask_for(self, subscription: Subscription) -> None:
        def answered(answer: dict[str, Any]) -> None:
            if answer.get("type") == "error":
                error = Refused(str(answer.get("code")), str(answer.get("message")), answer.get("at"))
                if subscription in self._subscriptions:
                    self._subscriptions.remove(subscription)
                    self._routes.clear()
                subscription.fail(error)

        self._send_op(subscription.request(), answered)

    def _resync(self, book_id: str) -> None:
        """Ask for a fresh snapshot soon; requests of one moment go in one message."""
        self._doubtful.add(book_id)
        if self._resync_timer is None:
            loop = asyncio.get_running_loop()
            self._resync_timer = loop.call_later(self._resync_delay, self._send_resync)
            # A server that answers with books that do not verify is asked ever more slowly.
            self._resync_delay = min(2 * self._resync_delay, _RESYNC_DELAY_MAX_S)

    def _send_resync(self) -> None:
        self._resync_timer = None
        batch = sorted(self._doubtful)[:_RESYNC_AT_ONCE]
        if not batch or self._ws is None:
            return
        self._doubtful.difference_update(batch)
        self._send_op({"op": "resync", "books": batch}, lambda answer: None)
        if self._doubtful:
            loop = asyncio.get_running_loop()
            self._resync_timer = loop.call_later(_RESYNC_DELAY_S, self._send_resync)

    def _send_op(self, body: dict[str, Any], answered: Callable[[dict[str, Any]], None]) -> None:
        ws = self._ws
        if ws is None:
            return
        self._next_id += 1
        op_id = str(self._next_id)
        self._answers[op_id] = answered
        task = asyncio.get_running_loop().create_task(_send(ws, orjson.dumps({**body, "id": op_id})))
        self._senders.add(task)
        task.add_done_callback(self._senders.discard)

    def _answer(self, answer: dict[str, Any]) -> None:
        op_id = answer.get("id")
        answered = self._answers.pop(op_id, None) if isinstance(op_id, str) else None
        if answered is not None:
            answered(answer)


async def _send(ws: ClientConnection, message: bytes) -> None:
    # A connection that is gone is noticed, and told, by the reader.
    with contextlib.suppress(ConnectionClosed):
        await ws.send(message, text=True)
