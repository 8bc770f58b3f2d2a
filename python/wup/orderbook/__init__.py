"""The orderbook stage: `normalized.>` into the native store, consolidated changes out."""

from wup.orderbook.http import OrderbookHttp
from wup.orderbook.service import OrderbookService

__all__ = ["OrderbookHttp", "OrderbookService"]
