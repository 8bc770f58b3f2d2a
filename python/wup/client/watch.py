"""`wup watch`: one client that verifies everything it shows."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, TextIO

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from wup._core import Histogram
from wup.client.errors import FeedError
from wup.client.feed import connect
from wup.client.ladder import Ladder

if TYPE_CHECKING:
    from wup.client.feed import Feed
    from wup.client.subscription import Subscription

_REFRESH_PER_S = 8
_MAX_LADDERS = 12
_ROWS = 8
_LEAST_ROWS = 2
_LADDER_WIDTH = 60
_LADDER_FRAME = 8
"""Lines of a ladder that are no levels: heading, head, rule between the sides, footing."""

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
            if not feed.books:
                print(f"wup watch: no book matched {pattern!r}", file=sys.stderr)
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
    latency = Histogram()
    reader = asyncio.create_task(_consume(subscription, latency))
    try:
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while not reader.done():
                live.update(_screen(feed, latency, console), refresh=True)
                await asyncio.wait({reader}, timeout=1 / _REFRESH_PER_S)
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _consume(subscription: Subscription, latency: Histogram) -> None:
    """Books are kept by the feed; the events are needed for their errors and for the time they took."""
    async for event in subscription:
        if event.type == "delta":
            received = event.data()["ts"].get("recv")
            if received is not None:
                latency.observe(max(0, time.time_ns() // 1000 - received))


def _rows(console: Console, books: int) -> int:
    """Levels a side that fit: ladders stand side by side as far as the terminal is wide."""
    if not console.is_terminal or not books:
        return _ROWS
    beside = max(1, console.width // _LADDER_WIDTH)
    deep = -(-min(books, _MAX_LADDERS) // beside)
    return max(_LEAST_ROWS, min(_ROWS, ((console.height - 2) // deep - _LADDER_FRAME) // 2))


def _screen(feed: Feed, latency: Histogram, console: Console) -> Group:
    books = [feed.books[key] for key in sorted(feed.books, key=lambda key: key[0])]
    rows = _rows(console, len(books))
    ladders = [
        Ladder(
            book.view() if book.epoch else None,
            title=book.title,
            label=book.label,
            exact=book.exact,
            name=book.id,
            rows=rows,
        ).table()
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
    if latency.count():
        half, most = latency.quantile(0.5) / 1000, latency.quantile(0.99) / 1000
        line.append(f"  venue to here p50 {half:.1f} ms p99 {most:.1f} ms", "dim")
    return Group(line, Columns(ladders, padding=(0, 3)))
