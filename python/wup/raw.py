"""What travels beside a raw frame, and the records that surround frames (wire.md sections 2 and 6).

A message on `market.>` is one record. The payload of `frame` and `sent` is the venue's text byte for byte;
of the other kinds a JSON object with the fields of wire.md section 6. Kind, receive stamp, connection and
counter travel as headers, so that the payload is never touched. A recording is the ordered log of these
records; `wup.normalizer.engine` is fed with them, live and in replay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal[
    "start", "open", "sent", "frame", "catalog", "mapping", "book", "status", "verdict", "marks", "close"
]
KINDS: frozenset[str] = frozenset(
    ("start", "open", "sent", "frame", "catalog", "mapping", "book", "status", "verdict", "marks", "close")
)

UNCOUNTED = -1

_KIND, _RX, _CONN, _N = "Wup-Kind", "Wup-Rx", "Wup-Conn", "Wup-N"


# Not frozen: one is made for every frame, and a frozen one takes three times as long to make.
@dataclass(slots=True)
class Meta:
    """Beside the payload: what it is, when it was read, on which connection, its place there.

    `connection` is `{name}.{epoch ms}`: unique per opened socket. `n` rises by one with every `frame` of
    the connection, starting at 1; for other kinds it is the last frame's. `UNCOUNTED` in the `open` of a
    recording that does not say after which frame it met the connection.
    """

    kind: Kind
    platform: str
    connection: str
    rx_us: int
    n: int

    def headers(self) -> dict[str, str]:
        """The form that travels."""
        return {_KIND: self.kind, _RX: str(self.rx_us), _CONN: self.connection, _N: str(self.n)}


def read_frame(headers: Mapping[str, str] | None) -> tuple[str, int, int] | None:
    """(connection, rx_us, n) of a frame's headers; None for every other message."""
    if headers is None or headers.get(_KIND) != "frame":
        return None
    try:
        return headers[_CONN], int(headers[_RX]), int(headers[_N])
    except (KeyError, ValueError):
        return None


def read_meta(platform: str, headers: Mapping[str, str] | None) -> Meta | None:
    """The inverse of `Meta.headers`; None when they are missing or wrong (the message is not ours)."""
    if headers is None:
        return None
    try:
        kind = headers[_KIND]
        if kind not in KINDS:
            return None
        return Meta(cast("Kind", kind), platform, headers[_CONN], int(headers[_RX]), int(headers[_N]))
    except (KeyError, ValueError):
        return None
