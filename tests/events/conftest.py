"""One venue REST server for all tests of this folder, empty at the start of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from events.venue_rest import VenueRest, in_thread


@pytest.fixture(scope="module")
def rest_server() -> Iterator[VenueRest]:
    with in_thread() as server:
        yield server


@pytest.fixture
def rest(rest_server: VenueRest) -> VenueRest:
    """Both venues' REST, empty."""
    rest_server.reset()
    return rest_server
