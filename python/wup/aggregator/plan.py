"""Which connection carries which assets: pure, by the venue's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wup.venues.base import Limits


def spread(
    carried: Sequence[Sequence[str]], wanted: Sequence[str], limits: Limits
) -> tuple[list[list[str]], list[str]]:
    """Lists of assets, one per connection, and what has no place.

    Args:
        carried: what each present connection carries; it keeps what is still wanted.
        wanted: all assets to follow, each once.
    """
    keep = set(wanted)
    plan = [[asset for asset in assets if asset in keep] for assets in carried]
    placed = {asset for assets in plan for asset in assets}
    fresh = [asset for asset in wanted if asset not in placed]
    room = limits.assets_per_connection
    fresh = _fill(plan, fresh, room)
    while fresh and len(plan) < limits.connections:
        plan.append(fresh[:room])
        fresh = fresh[room:]
    if fresh and limits.crowded > room:
        fresh = _fill(plan, fresh, limits.crowded)
    return plan, fresh


def _fill(plan: list[list[str]], fresh: list[str], room: int) -> list[str]:
    for assets in plan:
        taken = max(0, room - len(assets))
        assets.extend(fresh[:taken])
        fresh = fresh[taken:]
    return fresh


def gathered(sizes: Sequence[int], limits: Limits) -> int | None:
    """The connection whose assets the others could take, when at least one is to spare and a quarter of
    the room would still be free; else None."""
    if len(sizes) < 2:
        return None
    room = limits.assets_per_connection
    if sum(sizes) > (len(sizes) - 1) * room * 3 // 4:
        return None
    return min(range(len(sizes)), key=lambda index: sizes[index])


def halved(assets: Sequence[str], activity: Mapping[str, int]) -> list[str]:
    """Half of the traffic of `assets`: every second one, the busiest first."""
    return sorted(assets, key=lambda asset: -activity.get(asset, 0))[1::2]
