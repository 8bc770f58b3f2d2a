"""A FastAPI application whose documentation page (`/docs`) needs nothing from outside.

FastAPI's own page loads Swagger UI from a content delivery network; here its files come from the package
fastapi-offline. The badge that asks a validator on the internet is off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi_offline import FastAPIOffline

from wup import __version__, problem

if TYPE_CHECKING:
    from fastapi import FastAPI

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457; further members say more.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail"],
}


def problems(**statuses: str) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route for problem documents: `_404="no such book"`."""
    content = {"application/problem+json": {"schema": _PROBLEM}}
    return {int(name[1:]): {"description": what, "content": content} for name, what in statuses.items()}


def documented(title: str) -> FastAPI:
    """An application with `/docs`, `/openapi.json` and errors as problem documents."""
    app = FastAPIOffline(
        title=title, version=__version__, redoc_url=None, swagger_ui_parameters={"validatorUrl": None}
    )
    problem.install(app)
    made = app.openapi

    def document() -> dict[str, Any]:
        """FastAPI's own, with what a wrong parameter really gets: 400 and a problem document."""
        if app.openapi_schema is None:
            for item in made()["paths"].values():
                for operation in item.values():
                    if operation["responses"].pop("422", None) is not None:
                        operation["responses"]["400"] = problems(_400="a parameter is wrong")[400]
            assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
    return app
