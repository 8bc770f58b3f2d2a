"""HTTP of the event service (wire.md section 5, port 8081): events, tracking, the mapping, health."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from wup import problem
from wup.http_docs import documented
from wup.mapping.catalogue import CatalogueError, EventNotFound, MarketStatus, VenueEventRecord
from wup.mapping.records import market_fields
from wup.mapping.rest import write_json

if TYPE_CHECKING:
    from fastapi import FastAPI

    from wup.events.service import EventService
    from wup.mapping.listing import EventKey
    from wup.mapping.unified import Aggregate, UnifiedMarket

_SETTLED_S = 10.0
_SLUG = r"^[^\x00-\x1f\x7f]+$"
Slug = Annotated[str, Field(min_length=1, max_length=512, pattern=_SLUG)]
PlatformName = Annotated[str, Field(min_length=1, max_length=32)]


class Track(BaseModel):
    """What `POST /v1/track` takes."""

    model_config = ConfigDict(extra="forbid")

    platform: PlatformName
    slug: Slug


def make_app(service: EventService) -> FastAPI:
    """The application over one service."""
    app = documented("WUP event service")
    _events(app, service)
    _tracking(app, service)
    _mappings(app, service)
    _health(app, service)
    return app


def _json(body: object, status: int = 200) -> Response:
    return Response(
        write_json(body),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store", "x-content-type-options": "nosniff"},
    )


# --- events ---------------------------------------------------------------------------------------


def _events(app: FastAPI, service: EventService) -> None:
    @app.get("/v1/events", summary="Followed events, in order of platform and slug")
    async def events(
        platform: PlatformName | None = None,
        status: MarketStatus | None = None,
        q: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: Annotated[str | None, Query(max_length=600)] = None,
    ) -> Response:
        found: list[dict[str, Any]] = []
        following: str | None = None
        for key in sorted(service.events):
            name = f"{key[0]}:{key[1]}"
            event = service.as_paused(service.events[key])
            if (
                (platform is not None and key[0] != platform)
                or (after is not None and name <= after)
                or (status is not None and _status(event) != status)
                or (q is not None and q.casefold() not in f"{event.title} {event.slug}".casefold())
            ):
                continue
            if len(found) == limit:
                following = f"{found[-1]['platform']}:{found[-1]['slug']}"
                break
            found.append(_summary(service, key))
        return _json({"events": found, "next": following})

    @app.get("/v1/events/{platform}/{slug:path}", summary="One followed event in full")
    async def event(platform: PlatformName, slug: Annotated[str, Path(max_length=512)]) -> Response:
        key = (platform, slug)
        known = service.events.get(key)
        if known is None:
            attempt = service.attempt(key)
            if attempt is None:
                return problem.problem(404, f"{platform}:{slug} is not followed; POST /v1/track to follow it")
            if attempt.outcome == "missing":
                return problem.problem(404, f"{platform} has no event {slug!r}")
            return problem.problem(
                503, f"{platform}:{slug} was not fetched yet: {attempt.detail or attempt.outcome}"
            )
        body = await service.stored_event(key)
        full = {
            **_summary(service, key),
            "markets": [market_fields(market) for market in service.as_paused(known).markets],
            "raw": None if body is None else body.get("raw"),
        }
        return _json(full)


def _status(event: VenueEventRecord) -> MarketStatus:
    """Of the event: the liveliest of its markets."""
    states = {market.status for market in event.markets}
    order: tuple[MarketStatus, ...] = ("open", "maintenance", "halted", "unlisted", "closed", "resolved")
    return next((status for status in order if status in states), "closed")


def _summary(service: EventService, key: EventKey) -> dict[str, Any]:
    event = service.as_paused(service.events[key])
    attempt = service.attempt(key)
    return {
        "platform": event.platform,
        "slug": event.slug,
        "title": event.title,
        "category": event.category,
        "exclusive": event.exclusive,
        "status": _status(event),
        "markets_count": len(event.markets),
        "aggregate": service.compiler.home(key),
        "close_us": event.close_us,
        "fetched_us": event.fetched_us,
        "age_ms": max(0, service.clock.now_us() - event.fetched_us) // 1000,
        "last_attempt": None if attempt is None else attempt.outcome,
        "followed_by": service.followed_why(key),
    }


# --- tracking -------------------------------------------------------------------------------------


def _tracking(app: FastAPI, service: EventService) -> None:
    @app.post("/v1/track", status_code=201, summary="Follow an event")
    async def track(request: Request, wanted: Track) -> Response:
        refused = _refused(request)
        if refused is not None:
            return refused
        if wanted.platform not in service.catalogues:
            return problem.problem(400, f"unknown platform {wanted.platform!r}")
        key = (wanted.platform, wanted.slug)
        try:
            await service.track(key)
        except EventNotFound as error:
            return problem.problem(404, str(error))
        except CatalogueError as error:
            # Remembered; it joins when the venue answers.
            body = {"platform": key[0], "slug": key[1], "status": "pending", "detail": str(error)}
            return _json(body, 202)
        return _json(_summary(service, key), 201)

    @app.delete("/v1/track/{platform}/{slug:path}", status_code=204, summary="Stop following an event")
    async def untrack(
        request: Request, platform: PlatformName, slug: Annotated[str, Path(max_length=512)]
    ) -> Response:
        refused = _refused(request)
        if refused is not None:
            return refused
        key = (platform, slug)
        if key not in service.tracked:
            why = service.followed_why(key)
            detail = f"followed by {' and '.join(why)}, not by request" if why else "not followed"
            return problem.problem(409 if why else 404, f"{platform}:{slug} is {detail}")
        service.untrack(key)
        return Response(status_code=204)


_PASSED_ON = ("x-forwarded-for", "forwarded", "x-real-ip", "via")
"""What a proxy says of the one it asks for."""


def _refused(request: Request) -> Response | None:
    """Changes are for this machine: not for those who come through a proxy that runs on it."""
    host = request.client.host if request.client is not None else ""
    try:
        if ipaddress.ip_address(host).is_loopback and not any(name in request.headers for name in _PASSED_ON):
            return None
    except ValueError:
        pass
    return problem.problem(403, "changes are allowed from this machine only")


# --- mapping --------------------------------------------------------------------------------------


def _mappings(app: FastAPI, service: EventService) -> None:
    @app.get("/v1/mappings", summary="Aggregates of the mapping in force, and what keeps legs out")
    async def mappings() -> Response:
        units = [unit for unit in service.compiler.units.values() if unit.aggregate is not None]
        listed = [_aggregate(unit.aggregate) for unit in units if unit.aggregate is not None]
        return _json(
            {
                "version": service.version,
                "aggregates": sorted(listed, key=lambda a: str(a["id"])),
                "problems": [*service.files_problems, *service.compiler.problems()],
            }
        )

    @app.get("/v1/history", summary="Versions that came into force, the newest first")
    async def history(
        aggregate: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 20,
    ) -> Response:
        found = await service.history(aggregate, limit)
        if found is None:
            return problem.problem(503, "Redis does not answer")
        return _json({"versions": found})

    @app.post("/v1/publish", summary="Take the mapping files as they are now")
    async def publish(request: Request) -> Response:
        refused = _refused(request)
        if refused is not None:
            return refused
        problems = await service.publish_files()
        if problems:
            return problem.problem(409, "; ".join(problems)[:4000])
        try:
            async with asyncio.timeout(_SETTLED_S):
                await service.settled()
        except TimeoutError:
            return _json({"status": "pending", "detail": "Redis does not answer; written when it does"}, 202)
        body = {"version": service.version, "files_sha256": service.files_digest}
        return _json({**body, "problems": service.compiler.problems()})

    @app.get("/v1/mappings/{aggregate_id}", summary="One aggregate with its markets and legs")
    async def mapping(aggregate_id: Annotated[str, Path(max_length=64)]) -> Response:
        for unit in service.compiler.units.values():
            if unit.aggregate is not None and unit.aggregate.id == aggregate_id:
                body = {
                    "version": service.version,
                    **_aggregate(unit.aggregate),
                    "markets": [_market(market) for market in unit.markets],
                    "problems": list(unit.problems),
                }
                return _json(body)
        return problem.problem(404, f"no aggregate {aggregate_id!r}")


def _aggregate(aggregate: Aggregate) -> dict[str, Any]:
    return {
        "id": aggregate.id,
        "title": aggregate.title,
        "category": aggregate.category,
        "league": aggregate.league,
        "status": aggregate.status,
        "exclusive": aggregate.exclusive,
        "start_us": aggregate.start_us,
        "close_us": aggregate.close_us,
        "events": [f"{platform}:{slug}" for platform, slug in aggregate.events],
        "markets_count": len(aggregate.markets),
        "source": aggregate.source,
        "confirmed_by": aggregate.confirmed_by,
        "confirmed_at": aggregate.confirmed_at,
    }


def _market(market: UnifiedMarket) -> dict[str, Any]:
    return {
        "book": market.book,
        "key": market.key,
        "label": market.label,
        "tie": market.tie,
        "result": market.result,
        "legs": [
            {name: getattr(member, name) for name in type(member).__dataclass_fields__}
            for member in market.members
        ],
    }


# --- health ---------------------------------------------------------------------------------------


def _health(app: FastAPI, service: EventService) -> None:
    @app.get("/healthz", summary="The process is up")
    async def healthz() -> Response:
        return _json({"status": "ok"})

    @app.get("/readyz", summary="Events are kept and published; else 503 with the reasons")
    async def readyz() -> Response:
        down = sorted(name for name, discovery in service.discoveries.items() if not discovery.up)
        reasons = [] if service.redis_reachable else ["redis_unreachable"]
        if down and len(down) == len(service.discoveries):
            reasons.append("every_venue_down")
        reasons += [f"part_ended:{name}" for name in service.ended]
        degraded = [f"{name}_down" for name in down]
        pauses = {
            name: {"part": None if pause.part is None else sorted(pause.part[1]), "until_us": pause.until_us}
            for name, discovery in sorted(service.discoveries.items())
            if (pause := discovery.pause) is not None
        }
        degraded += [f"{name}_paused" for name in pauses]
        if service.files_problems:
            degraded.append("mapping_files_refused")
        missing = service.missing()
        if missing:
            degraded.append("events_missing")
        body = {
            "ready": not reasons,
            "reasons": reasons,
            "degraded": degraded,
            "mapping": service.version,
            "waiting": service.waiting,
            **({"missing": missing[:100]} if missing else {}),
            **({"paused": pauses} if pauses else {}),
        }
        return _json(body, 503 if reasons else 200)
