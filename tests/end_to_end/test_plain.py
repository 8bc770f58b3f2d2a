"""The plain client itself, against the vectors of wire.md."""

from __future__ import annotations

import json

from end_to_end.plain import PlainBook, PlainClient, cell, fnv1a, micro

SNAPSHOT = json.loads(
    '{"type":"snapshot","book":"fed-2026-12.9b1c22d0a47e55f1.yes","epoch":1795353600123,"seq":10481,'
    '"digest":2395318003,"state":"live","crossed":false,"why":"subscribe","legs":{},'
    '"bids":[["0.52","1200",{"kalshi":"500","polymarket":"700"}],["0.51","300.5",{"polymarket":"300.5"}]],'
    '"asks":[["0.54","250",{"kalshi":"250"}]],"ts":{"book":1795353605001000}}'
)
DELTA = json.loads(
    '{"type":"delta","book":"fed-2026-12.9b1c22d0a47e55f1.yes","epoch":1795353600123,"prev":10481,"seq":10482,'
    '"digest":3279520256,"state":"live","crossed":false,"cause":"polymarket","bids":[],'
    '"asks":[["0.54","0",{}],["0.53","90",{"polymarket":"90"}]],"ts":{}}'
)


def test_the_vectors_of_the_contract_hold() -> None:
    """Salts, cells and both digests of wire.md section 3 come out of this independent reading."""
    assert (fnv1a("kalshi"), fnv1a("polymarket"), fnv1a("kalshi-2")) == (2320148655, 3782428595, 3622892796)
    assert cell("kalshi", 0, micro("0.52"), micro("500")) == 2847660764
    assert cell("kalshi-2", 0, micro("0.52"), micro("500")) == 1198482198
    assert cell("polymarket", 1, micro("0.9999"), micro("5000000.25")) == 2001326314
    client = PlainClient()
    client.receive(json.dumps(SNAPSHOT))
    client.receive(json.dumps(DELTA))
    assert client.wrong == []
    assert client.checks == 2


def test_a_wrong_digest_is_seen() -> None:
    """A client that could not notice would prove nothing."""
    client = PlainClient()
    client.receive(json.dumps(SNAPSHOT))
    client.receive(json.dumps({**DELTA, "digest": 1}))
    assert len(client.wrong) == 1
    assert PlainBook().digest() == 0
