"""The OpenAPI document of the orderbook service, held against live answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator, ValidationError

from orderbook.feeding import BOOK, OTHER, table
from orderbook.test_http import DOWN, NO, K, P, serving
from wup.mapping.catalogue import FactChange

CHANGED = replace(K, changes=(FactChange(1, "tick", "0.01", "0.001"),), facts_us=1, fees={"type": "flat"})


def schema_of(document: dict[str, Any], path: str, status: int) -> tuple[str, dict[str, Any]]:
    """Media type and schema of an answer, with the document's components beside it."""
    answers = document["paths"][path]["get"]["responses"]
    ((media, body),) = answers[str(status)]["content"].items()
    return media, {**body["schema"], "components": document["components"]}


ASKED = [
    ("/v1/books", "/v1/books?match=>", 200),
    ("/v1/books", "/v1/books?limit=0", 400),
    ("/v1/books", "/v1/books?asset=kalshi:KXFED-26DEC-C25", 200),
    ("/v1/books/{book}", f"/v1/books/{BOOK}", 200),
    ("/v1/books/{book}", f"/v1/books/{NO}?depth=1", 200),
    ("/v1/books/{book}", "/v1/books/no.such.yes", 404),
    ("/v1/books/{book}", f"/v1/books/{OTHER}", 503),
    ("/v1/bbo/{book}", f"/v1/bbo/{BOOK}", 200),
    ("/v1/bbo/{book}", f"/v1/bbo/{OTHER}", 503),
    ("/v1/aggregates", "/v1/aggregates?limit=1", 200),
    ("/v1/aggregates/{aggregate}", "/v1/aggregates/fed-2026-12", 200),
    ("/v1/aggregates/{aggregate}", "/v1/aggregates/none", 404),
    ("/v1/disagreements", "/v1/disagreements", 200),
    ("/healthz", "/healthz", 200),
    ("/readyz", "/readyz", 200),
]


@pytest.mark.parametrize("closed", [False, True])
async def test_live_answers_are_what_the_document_says(closed: bool) -> None:
    """Every route is asked, and body and media type of each answer are those of the document, which allows no
    member that it does not name; open books, books without a live leg, and closed ones with their result."""
    async with serving() as (feed, client):
        rich = table(CHANGED, P, DOWN, version=2, result="yes" if closed else None)
        settled = (("kalshi", "m-1", "yes"), ("polymarket", "0x1", None))
        books = {book: replace(info, settled=settled) for book, info in rich.books.items()}
        await feed.service.set_table(replace(rich, books=books))
        document = (await client.get("/openapi.json")).json()
        assert {path for path, _, _ in ASKED} | {"/v1/snapshots"} == set(document["paths"])
        for path, address, status in ASKED:
            answer = await client.get(address)
            if closed and status == 503:
                status = 200
            assert answer.status_code == status, address
            media, schema = schema_of(document, path, status)
            assert answer.headers["content-type"] == media
            Draft202012Validator(schema).validate(answer.json())
        lines = (await client.get("/v1/snapshots")).text.splitlines()
        _, schema = schema_of(document, "/v1/books/{book}", 200)
        for line in lines:
            Draft202012Validator(schema).validate(orjson.loads(line))


async def test_the_document_refuses_what_is_not_so() -> None:
    """A body with a member too many, one too few, or a number in another form would be found."""
    async with serving() as (_, client):
        document = (await client.get("/openapi.json")).json()
        body = (await client.get(f"/v1/bbo/{BOOK}")).json()
        check = Draft202012Validator(schema_of(document, "/v1/bbo/{book}", 200)[1])
        check.validate(body)
        missing = {key: value for key, value in body.items() if key != "crossing_size"}
        for wrong in (
            {**body, "more": 1},
            missing,
            {**body, "crossing_size": "4.0"},
            {**body, "best_bid": ["0.5"]},
        ):
            with pytest.raises(ValidationError):
                check.validate(wrong)
