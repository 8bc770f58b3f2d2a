"""A verified feed: connects, subscribes, checks every digest and every heartbeat count, repairs itself."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as ws_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from wup.backoff import CAP_S, full_jitter
from wup.client.books import Books
from wup.client.errors import FeedError, Refused
from wup.client.event import Event
from wup.client.operations import Operations
from wup.client.routes import Routes, StreamKey, head
from wup.client.silence import Silence
from wup.client.stats import Stats
from wup.client.subscription import OnSlow, Subscription
from wup.client.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from wup.client.book import LiveBook

DEFAULT_URL = "ws://127.0.0.1:8082/ws"
_SILENT_S = 5.0
_OPEN_S = 10.0
_MAX_MESSAGE = 64 * 1024 * 1024
_FATAL_CLOSES = frozenset({1002, 1003, 1007, 1009, 4400, 4401, 4403})
_FATAL_STATUSES = frozenset({400, 401, 403, 404, 421, 426})
_RATE_CLOSE = 4429
_RATE_WAIT_S = 10.0
_BOOK_KINDS = frozenset({"snapshot", "delta", "status"})


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
        self.stats = Stats()
        self._token = token
        self._uniform = uniform
        self._routes = Routes()
        self._ws: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._fatal: FeedError | None = None
        self._last_problem = "no answer"
        self._operations = Operations()
        self._wanted = Wanted()
        self._wait_s: float | None = None
        self._books = Books(self._operations, self._routes, self.stats)
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
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._last_problem = "closed"
        self._drop_connection()
        for subscription in self._routes.subscriptions:
            subscription.end()

    @property
    def books(self) -> dict[StreamKey, LiveBook]:
        """The books that have come, by stream: (book id, depth, every_ms)."""
        return self._books.held

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
        on_slow: OnSlow = "conflate",
        limit: int = 65_536,
    ) -> Subscription:
        """Events of all books that match, from now on and after every reconnect.

        Subscriptions may overlap: each gets the events of what it asked for, and first a `snapshot` of books
        that the feed holds already. Iterating raises `Refused` when the gateway refuses the patterns.
        """
        if not patterns:
            raise ValueError("at least one pattern")
        subscription = Subscription(self, patterns, depth, every_ms, trades, on_slow, limit)
        self._routes.add(subscription)
        self._books.shaped = self._books.shaped or depth is not None or every_ms is not None
        if self._fatal is not None:
            subscription.fail(self._fatal)
        elif self._ws is not None:
            for key, book in self.books.items():
                if book.exact and subscription in self._routes.stream(key):
                    subscription.put(Event("snapshot", book, book.snapshot()))
            self._ask_for(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop one subscription; books that no other one reads are dropped."""
        if not self._routes.remove(subscription):
            return
        free = self._wanted.remove(subscription)
        if free:
            body = {"op": "unsubscribe", "books": free, **subscription.options()}
            self._operations.ask(body, lambda answer: None)
        self._books.drop_unread()
        subscription.end()

    async def list_books(self, match: str = ">") -> list[dict[str, Any]]:
        """The books that match now: `book`, `title`, `label`, `state` of each.

        Raises:
            Refused: the gateway does not take the pattern.
            FeedError: the connection went before the answer was whole.
        """
        return await self._operations.books(match)

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
                    wait = _retry_after(error, full_jitter(attempt, self._uniform))
                except ConnectionClosed as error:
                    code = error.rcvd.code if error.rcvd is not None else 1006
                    self._last_problem = f"closed {code}"
                    if code in _FATAL_CLOSES:
                        reason = error.rcvd.reason if error.rcvd is not None else ""
                        raise FeedError(f"closed {code} {reason}") from None
                    wait = _RATE_WAIT_S if code == _RATE_CLOSE else None
                except FeedError:
                    raise
                except (OSError, TimeoutError, WebSocketException) as error:
                    self._last_problem = str(error) or type(error).__name__
                except Exception as error:
                    # A message like no other: with nobody reading no book may stay exact.
                    self._last_problem = f"unreadable message: {error!r}"
                if self._drop_connection():
                    attempt = 0
                if wait is None:
                    # A gateway that goes says over how long its clients should spread.
                    wait = full_jitter(attempt, self._uniform) if self._wait_s is None else self._wait_s
                self._wait_s = None
                attempt += 1
                await asyncio.sleep(wait)
        except FeedError as error:
            self._drop_connection()
            self._fatal = error
            self._up.set()
            for subscription in self._routes.subscriptions:
                subscription.fail(error)

    def _drop_connection(self) -> bool:
        """Nothing is exact any more; True when there was a connection."""
        was_up = self._ws is not None
        self._ws = None
        self._operations.detach()
        self._books.lost()
        if was_up:
            for subscription in self._routes.subscriptions:
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
        self._operations.attach(ws)
        self._wanted.clear()
        self._books.expect()
        self._up.set()
        for subscription in list(self._routes.subscriptions):
            subscription.put(Event("connected"))
            self._ask_for(subscription)
        async with Silence(_SILENT_S) as silence:
            while True:
                message = await ws.recv(decode=False)
                silence.broken()
                if not self._take(message):
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
            self._books.take(kind, book, message)
        elif kind == "trade":
            self._count += 1
            self.stats.messages += 1
            if book is not None:
                self._books.trade(book, message)
        elif kind == "heartbeat":
            self.stats.heartbeats += 1
            if orjson.loads(message).get("count") != self._count:
                self.stats.count_mismatches += 1
                self._last_problem = "heartbeat count differs"
                return False
        elif kind == "notice":
            self._notice(message)
        elif kind != "welcome":
            self._operations.answer(orjson.loads(message))
        return True

    def _notice(self, message: bytes) -> None:
        body = orjson.loads(message)
        jitter_ms = body.get("jitter_ms")
        if body.get("code") == "going_away" and isinstance(jitter_ms, int):
            self._wait_s = self._uniform(0.0, min(CAP_S, max(0, jitter_ms) / 1000))
        for subscription in self._routes.subscriptions:
            subscription.put(Event("notice", message=message, why=body.get("code")))

    # --- operations -------------------------------------------------------------------------------

    def _ask_for(self, subscription: Subscription) -> None:
        fresh = self._wanted.add(subscription)
        if not fresh:
            return

        def answered(answer: dict[str, Any] | Refused) -> None:
            if not isinstance(answer, Refused) or not self._routes.remove(subscription):
                return
            heirs = self._wanted.heirs(subscription)
            self._wanted.remove(subscription)
            self._books.drop_unread()
            subscription.fail(answer)
            # Who counted on this question asks for itself.
            for heir in heirs:
                self._wanted.remove(heir)
            for heir in heirs:
                self._ask_for(heir)

        self._operations.ask({"op": "subscribe", "books": fresh, **subscription.options()}, answered)


def _retry_after(error: InvalidStatus, jitter: float) -> float:
    """Seconds to wait after an HTTP answer: at least what its `Retry-After` says."""
    said = error.response.headers.get("Retry-After", "")
    return jitter + (min(CAP_S, float(said)) if said.isascii() and said.isdigit() else 0.0)
