"""The event service: what the venues list, what the mapping files say, compiled into Redis (architecture.md).

Followed events are those of `EVENT_SLUG`, those that a leg in force names, and those asked for
by `/v1/track`. Each is fetched on its own schedule; a change is compiled, published in one version, and
announced. A venue or Redis that is away takes nothing with it: what is known stays and shows its age.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from wup import config, logs, subjects
from wup.access import Access
from wup.clock import SYSTEM_CLOCK
from wup.errors import SettingsError
from wup.events import history
from wup.events.discovery import Attempt, Discovery
from wup.events.files import WatchedFiles
from wup.events.http import make_app
from wup.events.publisher import Publisher
from wup.http_guard import HttpGuard
from wup.http_server import HttpServer
from wup.mapping.catalogue import EventNotFound, dated, paused
from wup.mapping.compile import Compiler
from wup.mapping.file import NO_FILES, MappingFiles
from wup.mapping.pauses import load_pauses
from wup.mapping.records import BadRecord
from wup.mapping.redis import REDIS_ERRORS, MappingStore, connect
from wup.mapping.write import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.bus import Bus, Message, Subscription
    from wup.clock import Clock
    from wup.config import Settings
    from wup.mapping.catalogue import Catalogue, VenueEventRecord
    from wup.mapping.listing import EventKey

_FIRST_ROUND_S = 3.0
_DEADLINE_S = 30.0


class EventService:
    """Runs in the caller's event loop between `start` and `stop`.

    Args:
        settings: `EVENT_SLUG`, `MAPPINGS`, `REFRESH_INTERVAL_SECS`, `BIND_HOST`, and the port.
        bus: carries `mapping.changed`.
        redis_url: Redis or Valkey.
        catalogues: REST discovery by platform name.
        http: (name of the setting, port), where another than `HTTP_PORT` applies.

    Raises:
        SettingsError: from the constructor, for every wrong slug and every mapping file problem at once.
    """

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        redis_url: str,
        catalogues: Mapping[str, Catalogue],
        clock: Clock = SYSTEM_CLOCK,
        *,
        http: tuple[str, int] | None = None,
    ) -> None:
        problems: list[str] = []
        if not config.is_loopback(settings.bind_host) and settings.tokens_file is None:
            problems.append(f"BIND_HOST: {settings.bind_host} is not loopback, which needs TOKENS_FILE")
        self._bus = bus
        self._announcements: Subscription | None = None
        self.catalogues = catalogues
        self.clock = clock
        self.events: dict[EventKey, VenueEventRecord] = {}
        """Last good data of every followed event, without the venue's own JSON."""
        self.tracked: set[EventKey] = set()
        self.compiler = Compiler()
        self.settings = settings
        self._configured = self._event_slugs(problems)
        self._files = NO_FILES
        self._mapped: frozenset[EventKey] = frozenset()
        path = Path(settings.mappings)
        self._watched = WatchedFiles(path, catalogues, self._replace_files)
        try:
            if path.exists() or "mappings" in settings.model_fields_set:
                self._files = self._watched.first()
        except SettingsError as error:
            problems.extend(error.problems)
        if problems:
            raise SettingsError(problems)
        self._redis = connect(redis_url)
        self._publisher = Publisher(redis_url, bus, self.compiler, catalogues, self._restore, clock)
        self.discoveries = {
            name: Discovery(
                catalogue,
                settings.refresh_interval_secs,
                self._found,
                clock,
                paused=partial(self._paused, name),
            )
            for name, catalogue in catalogues.items()
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.ended: list[str] = []
        """Parts of the service that have ended by a fault of ours: it is to be started again."""
        setting, port = http or self._port()
        # Following an event asks its venue, which may take its time.
        guarded = HttpGuard(make_app(self), Access.of(settings), deadline_s=_DEADLINE_S)
        self._http = HttpServer(guarded, settings.bind_host, port, setting)
        self._take_files(self._files)

    # --- life cycle ---

    @property
    def port(self) -> int:
        """Where HTTP is served, once started."""
        return self._http.port

    async def start(self) -> None:
        """Serve and begin to discover; does not wait for a venue or for Redis.

        Raises:
            PortInUse: the HTTP port is taken.
        """
        await self._http.start()
        self._announcements = await self._bus.subscribe(subjects.discover("*"), self._announced)
        for discovery in self.discoveries.values():
            self._tasks.append(asyncio.create_task(discovery.run(), name=f"discovery-{discovery.platform}"))
        self._tasks.append(asyncio.create_task(self._publisher.run(), name="mapping-publisher"))
        self._tasks.append(asyncio.create_task(self._watched.watch(), name="mapping-files"))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that runs for ever has ended: what it did is not done any more."""
        error = None if task.cancelled() else task.exception()
        if not self._stopping:
            self.ended.append(task.get_name())
            logs.log("events").error("a part of the service has ended", task=task.get_name(), exc_info=error)

    async def stop(self) -> None:
        """Stop serving and discovering; the catalogues are closed too."""
        self._stopping = True
        await self._http.stop()
        if self._announcements is not None:
            await self._announcements.stop()
        self._publisher.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for catalogue in self.catalogues.values():
            await catalogue.close()
        await self._publisher.close()
        await self._redis.aclose()

    async def settled(self) -> None:
        """Wait until everything known so far is in Redis."""
        await self._publisher.settled()

    # --- what HTTP asks ---

    @property
    def version(self) -> int:
        """The mapping version in force."""
        return self._publisher.version

    @property
    def redis_reachable(self) -> bool:
        """Redis answered the last time."""
        return self._publisher.reachable

    @property
    def waiting(self) -> int:
        """Changes that are not in Redis yet."""
        return self._publisher.waiting

    def followed_why(self, key: EventKey) -> list[str]:
        """Why an event is followed: `settings`, `mapping`, `tracked`."""
        return [
            word
            for word, keys in (
                ("settings", self._configured),
                ("mapping", self._mapped),
                ("tracked", self.tracked),
            )
            if key in keys
        ]

    def missing(self) -> list[str]:
        """Followed events that their venue says it does not have, as `PLATFORM:SLUG`."""
        return sorted(
            f"{platform}:{slug}"
            for platform, discovery in self.discoveries.items()
            for slug, attempt in discovery.attempts.items()
            if attempt.outcome == "missing"
        )

    def attempt(self, key: EventKey) -> Attempt | None:
        """The last attempt to fetch a followed event."""
        discovery = self.discoveries.get(key[0])
        return None if discovery is None else discovery.attempts.get(key[1])

    async def stored_event(self, key: EventKey) -> dict[str, Any] | None:
        """A followed event in full, as stored; None when Redis has none or is away."""
        try:
            found = await MappingStore(self._redis).event(*key)
        except REDIS_ERRORS:
            return None
        except BadRecord as error:
            logs.bad_input("events", key[0], "bad_record", f"event:{key[0]}:{key[1]}: {error}")
            return None
        return None if found is None else found[1]

    async def track(self, key: EventKey) -> VenueEventRecord:
        """Follow an event from now on.

        Raises:
            EventNotFound: the venue has none of that name; it is not followed.
            CatalogueError: the venue does not answer; it is followed, and fetched when the venue is back.
        """
        new = key not in self.tracked
        self.tracked.add(key)
        self._publisher.track(key, True)
        self._follow()
        try:
            event = await self.discoveries[key[0]].fetch(key[1])
        except EventNotFound:
            if new:
                self.untrack(key)
            raise
        self._found(event)
        return event

    def untrack(self, key: EventKey) -> None:
        """Undo `track`."""
        self.tracked.discard(key)
        self._publisher.track(key, False)
        self._follow()

    # --- followed events ---

    def _event_slugs(self, problems: list[str]) -> list[EventKey]:
        bare = next((c.platform for c in self.catalogues.values() if c.bare_slugs), None)
        keys: list[EventKey] = []
        for entry in self.settings.event_slug:
            platform, colon, slug = entry.partition(":")
            if not colon and bare is not None:
                platform, slug = bare, entry
            if platform not in self.catalogues or not slug:
                problems.append(
                    f"EVENT_SLUG: {entry!r} is not PLATFORM:SLUG with a platform of "
                    f"{', '.join(sorted(self.catalogues))}"
                )
            else:
                keys.append((platform, slug))
        return keys

    def _follow(self) -> None:
        """Bring the discoveries in line with what is followed now."""
        wanted = dict.fromkeys([*self._configured, *self._files.events(), *sorted(self.tracked)])
        for key in set(self.events) - set(wanted):
            del self.events[key]
            self._publisher.event_dropped(key)
            self._publisher.units_changed(self.compiler.drop_event(key))
        for name, discovery in self.discoveries.items():
            discovery.follow([slug for platform, slug in wanted if platform == name])

    def _found(self, event: VenueEventRecord) -> None:
        """A fetched event: kept without the venue's own JSON, which goes to Redis only."""
        key = (event.platform, event.slug)
        event = dated(event, self.events.get(key))
        self._publisher.event_fetched(event)
        self._keep(key, replace(event, raw={}, markets=tuple(replace(m, raw={}) for m in event.markets)))

    def _keep(self, key: EventKey, event: VenueEventRecord) -> None:
        before = self.events.get(key)
        if before is None or replace(before, fetched_us=event.fetched_us) != event:
            self._publisher.units_changed(self.compiler.set_event(self.as_paused(event)))
        # Not before it is compiled: what failed is news again the next time.
        self.events[key] = event

    def _paused(self, platform: str) -> None:
        """The venue as a whole has stopped trading, or does again: its legs leave, or come back, at once."""
        for event in list(self.events.values()):
            if event.platform == platform:
                self._publisher.units_changed(self.compiler.set_event(self.as_paused(event)))
        self._publisher.pause(platform, self.discoveries[platform].pause)

    def _announced(self, message: Message) -> None:
        """`{"events": [...]}`: by the venue's stream these have another listing. `{"assets": "all"|[...]}`:
        so have these, or what it said about them may not have been heard."""
        platform = subjects.split(message.subject)[-1]
        try:
            fields = orjson.loads(message.payload)
            discovery = self.discoveries[platform]
            if "assets" in fields:
                discovery.doubted(self._events_of(platform, fields["assets"]))
                return
            for slug in fields["events"]:
                if discovery.announced(str(slug)):
                    logs.log("events").info("listing changed", platform=platform, slug=logs.clean(str(slug)))
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            logs.bad_input("events", platform, "bad_announcement", message.payload, error=repr(error))

    def _events_of(self, platform: str, assets: object) -> list[str] | None:
        if assets == "all":
            return None
        if not isinstance(assets, list):
            raise TypeError("assets")
        wanted = {asset for asset in assets if isinstance(asset, str)}
        return [
            slug
            for (name, slug), event in self.events.items()
            if name == platform and any(wanted.intersection(market.assets) for market in event.markets)
        ]

    def as_paused(self, event: VenueEventRecord) -> VenueEventRecord:
        """The event with what its venue as a whole says: its markets may be in maintenance."""
        return paused(event, self.discoveries[event.platform].pause)

    async def _restore(self, store: MappingStore) -> None:
        """Take over the tracked set and the last good events of an earlier run, then let the venues speak."""
        self.tracked = await self._publisher.tracked()
        for key in [key for key in self.tracked if key[0] not in self.catalogues]:
            logs.bad_input("events", key[0], "unknown_platform", f"tracked {key[0]}:{key[1]}")
            self.tracked.discard(key)
        self._follow()
        recalled = await load_pauses(self._redis)
        for platform, discovery in self.discoveries.items():
            if platform in recalled:
                discovery.recall(recalled[platform])
                self._paused(platform)
        wanted = [*self._configured, *self._files.events(), *sorted(self.tracked)]
        for key in await store.event_keys(self.catalogues) - set(wanted):
            self._publisher.event_dropped(key)
        for key in dict.fromkeys(wanted):
            try:
                found = await store.event(*key)
            except BadRecord as error:
                logs.bad_input("events", key[0], "bad_record", f"event:{key[0]}:{key[1]}: {error}")
                continue
            if found is not None:
                # What was fetched meanwhile is newer; since when its facts hold, an earlier run may know.
                newer = self.events.get(key)
                self._keep(key, found[0] if newer is None else dated(newer, found[0]))
        rounds = [discovery.looked() for discovery in self.discoveries.values()]
        try:
            # One first version with everything in it, if the venues are quick.
            async with asyncio.timeout(_FIRST_ROUND_S):
                await asyncio.gather(*rounds)
        except TimeoutError:
            logs.log("events").info("first round not complete, publishing what is known")
        contested = self.compiler.contested()
        held = await store.holders(contested)
        followed = {key: place for place, key in enumerate(dict.fromkeys(wanted))}
        for name, keys in contested.items():
            first = min(keys, key=lambda key: followed.get(key, len(followed)))
            self._publisher.units_changed(self.compiler.prefer(name, held.get(name, first)))

    # --- mapping files ---

    def _take_files(self, files: MappingFiles) -> None:
        self._files = files
        self._mapped = frozenset(files.events())
        self._publisher.least_version = files.version
        self._publisher.units_changed(self.compiler.set_files(files))
        self._follow()

    def _replace_files(self, files: MappingFiles) -> None:
        """These files come into force, or, when that fails, those of before stay so."""
        before = self._files
        try:
            self._take_files(files)
        except Exception:
            self._take_files(before)
            raise

    async def publish_files(self) -> list[str]:
        """Take the mapping files as they are now; what is wrong with them (the last good ones then stay)."""
        return await self._watched.read()

    @property
    def files_problems(self) -> list[str]:
        """What is wrong with the mapping files since they were last good."""
        return self._watched.problems

    @property
    def files_digest(self) -> str:
        """Of the mapping files in force (`wup.mapping.write.digest`)."""
        return digest(self._files)

    async def history(self, aggregate: str | None, limit: int) -> list[dict[str, Any]] | None:
        """The last versions that came into force, the newest first; None while Redis is away."""
        try:
            found = await MappingStore(self._redis).history()
        except REDIS_ERRORS:
            return None
        return history.read(found, aggregate, limit)

    def _port(self) -> tuple[str, int]:
        if self.settings.http_port is not None:
            return "HTTP_PORT", self.settings.http_port
        return "EVENTS_HTTP_PORT", self.settings.events_http_port
