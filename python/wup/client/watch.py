"""`wup watch`: one client that verifies everything it shows."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, TextIO

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from wup.client.feed import FeedError, connect
from wup.client.ladder import Ladder

if TYPE_CHECKING:
    from wup.client.feed import Feed
    from wup.client.subscription import Subscription

_REFRESH_PER_S = 8
_MAX_LADDERS = 12

EXIT_OK = 0
EXIT_MISMATCH = 1
EXIT_REFUSED = 2


async def watch(
    pattern: str,
    url: str,
    *,
    json: bool,
    out: TextIO,
    stop: asyncio.Event,
    duration: float | None = None,
    token: str | None = None,
) -> int:
    """Show the books that match `pattern` until `stop` is set or `duration` seconds have gone.

    With `json` every message is written to `out` as one line, exactly as received; otherwise a live ladder
    is drawn. Returns 0, 1 when a digest or a heartbeat count did not agree, 2 when the gateway refused or
    could not be reached (said on stderr).
    """
    try:
        async with connect(url, token) as feed:
            subscription = feed.subscribe(pattern, trades=json)
            show = _print(subscription, out) if json else _draw(subscription, feed, out)
            worker = asyncio.create_task(show)
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({worker, stopped}, timeout=duration, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            ended = worker.done()
            worker.cancel()
            results = await asyncio.gather(worker, return_exceptions=True)
            if ended and isinstance(results[0], Exception):
                raise results[0]
            bad = feed.stats.mismatches + feed.stats.count_mismatches
    except FeedError as error:
        print(f"wup watch: {error}", file=sys.stderr)
        return EXIT_REFUSED
    if bad:
        print(f"wup watch: {bad} messages did not verify", file=sys.stderr)
        return EXIT_MISMATCH
    return EXIT_OK


async def _print(subscription: Subscription, out: TextIO) -> None:
    async for event in subscription:
        if event.message:
            out.write(event.message.decode() + "\n")
            out.flush()


async def _draw(subscription: Subscription, feed: Feed, out: TextIO) -> None:
    console = Console(file=out)
    reader = asyncio.create_task(_consume(subscription))
    try:
        with Live(console=console, auto_refresh=False, screen=False) as live:
            while not reader.done():
                live.update(_screen(feed), refresh=True)
                await asyncio.wait({reader}, timeout=1 / _REFRESH_PER_S)
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _consume(subscription: Subscription) -> None:
    """Books are kept by the feed; the events themselves are only needed for their errors."""
    async for _ in subscription:
        pass


def _screen(feed: Feed) -> Group:
    books = [feed.books[key] for key in sorted(feed.books, key=lambda key: key[0])]
    ladders = [
        Ladder(
            book.view() if book.epoch else None,
            title=book.title,
            label=book.label,
            exact=book.exact,
            name=book.id,
        )
        for book in books[:_MAX_LADDERS]
    ]
    stats = feed.stats
    line = Text()
    line.append("connected" if feed.connected else "not connected", "green" if feed.connected else "red")
    line.append(f"  {len(books)} books", "dim")
    if len(books) > _MAX_LADDERS:
        line.append(f" (first {_MAX_LADDERS} shown)", "dim")
    line.append(f"  {stats.messages} messages  {stats.gaps} gaps", "dim")
    line.append(f"  {stats.mismatches} mismatches", "red" if stats.mismatches else "dim")
    return Group(Columns(ladders, padding=(0, 3)), line)
