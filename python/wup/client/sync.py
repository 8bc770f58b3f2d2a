"""The feed for scripts and notebooks: the same books without `async`."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Self

from wup.client.feed import DEFAULT_URL, Feed, connect

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Any, TypeVar

    from wup.client.book import LiveBook
    from wup.client.event import Event
    from wup.client.stats import Stats
    from wup.client.subscription import OnSlow, Subscription

    _T = TypeVar("_T")


def connect_sync(url: str = DEFAULT_URL, token: str | None = None) -> SyncFeed:
    """A feed that runs in a thread of its own; use it with `with`, or call `close` in the end."""
    return SyncFeed(url, token)


class SyncFeed:
    """`Feed` behind plain calls. It works where a loop runs already, as in a notebook.

    Raises:
        FeedError: on entering, as `Feed` does.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._token = token
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wup-feed", daemon=True)
        self._feed: Feed | None = None

    def open(self) -> Self:
        """Connect; `with` does it."""
        self._thread.start()
        try:
            self._feed = self.call(self._open())
        except BaseException:
            self._stop()
            raise
        return self

    def close(self) -> None:
        """Disconnect and end all subscriptions."""
        feed, self._feed = self._feed, None
        if feed is not None:
            self.call(feed.close())
            self._stop()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _open(self) -> Feed:
        return await connect(self._url, self._token).__aenter__()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, _T], timeout: float | None = None) -> _T:
        """Run a coroutine on the feed's loop and wait for it, at most `timeout` seconds."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except BaseException:
            # Nobody waits any more (TimeoutError, Ctrl-C): what it would take stays for the next call.
            future.cancel()
            raise

    @property
    def feed(self) -> Feed:
        """The feed itself, which belongs to its own thread."""
        if self._feed is None:
            raise RuntimeError("the feed is not open: use `with connect_sync(...) as feed`")
        return self._feed

    @property
    def stats(self) -> Stats:
        """What the feed has seen."""
        return self.feed.stats

    @property
    def books(self) -> list[LiveBook]:
        """All books that have come."""
        return list(self.feed.books.values())

    def book(self, book: str, depth: int | None = None, every_ms: int | None = None) -> LiveBook | None:
        """The book of one stream, if it has come."""
        return self.feed.book(book, depth, every_ms)

    def list_books(self, match: str = ">") -> list[dict[str, Any]]:
        """The books that match now, as `Feed.list_books`."""
        return self.call(self.feed.list_books(match))

    def subscribe(
        self,
        *patterns: str,
        depth: int | None = None,
        every_ms: int | None = None,
        trades: bool = False,
        on_slow: OnSlow = "conflate",
        timeout: float | None = None,
    ) -> SyncSubscription:
        """Events of all books that match; iterating blocks until the next one, at most `timeout` seconds."""
        feed = self.feed

        async def begin() -> Subscription:
            return feed.subscribe(*patterns, depth=depth, every_ms=every_ms, trades=trades, on_slow=on_slow)

        return SyncSubscription(self, self.call(begin()), timeout)


class SyncSubscription:
    """`Subscription` behind plain iteration."""

    def __init__(self, feed: SyncFeed, subscription: Subscription, timeout: float | None) -> None:
        self._feed = feed
        self._subscription = subscription
        self.timeout = timeout

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """The next event.

        Raises:
            TimeoutError: none came in time; go on iterating as you like.
            FeedError: the gateway refused the patterns, or the feed ended.
        """
        try:
            return self._feed.call(anext(self._subscription), self.timeout)
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Unsubscribe."""
        self._feed.call(self._subscription.close())
