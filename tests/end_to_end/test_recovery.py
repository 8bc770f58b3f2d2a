"""SIGKILL of the orderbook service under load (small; the long form is in make soak)."""

from __future__ import annotations

import pytest

from end_to_end.recovery import run

# Whole systems of processes start here: slow where other suites run beside.
pytestmark = pytest.mark.timeout(150)


async def test_books_are_exact_again_after_sigkill() -> None:
    """After each kill all books come back live under larger epochs, the client stays connected, and no
    verifying check ever fails."""
    found = await run(events=5, kills=3)
    assert found.books == 26
    assert found.wrong == 0
    assert found.checked > 1000
    assert len(found.recovered_s) == 3
