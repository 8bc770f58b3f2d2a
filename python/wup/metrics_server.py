"""Metrics and health of a process, from a thread of its own: a scrape never waits for the event loop."""

from __future__ import annotations

import socket
import threading
from itertools import islice
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson
from prometheus_client import make_wsgi_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import CollectorRegistry


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 5

    def log_message(self, format: str, *args: Any) -> None:
        """No line per scrape."""


def _lines(items: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """One JSON object per line, some lines in a piece."""
    while piece := b"".join(orjson.dumps(item) + b"\n" for item in islice(items, 64)):
        yield piece


class MetricsServer:
    """`/metrics` (and every other path), `/healthz`, `/readyz`, `/legs` on one port.

    Args:
        health: what the process is doing, as JSON.
        unready: why it cannot do its work now; none: ready.
        legs: (platform or None, asset or None) to how each leg stands, or None: there are none here.

    Raises:
        OSError: from the constructor, when it cannot listen.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: Callable[[], dict[str, object]],
        unready: Callable[[], list[str]],
        legs: Callable[[str | None, str | None], Iterator[dict[str, Any]] | None] = lambda *_: None,
    ) -> None:
        metrics = make_wsgi_app(registry)

        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            path = environ.get("PATH_INFO")
            if path == "/legs":
                query = parse_qs(str(environ.get("QUERY_STRING", "")))
                found = legs(query.get("platform", [None])[0], query.get("asset", [None])[0])
                kind = "application/json" if found is None else "application/x-ndjson"
                status = "404 Not Found" if found is None else "200 OK"
                start(status, [("Content-Type", kind), ("Cache-Control", "no-store")])
                if found is None:
                    return [b'{"detail":"no legs are normalised in this process"}']
                return _lines(found)
            if path not in ("/healthz", "/readyz"):
                page: Iterable[bytes] = metrics(environ, start)
                return page
            reasons = unready() if path == "/readyz" else []
            body = {"status": "unready" if reasons else "ok", "reasons": reasons, **health()}
            status = "503 Service Unavailable" if reasons else "200 OK"
            start(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
            return [orjson.dumps(body)]

        kind = _Server6 if ":" in host else _Server
        self._server = make_server(host.strip("[]"), port, answer, kind, handler_class=_Quiet)
        self.port = int(self._server.server_port)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2)
