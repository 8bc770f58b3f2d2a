"""How each followed leg stands, for people: its state, who shows it, and what its checks last said.

Asked from another thread than the one that normalises: everything is read, nothing is changed, and after a
few legs the other thread is let in.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from wup.venues.base import LegCheck

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wup.normalizer.legs import Asset, Connection
    from wup.normalizer.showing import Bad

LEGS_AT_ONCE = 64
"""Legs that are looked at before the other thread is let in: a tenth of a millisecond."""


class Health:
    """Reads what the engine knows."""

    def __init__(
        self,
        assets: Mapping[str, Mapping[str, Asset]],
        connections: Mapping[tuple[str, str], Connection],
        bad: Bad,
    ) -> None:
        self._assets = assets
        self._connections = connections
        self._bad = bad

    def closing(self, connection: Connection) -> None:
        """A connection ends; what its checks said stays with the legs."""
        for asset_id, asset in self._assets[connection.platform].items():
            try:
                check = connection.normaliser.check(asset_id)
            except Exception as error:
                self._bad(connection.platform, "normaliser_error", repr(error))
                return
            if check is not None:
                asset.past_check = _joined(asset.past_check, check)

    def legs(
        self, now_us: int, platform: str | None = None, asset_id: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """One leg after the other, of one platform or of all.

        Args:
            now_us: the time that the engine's deadlines count in.
        """
        for name, assets in list(self._assets.items()):
            if platform not in (None, name):
                continue
            normalisers = [
                connection.normaliser
                for connection in list(self._connections.values())
                if connection.platform == name
            ]
            if asset_id is None:
                chosen = list(assets.values())
            else:
                chosen = [assets[asset_id]] if asset_id in assets else []
            for place, asset in enumerate(chosen, 1):
                if place % LEGS_AT_ONCE == 0:
                    time.sleep(0)
                check = asset.past_check
                for normaliser in normalisers:
                    found = normaliser.check(asset.instrument.asset_id)
                    if found is not None:
                        check = _joined(check, found)
                yield _leg(asset, check, now_us)

    def summary(self, now_us: int) -> dict[str, dict[str, Any]]:
        """Per platform: legs by state, and by the last verdict of each kind of check."""
        found: dict[str, dict[str, Any]] = {name: {"legs": {}, "checks": {}} for name in list(self._assets)}
        for leg in self.legs(now_us):
            states, checks = found[leg["platform"]].values()
            states[leg["state"]] = states.get(leg["state"], 0) + 1
            check = leg["check"]
            if check is not None:
                verdicts = checks.setdefault(check["kind"], {})
                verdict = check["verdict"] or "none"
                verdicts[verdict] = verdicts.get(verdict, 0) + 1
        return found


def _leg(asset: Asset, check: LegCheck | None, now_us: int) -> dict[str, Any]:
    owner = asset.owner
    leg: dict[str, Any] = {
        "platform": asset.instrument.platform,
        "asset": asset.instrument.asset_id,
        "market_id": asset.instrument.market_id,
        "state": asset.state,
        "why": asset.why,
        "connection": None if owner is None else owner.name,
        "check": None,
    }
    if check is not None:
        said_us = max(0, now_us - check.at_us)
        leg["check"] = {
            "kind": check.kind,
            "verdict": check.verdict,
            "age_ms": None if check.verdict is None else said_us // 1000,
            **check.counts(),
        }
    return leg


def _joined(past: LegCheck | None, other: LegCheck) -> LegCheck:
    """The counts of both, and the later verdict."""
    if past is None:
        past = LegCheck(other.kind)
    later = other if other.verdict is not None and other.at_us >= past.at_us else past
    joined = LegCheck(other.kind, later.verdict, later.at_us)
    joined.add(past)
    joined.add(other)
    return joined
