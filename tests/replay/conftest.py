"""Commands run inside the tests' process configure the logs: undone after each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """No test logs to a stream that another one has closed."""
    yield
    structlog.reset_defaults()
