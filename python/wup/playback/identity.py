"""What "the same output" means: a consolidated message without the fields that tell of clocks alone.

wire.md section 6: identity of live and replay is judged without `ts.norm`, `ts.book` and `age_ms`.
"""

from __future__ import annotations

import re

import orjson

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
