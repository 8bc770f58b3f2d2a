"""The orderbook stage: `normalized.>` into the native store, consolidated changes out."""

from wup.orderbook.http import OrderbookHttp
from wup.orderbook.service import EPOCHS_AHEAD_MS, OrderbookService

__all__ = ["EPOCHS_AHEAD_MS", "OrderbookHttp", "OrderbookService"]
