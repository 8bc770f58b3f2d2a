"""Connections on a virtual clock, against a venue that is a plan: hours of reconnecting in a second."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aggregator.test_aggregator import ToySession, table
from wup import subjects
from wup.aggregator import Aggregator, connection
from wup.bus import LocalBus
from wup.venues.base import Limits, Venue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from wup.bus import Message

START_US = 1_795_353_600_000_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only when nothing else is to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        real = self._selector.select  # type: ignore[attr-defined]

        def select(timeout: float | None) -> Any:
            if timeout is None:
                raise RuntimeError("nothing will ever happen")
            events = real(0)
            if not events:
                self.now += timeout
            return events

        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


class LoopClock:
    """The running loop's time."""

    def now_us(self) -> int:
        return START_US + round(self.monotonic() * 1_000_000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class Opened:
    """A socket of the plan: it says a word or not, and lives for so long."""

    def __init__(self, reader: Any, lives_s: float, words: int) -> None:
        self.heard = 0.0
        self.ended = "closed"
        self._end = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.call_later(lives_s, self._end.set)
        for _ in range(words):
            loop.call_soon(reader.frame, b"noise", 0)

    def send(self, text: str) -> None:
        """Into the void."""

    def ping(self) -> None:
        self.heard = asyncio.get_running_loop().time()

    def abort(self, why: str) -> None:
        self.ended = why
        self._end.set()

    async def wait_closed(self) -> None:
        await self._end.wait()


class Plan:
    """What the venue does with each attempt: an exception to raise, or (life in seconds, words)."""

    def __init__(
        self, answer: Callable[[int], Exception | tuple[float, int]], *, takes_s: float = 0.0
    ) -> None:
        self._answer = answer
        self._takes_s = takes_s
        self.under_way = 0
        self.together: list[int] = []
        """How many attempts were under way at each, itself included."""
        self.times: list[float] = []
        self.signed: list[str] = []

    async def open(self, url: str, headers: dict[str, str], reader: Any, clock: Any) -> Opened:
        self.times.append(clock.monotonic())
        self.signed.append(headers["X-Toy"])
        self.under_way += 1
        self.together.append(self.under_way)
        try:
            await asyncio.sleep(self._takes_s)
        finally:
            self.under_way -= 1
        answer = self._answer(len(self.times))
        if isinstance(answer, Exception):
            raise answer
        venue = Opened(reader, *answer)
        venue.heard = clock.monotonic()
        reader.opened(venue)
        return venue

    def busiest_minute(self) -> int:
        """The most attempts in any 60 s."""
        return max(sum(at <= other < at + 60 for other in self.times) for at in self.times)


class SigningSession(ToySession):
    """Another signature each time."""

    made = 0

    async def handshake(self) -> tuple[str, dict[str, str]]:
        SigningSession.made += 1
        return "ws://venue.test", {"X-Toy": str(SigningSession.made)}


def run(
    monkeypatch: pytest.MonkeyPatch,
    plan: Plan,
    seconds: float,
    *,
    assets: int = 1,
    limits: Limits | None = None,
    meanwhile: Callable[[Aggregator], Awaitable[None]] | None = None,
) -> list[Message]:
    """Aggregate `assets` for that long; every record on the bus."""
    monkeypatch.setattr(connection, "open_socket", plan.open)
    records: list[Message] = []

    async def body() -> None:
        bus = LocalBus()
        await bus.subscribe(subjects.RAW_ALL, records.append)
        nothing: Any = lambda *_: None  # noqa: E731
        venue = Venue("toy", object, SigningSession, nothing, nothing, limits or Limits(connections=1000))
        aggregator = Aggregator(
            bus, {"toy": (venue, SimpleNamespace(url="ws://venue.test"))}, LoopClock(), random.Random(3)
        )
        await aggregator.start()
        await aggregator.set_table(table(*(f"A{number}" for number in range(assets))))
        if meanwhile is not None:
            await meanwhile(aggregator)
        else:
            await asyncio.sleep(seconds)
        await aggregator.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(body())
    return records
