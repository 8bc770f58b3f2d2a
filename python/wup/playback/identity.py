"""What "the same output" means: a consolidated message without the fields that tell of clocks alone.

wire.md section 6: identity of live and replay is judged without `ts.norm`, `ts.book` and `age_ms`.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import orjson

from wup import subjects

if TYPE_CHECKING:
    from wup.bus import Bus, Message

_STAMPED = (b'{"type":"delta",', b'{"type":"trade",')
# How the core ends them: `ts` stands last, and nothing else in them has these names.
_STAMPS = re.compile(rb'"recv":\d+(,"norm":\d+,"book":\d+)\}\}')
_TAIL = 96


def comparable(payload: bytes) -> bytes:
    """A consolidated message, with a newline, without what differs between a live run and its replay."""
    if payload.startswith(_STAMPED):
        at = payload.rfind(b'"recv":', -_TAIL)
        found = _STAMPS.fullmatch(payload, at) if at > 0 else None
        if found is not None:
            return payload[: found.start(1)] + b"}}\n"
    message = orjson.loads(payload)
    stamps = message.get("ts")
    if isinstance(stamps, dict):
        stamps.pop("norm", None)
        stamps.pop("book", None)
    legs = message.get("legs")
    if isinstance(legs, dict):
        for leg in legs.values():
            if isinstance(leg, dict):
                leg.pop("age_ms", None)
    return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)


class OutputDigest:
    """The SHA-256 of a live process's consolidated messages, to be compared with that of its recording."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.messages = 0

    async def listen(self, bus: Bus) -> None:
        """Before the first stage starts, on the in-process bus, whose order is that of the store."""
        await bus.subscribe(subjects.CHANGES_ALL, self._take)
        await bus.subscribe(subjects.TRADES_ALL, self._take)

    def _take(self, message: Message) -> None:
        self.messages += 1
        self._sha256.update(comparable(message.payload))

    def hexdigest(self) -> str:
        """Over everything so far."""
        return self._sha256.hexdigest()
