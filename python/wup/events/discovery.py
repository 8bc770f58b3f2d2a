"""Keeps the followed events of one venue fresh: a refresh of all every so often, new ones at once.

A venue that does not answer is asked less and less often (a circuit breaker); what is known of its events
stays, and shows its age.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from wup import backoff, logs
from wup.clock import SYSTEM_CLOCK
from wup.mapping.catalogue import CatalogueError, EventNotFound, EventUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from wup.clock import Clock
    from wup.mapping.catalogue import Catalogue, Pause, VenueEventRecord

_AT_ONCE = 4
_FAILURES_TO_OPEN = 3
_OPEN_BASE_S = 2.0
_OPEN_CAP_S = 60.0

PAUSE_S = 15.0
"""Between two questions whether the venue as a whole trades: as long as its answers may lie in a cache."""

SOON_S = (2.0, 20.0)
"""When an event is asked for after the stream said that its listing changed: the venue's REST knows it a
little later, and its answers may lie in a cache for some 15 s."""

Outcome = Literal["pending", "ok", "missing", "failed"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of the last attempt to fetch an event."""

    outcome: Outcome
    at_us: int
    detail: str = ""


class Breaker:
    """Opens after three failures in a row; then one attempt at a time, after growing waits."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._failures = 0
        self._not_before = 0.0

    @property
    def open(self) -> bool:
        """The venue is taken for down."""
        return self._failures >= _FAILURES_TO_OPEN

    def wait_s(self) -> float:
        """Seconds until the next attempt is allowed; 0 = now."""
        return max(0.0, self._not_before - self._clock.monotonic())

    def succeeded(self) -> None:
        """The venue answered."""
        self._failures = 0
        self._not_before = 0.0

    def failed(self, retry_after: float | None) -> None:
        """The venue did not answer; `retry_after` is its own word and wins."""
        self._failures += 1
        pause = 0.0
        if self.open:
            tries = self._failures - _FAILURES_TO_OPEN
            pause = backoff.full_jitter(tries, random.uniform, base=_OPEN_BASE_S, cap=_OPEN_CAP_S)
        if retry_after is not None:
            pause = max(pause, retry_after)
        self._not_before = self._clock.monotonic() + pause


class Discovery:
    """The followed events of one venue.

    Args:
        catalogue: the venue's REST discovery.
        refresh_s: seconds between two refreshes of the same event.
        found: called with every event fetched; what it raises fails that event only.
        paused: called when another part of the venue than before does not trade (`Catalogue.pause`).
    """

    def __init__(
        self,
        catalogue: Catalogue,
        refresh_s: float,
        found: Callable[[VenueEventRecord], None],
        clock: Clock = SYSTEM_CLOCK,
        *,
        paused: Callable[[], None] = lambda: None,
    ) -> None:
        self.platform = catalogue.platform
        self.pause: Pause | None = None
        """What of the venue did not trade when it was asked last."""
        self.attempts: dict[str, Attempt] = {}
        self.breaker = Breaker(clock)
        self.first_round = asyncio.Event()
        """Set when every event followed at the start was asked for once, or the venue is down."""
        self.pause_asked = asyncio.Event()
        """Set when the venue was asked for the first time whether it trades."""
        self._told = False
        """It has said so."""
        self._catalogue = catalogue
        self._refresh_s = refresh_s
        self._found = found
        self._paused = paused
        self._clock = clock
        self._due: dict[str, float] = {}
        self._again: dict[str, float] = {}
        """By slug: not later than this once more, because there are news."""
        self._unread: dict[str, int] = {}
        """Answers in a row that could not be read, or taken, by slug."""
        self._wake = asyncio.Event()
        self._any = asyncio.Event()
        """Something is followed."""

    @property
    def up(self) -> bool:
        """The venue answers, as far as was tried."""
        return not self.breaker.open

    def follow(self, slugs: Collection[str]) -> None:
        """Follow exactly these events; new ones are fetched at once."""
        for slug in set(self._due) - set(slugs):
            del self._due[slug]
            self.attempts.pop(slug, None)
            self._unread.pop(slug, None)
            self._again.pop(slug, None)
        now = self._clock.monotonic()
        for slug in slugs:
            if slug not in self._due:
                self._due[slug] = now
                self.attempts[slug] = Attempt("pending", self._clock.now_us())
        self._wake.set()
        if self._due:
            self._any.set()
        else:
            self._any.clear()

    def announced(self, slug: str) -> bool:
        """The stream says that this event's listing changed: look soon; False: it is not followed."""
        due = self._due.get(slug)
        if due is None:
            return False
        now = self._clock.monotonic()
        self._due[slug] = min(due, now + SOON_S[0])
        self._again[slug] = now + SOON_S[1]
        self._wake.set()
        return True

    def doubted(self, slugs: Collection[str] | None = None) -> None:
        """Markets of these events changed: look soon. None: those of any event may have, unheard; as that is
        said whenever a connection opens, events whose next look is near anyway are left to it."""
        for slug in [slug for slug in self._due if slug not in self._again] if slugs is None else slugs:
            self.announced(slug)

    async def fetch(self, slug: str) -> VenueEventRecord:
        """Fetch one event now, on a person's request.

        Raises:
            EventNotFound: no such event.
            CatalogueError: the venue does not answer, or its breaker is open.
        """
        wait = self.breaker.wait_s()
        if wait > 0:
            raise CatalogueError(f"{self.platform}: not answering, next attempt in {wait:.0f} s", wait)
        event = await self._ask(slug)
        self._unread.pop(slug, None)
        if slug in self._due:
            self._due[slug] = self._clock.monotonic() + self._refresh_s
        return event

    async def run(self) -> None:
        """Refresh for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_pause(), name=f"pause-{self.platform}")
            tasks.create_task(self._refresh(), name=f"refresh-{self.platform}")

    async def looked(self) -> None:
        """Wait for the first round, and for the first question whether the venue trades."""
        await self.first_round.wait()
        if self._any.is_set():
            await self.pause_asked.wait()

    def recall(self, pause: Pause) -> None:
        """What an earlier run heard last: it holds until the venue says something."""
        if not self._told:
            self.pause = pause

    async def _watch_pause(self) -> None:
        """Whether the venue as a whole trades; while it does not say, what it said last holds."""
        while True:
            await self._any.wait()
            try:
                self._take(await self._catalogue.pause())
                self._told = True
            except CatalogueError as error:
                logs.bad_input("events", self.platform, "pause_unknown", str(error))
            except Exception as error:
                # A fault of ours over some answer: what was known stays, and the next one may be read.
                logs.bad_input("events", self.platform, "pause_fault", repr(error))
            self.pause_asked.set()
            await asyncio.sleep(PAUSE_S)

    def _take(self, pause: Pause | None) -> None:
        before, self.pause = self.pause, pause
        if before is pause or (before is not None and pause is not None and before.part == pause.part):
            return
        logs.log("events").warning(
            "venue trades again" if pause is None else "venue does not trade",
            platform=self.platform,
            part=None if pause is None or pause.part is None else sorted(pause.part[1]),
            until_us=None if pause is None else pause.until_us,
        )
        try:
            self._paused()
        except Exception:
            # Not in force: the next answer is news again.
            self.pause = before
            raise

    async def _refresh(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock.monotonic()
            due = sorted((at, slug) for slug, at in self._due.items() if at <= now)
            pause = self.breaker.wait_s()
            if due and pause == 0:
                # An open breaker lets a single attempt through.
                batch = [slug for _, slug in (due[:1] if self.breaker.open else due[:_AT_ONCE])]
                await asyncio.gather(*(self._one(slug) for slug in batch))
                if self.breaker.open:
                    self.first_round.set()
                continue
            if not due:
                self.first_round.set()
                pause = max(0.0, min(self._due.values(), default=now + self._refresh_s) - now)
            try:
                async with asyncio.timeout(max(pause, 0.01)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _one(self, slug: str) -> None:
        try:
            event = await self._ask(slug)
        except EventNotFound:
            pass
        except CatalogueError:
            self._put_back(slug)
            return
        else:
            if slug in self._due:
                try:
                    self._found(event)
                except Exception as error:
                    # A fault of ours over this event: what was known of it stays, the others go on.
                    self._fault(slug, error)
                    return
                self._unread.pop(slug, None)
        if slug in self._due:
            now = self._clock.monotonic()
            again = self._again.get(slug)
            if again is not None and again <= now:
                del self._again[slug]
                again = None
            self._due[slug] = now + self._refresh_s if again is None else min(again, now + self._refresh_s)

    def _put_back(self, slug: str) -> None:
        if slug in self._due:
            # To the back, also while the breaker is open: its single attempts go round all events, so
            # that one that always fails does not keep the venue down for the others.
            pause = _OPEN_BASE_S * 2 ** min(self._unread.get(slug, 0), 5)
            self._due[slug] = self._clock.monotonic() + min(self._refresh_s, pause)

    def _fault(self, slug: str, error: Exception) -> None:
        """An event was fetched, and could not be taken."""
        before = self.attempts.get(slug)
        self._count_unread(slug)
        self._note(slug, "failed", f"not taken: {error!r}", before)
        logs.bad_input("events", self.platform, "event_fault", f"{slug}: {error!r}", exc_info=error)
        self._put_back(slug)

    async def _ask(self, slug: str) -> VenueEventRecord:
        before = self.attempts.get(slug)
        asked_us = self._clock.now_us()
        try:
            event = await self._catalogue.event(slug)
        except EventNotFound as error:
            self.breaker.succeeded()
            self._note(slug, "missing", str(error), before)
            raise
        except EventUnreadable as error:
            self.breaker.succeeded()
            self._count_unread(slug)
            self._note(slug, "failed", str(error), before)
            raise
        except CatalogueError as error:
            self.breaker.failed(error.retry_after)
            self._note(slug, "failed", str(error), before)
            raise
        except Exception as error:
            # A fault of ours over some answer of the venue: this event fails, the others go on.
            self._count_unread(slug)
            self._note(slug, "failed", repr(error), before)
            logs.log("events").exception("catalogue fault", platform=self.platform, slug=logs.clean(slug))
            raise CatalogueError(f"{self.platform}: {slug!r}: {error!r}") from error
        self.breaker.succeeded()
        self._unread.pop(slug, None)
        self._note(slug, "ok", "", before)
        # What was said is true of the time of the question at the earliest.
        return replace(event, fetched_us=min(event.fetched_us, asked_us))

    def _count_unread(self, slug: str) -> None:
        if slug in self._due:
            self._unread[slug] = self._unread.get(slug, 0) + 1

    def _note(self, slug: str, outcome: Outcome, detail: str, before: Attempt | None) -> None:
        if slug in self._due:
            self.attempts[slug] = Attempt(outcome, self._clock.now_us(), detail)
        if outcome != "ok" and (before is None or before.outcome != outcome):
            logs.bad_input("events", self.platform, f"event_{outcome}", detail)
            said = "event not fetched"
            if outcome == "missing":
                said = "the venue has no such event: check its name, and PLATFORM: before another venue's"
            logs.log("events").warning(
                said,
                platform=self.platform,
                slug=logs.clean(slug),
                outcome=outcome,
                detail=detail,
            )
