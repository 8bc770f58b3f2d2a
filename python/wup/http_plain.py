"""Plain requests answered without the general machinery: one packet in, one packet out.

Reading a request with h11 and writing its answer takes several times what a small answer itself takes, and on
the event loop of a stage that time is the stream's. So a request that came whole, alone on its connection and
in the plainest form (GET, HTTP/1.1, no body, only headers listed here) is answered at once. The guard has its
say first, and if it refuses, that is the answer. Everything else, every unusual form included, goes the long
way and is the guard's business there: each request passes it once. Tests hold both ways to the same.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from wup import logs, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastapi import Response
    from starlette.types import Scope

    from wup.http_guard import HttpGuard

_LONGEST = 4_096
_REQUEST = re.compile(rb"GET (/[A-Za-z0-9/_.=-]*)(?:\?([A-Za-z0-9=&_.-]*))? HTTP/1\.1")
_HEADER = re.compile(rb"([A-Za-z-]+):[ \t]*((?:[!-~](?:[ -~]*[!-~])?)?)[ \t]*")
_KNOWN = frozenset(
    {
        b"host",
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"authorization",
        b"if-none-match",
    }
)
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class PlainRequests:
    """Answers what it can.

    Args:
        guard: who may ask, and how often.
        known: what answers a request, or None when it has to go the long way. It looks at path, query and
            headers alone: the guard has not been asked.
    """

    def __init__(self, guard: HttpGuard, known: Callable[[Scope], Callable[[], Response] | None]) -> None:
        self._guard = guard
        self._known = known

    def answer(
        self, data: bytes, client: tuple[str, int] | None, defaults: Iterable[tuple[bytes, bytes]]
    ) -> bytes | None:
        """The whole answer to `data`, if that is one plain request; `defaults`: headers of every answer."""
        if len(data) > _LONGEST or data.find(b"\r\n\r\n") != len(data) - 4:
            return None
        first, *lines = data[:-4].split(b"\r\n")
        asked = _REQUEST.fullmatch(first)
        headers = _headers(lines)
        if asked is None or headers is None:
            return None
        scope = {
            "type": "http",
            "method": "GET",
            "path": asked[1].decode("ascii"),
            "query_string": asked[2] or b"",
            "headers": headers,
            "client": client,
        }
        answering = self._known(scope)
        if answering is None:
            return None
        response = self._guard.refusal(scope)
        if response is None:
            try:
                response = answering()
            except Exception as error:
                logs.log("http").error("request failed", path=logs.clean(asked[1]), error=repr(error))
                response = problem.problem(500, "the server failed to do this")
        return _written(response, defaults, self._guard.always)


def _headers(lines: Iterable[bytes]) -> list[tuple[bytes, bytes]] | None:
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        parts = _HEADER.fullmatch(line)
        if parts is None:
            return None
        name, value = parts[1].lower(), parts[2]
        if name in _KNOWN or (name == b"connection" and value.lower() == b"keep-alive"):
            headers.append((name, value))
        else:
            return None
    # Without one, or with two, it is no HTTP/1.1 request.
    return headers if sum(name == b"host" for name, _ in headers) == 1 else None


def _written(
    response: Response, defaults: Iterable[tuple[bytes, bytes]], always: Iterable[tuple[bytes, bytes]]
) -> bytes:
    have = {name for name, _ in response.raw_headers}
    headers = [*defaults, *response.raw_headers, *(pair for pair in always if pair[0] not in have)]
    head = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    status = response.status_code
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, _REASONS.get(status, b""), head, bytes(response.body))
