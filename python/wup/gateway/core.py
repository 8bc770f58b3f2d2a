"""What every connection of one gateway shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wup.clock import Clock
    from wup.gateway.connection import Connection
    from wup.gateway.hub import Hub
    from wup.gateway.limits import Admission, Limits
    from wup.gateway.outbox import Wakeup
    from wup.gateway.tokens import Tokens

SLOTS = 10
"""Connections are looked at in this many groups, one group per tick."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Access:
    """Host and Origin lists: exact comparison only, no prefix or suffix logic (DNS rebinding, hijacking)."""

    def __init__(self, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(_origin(origin) for origin in origins) - {None}

    def host(self, value: str) -> bool:
        """Is this `Host` header one of ours, with or without its port?"""
        wanted = value.strip().lower()
        return wanted in self._hosts or _without_port(wanted) in self._hosts

    def origin(self, value: str, host: str) -> bool:
        """Is this `Origin` the gateway's own (that of the `Host` asked) or in the list?"""
        wanted = _origin(value)
        if wanted is None:
            return False
        return wanted in self._origins or wanted in (_origin(f"http://{host}"), _origin(f"https://{host}"))

    def listed(self, value: str) -> bool:
        """Is this `Origin` in the list (for CORS, where the own origin needs no permission)?"""
        wanted = _origin(value)
        return wanted is not None and wanted in self._origins


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and (":" not in name or name.endswith("]")) else host


def _origin(text: str) -> tuple[str, str, int] | None:
    """(scheme, host, port) of an origin, or None when it is not one."""
    try:
        parts = urlsplit(text.strip().lower())
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path or parts.query:
        return None
    if parts.username is not None or parts.fragment:
        return None
    return (parts.scheme, parts.hostname, port)


@dataclass
class Core:
    """Shared by all connections of a gateway."""

    limits: Limits
    clock: Clock
    hub: Hub
    wakeup: Wakeup
    admission: Admission
    access: Access
    tokens: Tokens | None
    draining: bool = False
    groups: tuple[set[Connection], ...] = field(default_factory=lambda: tuple(set() for _ in range(SLOTS)))
    _opened: int = 0

    def enter(self, connection: Connection) -> int:
        """Note an open connection; returns the group it is looked at with: they are spread evenly."""
        self._opened += 1
        slot = self._opened % SLOTS
        self.groups[slot].add(connection)
        return slot

    def leave(self, connection: Connection, slot: int) -> None:
        """The opposite of `enter`."""
        self.groups[slot].discard(connection)

    def connections(self) -> list[Connection]:
        """All open connections."""
        return [connection for group in self.groups for connection in group]
