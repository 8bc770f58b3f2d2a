"""What every connection of one gateway shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wup.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.access import Access
    from wup.clock import Clock
    from wup.gateway.connection import Connection
    from wup.gateway.hub import Hub
    from wup.gateway.limits import Admission, Limits
    from wup.gateway.outbox import Wakeup
    from wup.gateway.overload import Overload
    from wup.gateway.tokens import Tokens

SLOTS = 10
"""Connections are looked at in this many groups, one group per tick."""

_REFUSALS_A_SECOND = 10  # lines in the log; all are counted


@dataclass
class Core:
    """Shared by all connections of a gateway."""

    limits: Limits
    clock: Clock
    hub: Hub
    wakeup: Wakeup
    admission: Admission
    overload: Overload
    access: Access
    tokens: Tokens | None
    refusals: Bucket = field(default_factory=lambda: Bucket(_REFUSALS_A_SECOND, _REFUSALS_A_SECOND, 0.0))
    greeting: Mapping[str, object] = field(default_factory=dict)
    draining: bool = False
    groups: tuple[dict[Connection, None], ...] = field(
        default_factory=lambda: tuple({} for _ in range(SLOTS))
    )
    _opened: int = 0

    def enter(self, connection: Connection) -> int:
        """Note an open connection; returns the group it is looked at with: they are spread evenly."""
        self._opened += 1
        slot = self._opened % SLOTS
        self.groups[slot][connection] = None
        return slot

    def leave(self, connection: Connection, slot: int) -> None:
        """The opposite of `enter`."""
        self.groups[slot].pop(connection, None)

    def connections(self) -> list[Connection]:
        """All open connections."""
        return [connection for group in self.groups for connection in group]
