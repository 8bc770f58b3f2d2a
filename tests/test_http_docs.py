"""The documentation pages of the HTTP interfaces work without the internet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import httpx2
import pytest

from wup.bus import LocalBus
from wup.events.http import make_app
from wup.gateway.app import Upstream, build
from wup.orderbook import OrderbookHttp, OrderbookService

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI


def orderbook() -> FastAPI:
    return OrderbookHttp(OrderbookService(LocalBus()), "127.0.0.1", 0).app


def events() -> FastAPI:
    return make_app(cast("Any", None))


def gateway() -> FastAPI:
    return build(Upstream(["http://127.0.0.1:1"]), list)


@pytest.mark.parametrize(
    ("make", "path"), [(orderbook, "/v1/bbo/{book}"), (events, "/v1/track"), (gateway, "/readyz")]
)
async def test_swagger_needs_nothing_from_outside(make: Callable[[], FastAPI], path: str) -> None:
    """`/docs` names no other host, every file that it loads is served here, and the document that it shows
    has the interface's routes."""
    transport = httpx2.ASGITransport(make())
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        page = await client.get("/docs")
        assert page.status_code == 200
        assert re.findall(r"(?:https?:)?//[\w.-]+", page.text) == []
        assert '"validatorUrl": null' in page.text
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert {name.rpartition("/")[2] for name in loaded} >= {"swagger-ui-bundle.js", "swagger-ui.css"}
        for address in loaded:
            file = await client.get(address)
            assert (file.status_code, len(file.content) > 1000) == (200, True)
        document = re.search(r"url: '([^']+)'", page.text)
        assert document is not None
        assert path in (await client.get(document[1])).json()["paths"]
