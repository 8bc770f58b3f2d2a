"""What every HTTP request passes before the application, and what every answer carries.

One guard for the orderbook service, the event service and the gateway: rate per address, requests under way,
`Host`, `Origin`, token, method, body and deadline. Refusals are RFC 9457 documents.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from wup import config, logs, problem
from wup.access import client_address, group, values
from wup.bucket import Buckets
from wup.clock import SYSTEM_CLOCK
from wup.config import EnvSettings

if TYPE_CHECKING:
    from fastapi import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from wup.access import Access
    from wup.clock import Clock

Count = Annotated[int, Field(gt=0)]

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
_BODY_BYTES = 4_096
_PREFLIGHT_S = 600
HEAD_BYTES = 16_384


class HttpLimits(EnvSettings):
    """What one address, and all together, may ask of one HTTP interface."""

    http_rate: Count = 1_000
    http_burst: Count = 2_000
    http_concurrency: Count = 256


class HttpGuard:
    """ASGI wrapper, outermost.

    Args:
        access: Host and Origin lists, tokens, trusted proxies.
        deadline_s: an answer must have begun by then, else 504.
        limits: rate, burst and requests under way; from the environment by default.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        *,
        deadline_s: float = 5.0,
        limits: HttpLimits | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        limits = limits or config.load(HttpLimits)
        self._app = app
        self._access = access
        self._deadline_s = deadline_s
        self._clock = clock
        self._buckets = Buckets(limits.http_rate, limits.http_burst)
        self._most = limits.http_concurrency
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, self._access, send)
        refused = self.refusal(scope)
        if refused is not None:
            await refused(scope, receive, answer.send)
            return
        self._running += 1
        try:
            await self._run(scope, receive, answer)
        finally:
            self._running -= 1

    @property
    def always(self) -> tuple[tuple[bytes, bytes], ...]:
        """Headers of every answer that has not its own of the same name."""
        return _ALWAYS

    def refusal(self, scope: Scope) -> Response | None:
        """Why this request is not answered, cheap checks first. To ask counts as a request of its address."""
        headers = scope["headers"]
        peer = scope["client"][0] if scope.get("client") else ""
        address = client_address(peer, values(headers, b"x-forwarded-for"), self._access.proxies)
        if not self._buckets.take(group(address), self._clock.monotonic()):
            return problem.problem(429, "too many requests from this address", headers={"Retry-After": "1"})
        if self._running >= self._most:
            return problem.problem(503, "too many requests at once", headers={"Retry-After": "1"})
        # The HTTP parser's own limit is only for heads that come in pieces.
        head = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
        if head + sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES:
            return problem.problem(431, f"a request's head has at most {HEAD_BYTES} bytes")
        method = scope["method"]
        preflight = method == "OPTIONS" and bool(values(headers, b"access-control-request-method"))
        # A browser asks beforehand without the token that it will send.
        refused = self._access.refusal(scope["path"], headers, preflight=preflight)
        if refused is not None:
            return refused
        if preflight:
            return _preflight()
        sizes = values(headers, b"content-length")
        if method in _BODY_METHODS:
            if any(not size.isdigit() or int(size) > _BODY_BYTES for size in sizes):
                return problem.problem(413, f"a body has at most {_BODY_BYTES} bytes")
        elif any(size.strip("0") for size in sizes) or values(headers, b"transfer-encoding"):
            return problem.problem(400, f"{method} takes no body")
        scope["client"] = (address, 0)
        return None

    async def _run(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            async with asyncio.timeout(self._deadline_s) as deadline:
                answer.deadline = deadline
                if scope["method"] in _BODY_METHODS:
                    body = await _read(receive)
                    if body is None:
                        late = problem.problem(413, f"a body has at most {_BODY_BYTES} bytes")
                        await late(scope, receive, answer.send)
                        return
                    receive = _given(body, receive)
                await self._app(inner, receive, answer.send)
        except TimeoutError:
            if answer.begun:
                raise
            answer.deadline = None
            await problem.problem(504, "no answer in time")(scope, receive, answer.send)
        except Exception as error:
            # The application has answered 500 already, unless it could not; a client learns no more.
            logs.log("http").error("request failed", path=logs.clean(scope["path"]), error=repr(error))
            answer.deadline = None
            if not answer.begun:
                await problem.problem(500, "the server failed to do this")(scope, receive, answer.send)
            elif not answer.done:
                raise


class _Answer:
    """One answer on its way out: safe headers, CORS for listed origins, no body to HEAD."""

    def __init__(self, scope: Scope, access: Access, send: Send) -> None:
        self._send = send
        self._head = scope["method"] == "HEAD"
        origins = values(scope["headers"], b"origin")
        self._origin = origins[0] if len(origins) == 1 and access.listed(origins[0]) else None
        self.deadline: asyncio.Timeout | None = None
        self.begun = False
        self.done = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            if self.deadline is not None:
                # A long answer may take its time once it has begun; the server cuts a reader that stops.
                self.deadline.reschedule(None)
            headers = list(message.get("headers", ()))
            have = {name.lower() for name, _ in headers}
            headers += [(name, value) for name, value in _ALWAYS if name not in have]
            if self._origin is not None:
                headers += [
                    (b"access-control-allow-origin", self._origin.encode("latin-1")),
                    (b"access-control-expose-headers", b"etag, link, retry-after"),
                    (b"vary", b"Origin"),
                ]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            self.done = not message.get("more_body", False)
            if self._head:
                message = {**message, "body": b""}
        await self._send(message)


def _preflight() -> Response:
    from fastapi import Response

    headers = {
        "Access-Control-Allow-Methods": "GET, HEAD",
        "Access-Control-Allow-Headers": "authorization, if-none-match",
        "Access-Control-Max-Age": str(_PREFLIGHT_S),
    }
    return Response(status_code=204, headers=headers)


async def _read(receive: Receive) -> bytes | None:
    """The whole body, or None when it is too long."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        piece: bytes = message.get("body", b"")
        body += piece
        if len(body) > _BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return body


def _given(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, then whatever comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
