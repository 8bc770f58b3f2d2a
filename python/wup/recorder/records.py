"""A mapping table as records of the log: `catalog` per leg, then `mapping` (wire.md section 6).

Beyond the fields of wire.md a `mapping` carries what the orderbook service takes from the table besides its
rows, so that a replay can say the same: the last book epoch that was given out, titles and results,
suspended legs, and since when the venues' catalogues say so. Readers that do not know these fields ignore
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from wup.mapping.table import Leg, MappingTable


def table_lines(table: MappingTable, rx_us: int, epoch: int | None) -> list[bytes]:
    """The lines of `table`, each with its newline, in force from `rx_us` on.

    `epoch`: the last book epoch given out once it was in force; None where nobody here gives them out.
    """
    lines = [_line(_catalog(leg, rx_us)) for leg in table.legs]
    mapping: dict[str, Any] = {
        "kind": "mapping",
        "rx_us": rx_us,
        "version": table.version,
        "table": table.rows(),
        "books": [[info.book, info.title, info.label, info.result] for info in table.books.values()],
    }
    suspended = [[leg.platform, leg.asset_id, leg.suspended] for leg in table.legs if leg.suspended]
    if suspended:
        mapping["suspended"] = suspended
    dated = [[leg.platform, leg.asset_id, leg.status_us] for leg in table.legs if leg.status_us is not None]
    if dated:
        mapping["status_us"] = dated
    if epoch is not None:
        mapping["epoch"] = epoch
    lines.append(_line(mapping))
    return lines


def _catalog(leg: Leg, rx_us: int) -> dict[str, Any]:
    record: dict[str, Any] = {
        **leg.facts,
        "kind": "catalog",
        "rx_us": rx_us,
        "platform": leg.platform,
        "market_id": leg.market_id,
        "assets": [leg.asset_id],
    }
    if leg.event:
        record["event"] = leg.event
    if leg.tick is not None:
        record["tick"] = leg.tick
    if leg.min_size is not None:
        record["min_size"] = leg.min_size
    return record


def _line(record: dict[str, Any]) -> bytes:
    return orjson.dumps(record) + b"\n"
