"""A deadline that every message puts off, looked at once per limit and not once per message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Silence:
    """Ends the block with TimeoutError after `limit` seconds without a call of `broken`."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._deadline = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    def broken(self) -> None:
        """Something was heard."""
        self._heard = self._loop.time()

    async def __aenter__(self) -> Self:
        await self._deadline.__aenter__()
        self._look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._deadline.__aexit__(kind, error, trace)
        except TimeoutError:
            raise TimeoutError(f"silent for {self._limit:g} s") from None

    def _look(self) -> None:
        due = self._heard + self._limit
        if due <= self._loop.time():
            self._deadline.reschedule(due)
        else:
            self._timer = self._loop.call_at(due, self._look)
