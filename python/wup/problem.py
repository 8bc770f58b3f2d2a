"""RFC 9457 problem details, the one error form of every HTTP interface (wire.md section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Mapping

_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    413: "Content too large",
    421: "Misdirected request",
    422: "Bad request",
    426: "Upgrade required",
    429: "Too many requests",
    431: "Header fields too large",
    500: "Server fault",
    502: "Bad gateway",
    503: "Not available",
    504: "No answer in time",
}


def problem(
    status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: object
) -> Response:
    """An `application/problem+json` answer."""
    body = {"type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status, "detail": detail}
    return Response(
        orjson.dumps({**body, **more}),
        status_code=status,
        media_type="application/problem+json",
        headers=dict(headers) if headers else None,
    )


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""

    async def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail), headers=error.headers)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        places = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        return problem(400, "; ".join(places))

    async def failed(_: Request, __: Exception) -> Response:
        return problem(500, "the server failed to do this")

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(RequestValidationError, invalid)
