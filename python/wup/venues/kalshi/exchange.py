"""Does the exchange trade? Its maintenance is told by REST alone (venue notes, section 5).

Every Thursday 03:00 to 05:00 Eastern trading is paused; connections may live on, and books only shrink. Each
shard (`exchange_index`) can be paused alone. `/exchange/status` says what is; `/exchange/schedule` only until
when, for a pause that was planned.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from wup import logs
from wup.mapping.catalogue import CatalogueError, EventUnreadable, Pause
from wup.mapping.rest import number_text, time_us

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wup.clock import Clock
    from wup.mapping.rest import RestClient

SHARD = "exchange_index"
_SCHEDULE_TTL_S = 3600.0
_EASTERN = ZoneInfo("America/New_York")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class ExchangeStatus:
    """What of the exchange is paused, by `rest`."""

    def __init__(self, rest: RestClient, clock: Clock) -> None:
        self._rest = rest
        self._clock = clock
        self._schedule: Mapping[str, Any] = {}
        self._schedule_until = 0.0

    async def pause(self) -> Pause | None:
        """See `wup.mapping.catalogue.Catalogue.pause`."""
        answer = await self._rest.get("/exchange/status")
        shards = stopped(answer)
        if shards is not None and not shards:
            return None
        until_us = time_us(answer.get("exchange_estimated_resume_time"))
        if until_us is None:
            until_us = resumes_us(await self._hours(), self._clock.now_us())
        return Pause(None if shards is None else (SHARD, shards), until_us)

    async def _hours(self) -> Mapping[str, Any]:
        """The schedule, asked for once an hour and only in a pause; empty while the venue does not tell."""
        now = self._clock.monotonic()
        if now >= self._schedule_until:
            self._schedule_until = now + _SCHEDULE_TTL_S
            try:
                answer = await self._rest.get("/exchange/schedule")
            except CatalogueError as error:
                logs.bad_input("events", self._rest.platform, "schedule_unavailable", str(error))
                return self._schedule
            found = answer.get("schedule") if isinstance(answer, dict) else None
            if isinstance(found, dict):
                self._schedule = found
            else:
                logs.bad_input("events", self._rest.platform, "schedule_unreadable", repr(answer)[:200])
        return self._schedule


def stopped(status: Any) -> frozenset[str] | None:
    """Shards that do not trade, empty when all do; None: the whole exchange.

    Raises:
        EventUnreadable: the answer does not say.
    """
    said = [status.get(name) for name in ("exchange_active", "trading_active")] if _is(status) else [None]
    if not all(isinstance(one, bool) for one in said):
        raise EventUnreadable(f"kalshi: exchange status without its flags: {repr(status)[:200]}")
    active, trading = said
    found: set[str] = set()
    trades = False
    entries = status.get("exchange_index_statuses")
    for entry in entries if isinstance(entries, list) else []:
        shard = number_text(entry.get(SHARD)) if _is(entry) else None
        if shard is None:
            logs.bad_input("events", "kalshi", "shard_unreadable", repr(entry)[:200])
        elif entry.get("exchange_active") is True and entry.get("trading_active") is True:
            trades = True
        else:
            found.add(shard)
    if not active or (not trading and not (found and trades)):
        return None
    return frozenset(found)


def resumes_us(schedule: Mapping[str, Any], now_us: int) -> int | None:
    """The end of the planned pause in which `now_us` lies; None when none was planned."""
    for start_us, end_us in _windows(schedule):
        if start_us <= now_us < end_us:
            return end_us
    now = datetime.fromtimestamp(now_us / 1_000_000, UTC).astimezone(_EASTERN)
    opens: list[datetime] = []
    for ahead in range(-1, 8):
        day = (now + timedelta(days=ahead)).date()
        for start, end in _sessions(schedule, now_us, _DAYS[day.weekday()]):
            first = datetime.combine(day, start, _EASTERN)
            last = datetime.combine(day + timedelta(days=end <= start), end, _EASTERN)
            if first <= now < last:
                return None
            if first > now:
                opens.append(first)
    return round(min(opens).timestamp() * 1_000_000) if opens else None


def _windows(schedule: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    windows = schedule.get("maintenance_windows")
    for window in windows if isinstance(windows, list) else []:
        if _is(window):
            start_us, end_us = time_us(window.get("start_datetime")), time_us(window.get("end_datetime"))
            if start_us is not None and end_us is not None:
                yield start_us, end_us


def _sessions(schedule: Mapping[str, Any], now_us: int, day: str) -> Iterator[tuple[time, time]]:
    """A weekday's hours of trading; an end of 00:00 is midnight."""
    weeks = schedule.get("standard_hours")
    for week in weeks if isinstance(weeks, list) else []:
        if not _is(week):
            continue
        start_us, end_us = time_us(week.get("start_time")), time_us(week.get("end_time"))
        if (start_us is not None and now_us < start_us) or (end_us is not None and now_us >= end_us):
            continue
        hours = week.get(day)
        for session in hours if isinstance(hours, list) else []:
            try:
                yield time.fromisoformat(session["open_time"]), time.fromisoformat(session["close_time"])
            except (KeyError, TypeError, ValueError):
                logs.bad_input("events", "kalshi", "schedule_unreadable", repr(session)[:200])


def _is(value: object) -> bool:
    return isinstance(value, dict)
