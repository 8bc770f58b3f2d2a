"""The gateway stage: a verified mirror of every book, served to WebSocket clients.

Reading order: `service` (puts it together), `mirror` and `mirrored` (what is verified), `source` (where
whole books come from), `hub` and `stream` (who reads what), `outbox` and `frame` (how bytes leave),
`session`, `reading` and `protocol` (what a client may say), `connection` and `server` (sockets), `app` and
`guard` (HTTP), `core`, `limits`, `tokens`, `pattern` beside them.
"""

from wup.gateway.limits import Limits
from wup.gateway.service import Gateway
from wup.gateway.source import BusSource, HttpSource, SnapshotSource

__all__ = ["BusSource", "Gateway", "HttpSource", "Limits", "SnapshotSource"]
