"""Fields of a venue's catalogue that this version does not know: kept in the raw form, counted, told once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup import logs

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST = 1_000


class KnownFields:
    """The names that one kind of record is known to have.

    Args:
        kind: what the record is, such as `market`.
        names: all known names, separated by white space.
    """

    def __init__(self, platform: str, kind: str, names: str) -> None:
        self._platform = platform
        self._kind = kind
        self._known = set(names.split())

    def see(self, record: Mapping[str, object]) -> None:
        """Count each name that is new, once in this process."""
        # A venue that invents names without end is not to fill the memory.
        if record.keys() <= self._known or len(self._known) > _MOST:
            return
        for name in record.keys() - self._known:
            self._known.add(name)
            logs.bad_input("events", self._platform, "new_field", f"{self._kind}.{name}")
