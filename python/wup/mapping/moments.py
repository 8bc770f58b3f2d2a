"""When a market's event takes place, in its venue's words: two of the facts that the venue folders set.

`START` is the start of the game, which means the same at every venue that tells it. `OCCURS` is a time that
a venue gives its event by a rule of its own (one ran three hours late for whole leagues), so it is compared
with itself only: with what it was when a person or a rule confirmed the leg.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from wup.mapping.rest import time_us

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.mapping.catalogue import VenueMarket

START = "start"
OCCURS = "occurs"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(values: Mapping[str, object], name: str) -> datetime | None:
    """One of both among a market's facts or a leg's evidence; None where it is not told."""
    at = time_us(values.get(name))
    return None if at is None else _EPOCH + timedelta(microseconds=at)


def seen(listed: VenueMarket) -> dict[str, str | int | bool]:
    """The times that a confirmation rests on, for the leg's evidence."""
    told = ((name, moment(listed.facts, name)) for name in (START, OCCURS))
    return {name: at.isoformat().replace("+00:00", "Z") for name, at in told if at is not None}
