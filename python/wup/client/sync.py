"""The feed for scripts and notebooks: the same books without `async`."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from wup.client.feed import DEFAULT_URL, Feed, connect

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from types import TracebackType
    from typing import Any, TypeVar

    from wup.client.book import LiveBook
    from wup.client.event import Event
    from wup.client.feed import Stats

    _T = TypeVar("_T")


def connect_sync(url: str = DEFAULT_URL, token: str | None = None) -> SyncFeed:
    """A feed that runs in a thread of its own; use it with `with`."""
    return SyncFeed(url, token)


class SyncFeed:
    """`Feed` behind plain calls.

    Raises:
        FeedError: on entering, as `Feed` does.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._token = token
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wup-feed", daemon=True)
        self._feed: Feed | None = None

    def __enter__(self) -> SyncFeed:
        self._thread.start()
        try:
            self._feed = self._call(self._open())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._feed is not None:
            self._call(self._feed.close())
        self._stop()

    async def _open(self) -> Feed:
        return await connect(self._url, self._token).__aenter__()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @property
    def stats(self) -> Stats:
        """What the feed has seen."""
        assert self._feed is not None, "use `with`"
        return self._feed.stats

    def book(self, book: str) -> LiveBook | None:
        """The full-depth book of one id, if it has come."""
        assert self._feed is not None, "use `with`"
        return self._feed.book(book)

    def subscribe(
        self, *patterns: str, depth: int | None = None, every_ms: int | None = None, trades: bool = False
    ) -> Iterator[Event]:
        """Events of all books that match; iterating blocks until the next one."""
        assert self._feed is not None, "use `with`"
        feed = self._feed

        async def begin() -> Any:
            return feed.subscribe(*patterns, depth=depth, every_ms=every_ms, trades=trades)

        events = self._call(begin())
        while True:
            try:
                yield self._call(anext(events))
            except StopAsyncIteration:
                return
