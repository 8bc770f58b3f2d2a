"""A client of the gateway: books that say whether they are exact.

async with connect("ws://127.0.0.1:8082/ws") as feed:
    async for event in feed.subscribe("fed-2026-12.>"):
        if event.book is not None and event.book.exact:
            print(event.book.id, event.book.best_bid, event.book.best_ask)
"""

from wup.client.book import LiveBook
from wup.client.errors import FeedError, Refused
from wup.client.event import Event
from wup.client.feed import Feed, connect
from wup.client.ladder import Ladder
from wup.client.stats import Stats
from wup.client.subscription import Subscription
from wup.client.sync import SyncFeed, SyncSubscription, connect_sync
from wup.client.tables import book_rows, event_rows, to_pandas, to_polars
from wup.client.watch import watch

__all__ = [
    "Event",
    "Feed",
    "FeedError",
    "Ladder",
    "LiveBook",
    "Refused",
    "Stats",
    "Subscription",
    "SyncFeed",
    "SyncSubscription",
    "book_rows",
    "connect",
    "connect_sync",
    "event_rows",
    "to_pandas",
    "to_polars",
    "watch",
]
