"""What every HTTP request passes first: Host and token checks; and the headers that each answer gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from wup.gateway import pattern as patterns

if TYPE_CHECKING:
    from uvicorn._types import (
        ASGI3Application,
        ASGIReceiveCallable,
        ASGISendCallable,
        ASGISendEvent,
        Scope,
    )

    from wup.gateway.core import Core

_OPEN = frozenset({"/healthz", "/readyz", "/"})
_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
]


class Guard:
    """ASGI wrapper."""

    def __init__(self, app: ASGI3Application, core: Core) -> None:
        self._app = app
        self._core = core

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = list(scope["headers"])
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._core.access.host(hosts[0]):
            await _refuse(send, 421, "Misdirected Request", "unknown Host")
            return
        if scope["path"] not in _OPEN and not self._allowed(headers):
            await _refuse(send, 401, "Unauthorized", "a bearer token is needed")
            return
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        origin = origins[0] if len(origins) == 1 and self._core.access.listed(origins[0]) else None

        async def answer(event: ASGISendEvent) -> None:
            if event["type"] == "http.response.start":
                extra = list(_ALWAYS)
                if origin is not None:
                    extra.append((b"access-control-allow-origin", origin.encode("latin-1")))
                    extra.append((b"vary", b"Origin"))
                event["headers"] = [*event.get("headers", []), *extra]
            await send(event)

        await self._app(scope, receive, answer)

    def _allowed(self, headers: list[tuple[bytes, bytes]]) -> bool:
        tokens = self._core.tokens
        if tokens is None:
            return True
        values = [value.decode("latin-1") for name, value in headers if name == b"authorization"]
        if len(values) != 1:
            return False
        scheme, _, token = values[0].partition(" ")
        if scheme.lower() != "bearer":
            return False
        grant = tokens.find(token.strip(), self._core.clock.now_us())
        # HTTP answers are not cut to a scope, so only a token for everything may ask.
        return grant is not None and grant.allows(patterns.parse(">"))


async def _refuse(send: ASGISendCallable, status: int, title: str, detail: str) -> None:
    body = orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail})
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/problem+json"),
                (b"content-length", str(len(body)).encode()),
                *_ALWAYS,
            ],
            "trailers": False,
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})
