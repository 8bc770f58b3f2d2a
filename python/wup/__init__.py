"""WUP: consolidated order books of prediction markets, streamed and provably exact.

Reading order: `subjects` and `model` (what travels), `bus` (how), `venues` (what the venues say),
`aggregator` -> `normalizer` -> `orderbook` -> `gateway` (the stages), `events` and `mapping` beside
them, `client` for users, `sim` and `demo` to see it all without a venue.
"""

import warnings

from wup._core import OPTIMISED, Book, BookStore, Change, Level, MirrorBook, OrderBook, VenueBook

if not OPTIMISED:
    warnings.warn("wup._core is a debug build: do not measure with it", RuntimeWarning, stacklevel=2)

__version__ = "0.1.0"

__all__ = [
    "Book",
    "BookStore",
    "Change",
    "Level",
    "MirrorBook",
    "OrderBook",
    "VenueBook",
    "__version__",
]
