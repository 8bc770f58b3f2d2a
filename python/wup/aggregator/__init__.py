"""Stage one: persistent venue connections, raw frames forwarded untouched to `market.>`."""

from wup.aggregator.service import Aggregator

__all__ = ["Aggregator"]
