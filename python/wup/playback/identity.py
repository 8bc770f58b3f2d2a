"""What "the same output" means: a consolidated message without the fields that tell of clocks alone.

wire.md section 6: identity of live and replay is judged without `ts.norm`, `ts.book` and `age_ms`.
"""

from __future__ import annotations

import re

import orjson

# A delta or a trade as the core writes it: `ts` stands last, and nothing else in it is named like this.
_STAMPED = re.compile(
    rb'(\{"type":"(?:delta|trade)",.*"ts":\{(?:"venue":\d+,)?"recv":\d+),"norm":\d+,"book":\d+\}\}'
)


def comparable(payload: bytes) -> bytes:
    """A consolidated message, with a newline, without what differs between a live run and its replay."""
    found = _STAMPED.fullmatch(payload)
    if found is not None:
        return found[1] + b"}}\n"
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
