"""`/_sim`: the truth, the pairs and the fault menu over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict

from wup.sim.faults import Fault  # noqa: TC001  (FastAPI reads the annotation at run time)

if TYPE_CHECKING:
    from wup.sim.service import Simulators


class TruthQueries(BaseModel):
    """Body of `POST /_sim/truth`."""

    model_config = ConfigDict(extra="forbid")

    queries: list[tuple[str, str, int]]
    """(platform, asset, engine time in microseconds); a time means the end of its millisecond."""


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def router(simulators: Simulators) -> APIRouter:
    """The control routes; every venue's REST port has them."""
    routes = APIRouter(prefix="/_sim")

    @routes.get("/books", response_model=None)
    async def books(asset: str | None = None, at_us: int | None = Query(None, ge=0)) -> Response:
        """True books, of all assets or of one, now or at an engine time."""
        found = [
            {
                "platform": platform,
                "asset": name,
                "market_id": market.listing.market_id,
                "engine_us": market.changed_us,
                **(simulators.truth(platform, name, at_us) or {"forgotten": True}),
            }
            for (platform, name), market in simulators.model.by_asset.items()
            if asset is None or asset == name
        ]
        if asset is not None and not found:
            return _json({"error": "no such asset"}, 404)
        return _json({"at_us": at_us if at_us is not None else simulators.clock.now_us(), "books": found})

    @routes.post("/truth", response_model=None)
    async def truth(body: TruthQueries) -> Response:
        """True books at engine times; null where the asset is unknown or the time is forgotten."""
        return _json([simulators.truth(*query) for query in body.queries])

    @routes.get("/pairs", response_model=None)
    async def pairs() -> Response:
        """Which venue markets are about the same outcome."""
        return _json(simulators.pairs)

    @routes.post("/faults", response_model=None)
    async def add(body: Fault | list[Fault]) -> Response:
        """Put faults into force: all or none."""
        wishes = body if isinstance(body, list) else [body]
        try:
            for wish in wishes:
                simulators.concerned(wish)
            return _json({"added": [entry for wish in wishes for entry in simulators.fault(wish)]})
        except ValueError as error:
            return _json({"error": str(error)}, 422)

    @routes.get("/faults", response_model=None)
    async def show() -> Response:
        """Faults in force, and those carried out."""
        now_us = simulators.clock.now_us()
        return _json(
            {
                "active": {name: item.menu.active(now_us) for name, item in simulators.exchanges.items()},
                "done": [
                    {
                        "at_us": done.at_us,
                        "kind": done.kind,
                        "platform": done.venue,
                        "connection": done.connection,
                        "frame": done.frame,
                        "assets": done.assets,
                    }
                    for item in simulators.exchanges.values()
                    for done in item.menu.done[-1_000:]
                ],
            }
        )

    @routes.delete("/faults", response_model=None)
    async def clear() -> Response:
        """Take everything off the menu."""
        for item in simulators.exchanges.values():
            item.menu.clear()
            item.refuse_until_us = 0
        simulators.model.paused_until.clear()
        simulators.model.cancel_only_until.clear()
        return _json({"cleared": True})

    return routes
