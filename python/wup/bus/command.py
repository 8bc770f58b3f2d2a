"""One message as the bytes of NATS's PUB and HPUB (nats.io, client protocol).

Written here and not by nats-py, which takes 10 us a message with headers and two task switches until the
bytes leave: on the way of every raw frame (docs/design.md has the figures).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from wup.errors import BusError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD = "NATS/1.0\r\n"


@lru_cache(maxsize=262_144)
def _subject(subject: str) -> str:
    """`subject` if it can stand in a command.

    Raises:
        BusError: it has white space or control characters, or is empty.
    """
    if not subject or not subject.isascii() or any(char <= " " or char == "\x7f" for char in subject):
        raise BusError(f"not a subject: {subject!r}")
    return subject


def publish_command(
    subject: str, payload: bytes, headers: Mapping[str, str] | None, reply: str | None, limit: int
) -> tuple[bytes, bytes, bytes]:
    """What to write for one message, in three parts so that the payload is not copied.

    Args:
        limit: what the server takes, headers and payload together.

    Raises:
        BusError: a subject or header that would end the command early, or too large a message.
    """
    to = f"{_subject(subject)} {_subject(reply)}" if reply else _subject(subject)
    if headers is None:
        head, total = f"PUB {to} {len(payload)}\r\n".encode(), len(payload)
    else:
        lines = "".join([f"{key}: {value}\r\n" for key, value in headers.items()])
        if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
            raise BusError(f"not headers: {headers!r}")
        block = f"{_HEAD}{lines}\r\n".encode()
        total = len(block) + len(payload)
        head = f"HPUB {to} {len(block)} {total}\r\n".encode() + block
    if total > limit:
        raise BusError(f"{total} bytes on {subject}, the server takes {limit}")
    return head, payload, b"\r\n"
