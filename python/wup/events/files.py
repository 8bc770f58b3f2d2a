"""The mapping files of the event service: read at the start, when they were edited, and when asked to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wup import logs
from wup.errors import SettingsError
from wup.mapping.file import files_of
from wup.mapping.lint import load_checked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from wup.mapping.file import MappingFiles

    Look = tuple[tuple[str, int, int, int], ...]

_CHECK_S = 0.5


class WatchedFiles:
    """A mapping file, or a folder of them.

    Args:
        platforms: the venues that exist.
        replace: brings files into force; when it raises, those of before must still be.
    """

    def __init__(
        self, path: Path, platforms: Collection[str], replace: Callable[[MappingFiles], None]
    ) -> None:
        self.problems: list[str] = []
        """What is wrong with the files since they were last good."""
        self._path = path
        self._platforms = platforms
        self._replace = replace
        self._seen: Look = ()
        """How the files looked just before they were read last."""
        self._reading = asyncio.Lock()
        """Of two readings at once the older could come into force last, with nobody to look again."""

    def first(self) -> MappingFiles:
        """Read them now, in the caller's own time.

        Raises:
            SettingsError: every problem with file, line and reason.
        """
        self._seen = _look(self._path)
        return load_checked(self._path, self._platforms)

    async def watch(self) -> None:
        """Take edited files once two looks show the same; wrong ones change nothing, and their problems are
        shown."""
        before = self._seen
        while True:
            await asyncio.sleep(_CHECK_S)
            seen = await asyncio.to_thread(_look, self._path)
            settled, before = seen == before, seen
            # What changed since the last look may be half written, or one of several files.
            if settled and seen != self._seen:
                await self._read(seen)

    async def read(self) -> list[str]:
        """Take them as they are now; what is wrong with them (the last good ones then stay)."""
        return await self._read(None)

    async def _read(self, settled: Look | None) -> list[str]:
        """Read, if they still look like this; None: however they look."""
        async with self._reading:
            seen = await asyncio.to_thread(_look, self._path)
            if settled is not None and (seen != settled or seen == self._seen):
                return self.problems
            self._seen = seen
            try:
                files = await asyncio.to_thread(load_checked, self._path, self._platforms)
                self._replace(files)
            except SettingsError as error:
                self.problems = error.problems
                logs.log("events").error("mapping files refused, the last ones stay", problems=error.problems)
            except Exception as error:
                # The next edit must find somebody watching.
                self.problems = [f"mapping files: {error!r}"]
                logs.log("events").exception("mapping files not taken, the last ones stay")
            else:
                self.problems = []
                logs.log("events").info("mapping files read", version=files.version)
            return self.problems


def _look(path: Path) -> Look:
    """What tells that mapping files changed: names, files, sizes, times."""
    found = []
    try:
        paths = files_of(path)
    except OSError:
        return ()
    for each in paths:
        try:
            stat = each.stat()
        except OSError:
            # Gone since the folder was listed: that one only.
            continue
        found.append((str(each), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)
