"""SIGKILL under load (small; `make soak` has the long form with 5,006 books)."""

from __future__ import annotations

import pytest

from end_to_end.recovery import run

# Whole systems of processes start here: slow where other suites run beside.
pytestmark = pytest.mark.timeout(150)


async def test_books_are_exact_again_after_sigkill() -> None:
    """After each kill of the orderbook service, and of it and the normalizer together, all books come back
    live under larger epochs and like the venues' true books; the clients stay connected, and no verifying
    check ever fails."""
    found = await run(events=5, outcomes=4, kills=2, venue_kills=1)
    assert found.wrong == []
    assert found.books == 26
    assert found.checked > 500
    assert found.compared > 100
    assert [kill.what for kill in found.kills] == ["orderbook", "orderbook", "aggregator+orderbook"]
