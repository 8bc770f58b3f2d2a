"""A new mapping comes into force in a book store: the one order of steps, live and in replay."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from wup._core import UnknownBook

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wup._core import BookStore, Change
    from wup.mapping.table import MappingTable
    from wup.model import LegState

_SUSPENDED: tuple[LegState, str] = ("halted", "suspended")
_KEPT_OUT: dict[str, tuple[LegState, str]] = {
    "halted": ("halted", "halted"),
    "maintenance": ("halted", "maintenance"),
    "closed": ("closed", "closed"),
}


def kept_out(reason: str) -> tuple[LegState, str]:
    """State and status reason of a leg that the mapping keeps out of its book for `reason`.

    What the venue says (`halted`, `maintenance`, `closed`) is shown as such; every other word is a suspension
    of ours.
    """
    return _KEPT_OUT.get(reason, _SUSPENDED)


def put_in_force(store: BookStore, table: MappingTable, now_us: int) -> list[Change]:
    """Bring `store` to `table`; the messages to publish, in order.

    Resolved books end first, for they have no leg any more and their last word is the result. Titles and
    facts come before the rows, so that a book's first snapshot has them.

    Raises:
        CoreError: a row that cannot be; the mapping before stays in force.
    """
    changes: list[Change] = []
    for info in table.books.values():
        if info.result is not None:
            with contextlib.suppress(UnknownBook):
                changes += store.resolve(info.book, info.result, now_us)
        store.describe(info.book, info.title or None, info.label or None)
    for leg in table.legs:
        store.set_facts(leg.platform, leg.asset_id, leg.tick, leg.min_size)
    changes += store.set_mapping(table.version, table.rows(), now_us)
    for leg in table.legs:
        if leg.suspended is not None:
            changes += store.set_leg_state(leg.platform, leg.asset_id, *kept_out(leg.suspended), now_us)
    return changes


def asked_for(store: BookStore, wanted: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The store's own wishes for snapshots, and `wanted`; each asset once."""
    wishes = [(platform, asset) for platform, asset, _ in store.take_resyncs()]
    return list(dict.fromkeys([*wishes, *wanted]))
