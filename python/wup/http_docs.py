"""A FastAPI application whose documentation page (`/docs`) needs nothing from outside.

FastAPI's own page loads Swagger UI from a content delivery network; here its files come from the package
fastapi-offline. The badge that asks a validator on the internet is off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi_offline import FastAPIOffline

from wup import __version__, problem

if TYPE_CHECKING:
    from fastapi import FastAPI


def documented(title: str) -> FastAPI:
    """An application with `/docs`, `/openapi.json` and errors as problem documents."""
    app = FastAPIOffline(
        title=title, version=__version__, redoc_url=None, swagger_ui_parameters={"validatorUrl": None}
    )
    problem.install(app)
    return app
