"""Which assets are followed: from the mapping's table, the venue's catalogue, or as frames name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wup.model import Instrument
from wup.normalizer.legs import Asset
from wup.normalizer.statuses import LISTED_HALT
from wup.venues.following import MIRROR_OF, Discovering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wup.mapping.table import Leg, MappingTable
    from wup.normalizer.statuses import Statuses

_NOT_FACTS = frozenset(("kind", "rx_us", "platform", "market_id"))


class Followed:
    """Instruments (shared with the normalisers, changed in place) and the state of each followed asset.

    With `discover` every asset that a frame names is taken in, until a table says what is followed.
    """

    def __init__(
        self,
        platforms: Iterable[str],
        epoch: int,
        statuses: Statuses,
        bad: Callable[[str, str, str], None],
        discover: Callable[[Instrument], None] | None,
    ) -> None:
        self._epoch = epoch
        self._statuses = statuses
        self._bad = bad
        self._discover = discover
        # An asset that comes back must not count from where a reader has already been.
        self._floor = 0
        self.instruments: dict[str, dict[str, Instrument]] = {}
        self.assets: dict[str, dict[str, Asset]] = {}
        for platform in platforms:
            self.instruments[platform] = {} if discover is None else Discovering(platform, self._found)
            self.assets[platform] = {}

    def set_table(self, table: MappingTable) -> None:
        """Follow exactly the table's assets from now on."""
        wanted: dict[str, dict[str, Instrument]] = {platform: {} for platform in self.instruments}
        listed: list[Leg] = []
        for leg in table.legs:
            legs = wanted.get(leg.platform)
            if legs is None:
                self._bad(leg.platform, "unknown_platform", leg.asset_id)
                continue
            facts = dict(leg.facts)
            if leg.tick is not None:
                facts["tick"] = leg.tick
            if leg.min_size is not None:
                facts["min_size"] = leg.min_size
            legs[leg.asset_id] = Instrument(leg.platform, leg.asset_id, leg.market_id, facts)
            listed.append(leg)
        new = {
            (leg.platform, leg.asset_id) for leg in listed if leg.asset_id not in self.assets[leg.platform]
        }
        for platform, legs in wanted.items():
            self._swap(platform, legs)
        for leg in listed:
            self._listed(leg, new=(leg.platform, leg.asset_id) in new)

    def _listed(self, leg: Leg, *, new: bool) -> None:
        """What the venue's catalogue says about halts, as far as it is news.

        The stream is quicker. Of a market met for the first time nothing else is known; and a halt is over
        when the catalogue lists it no more, if it listed it while it was held and was asked so late that no
        cache could answer for the time before the halt was told (`Status.over_at`).
        """
        asset = self.assets[leg.platform][leg.asset_id]
        status = asset.status
        if leg.suspended == LISTED_HALT:
            if status is None and new:
                asset.status = self._statuses.hold(
                    leg.platform, leg.asset_id, "halted", "halted", listed=True
                )
            elif status is not None and status.status == "halted":
                self._statuses.hold(leg.platform, leg.asset_id, "halted", status.why, listed=True)
        elif (
            leg.suspended is None
            and status is not None
            and status.listed
            and status.over_at(leg.status_us)
            and self._statuses.opened(leg.platform, leg.asset_id)
        ):
            asset.status = None

    def _swap(self, platform: str, legs: Mapping[str, Instrument]) -> None:
        instruments, assets = self.instruments[platform], self.assets[platform]
        if isinstance(instruments, Discovering):
            instruments.adopts = False
        for asset_id, instrument in list(instruments.items()):
            if asset_id in legs or MIRROR_OF in instrument.facts:
                continue
            del instruments[asset_id]
            gone = assets.pop(asset_id, None)
            if gone is not None:
                self._floor = max(self._floor, gone.n)
        for asset_id, instrument in legs.items():
            known = assets.get(asset_id)
            if known is not None and known.instrument.market_id == instrument.market_id:
                known.instrument = instrument
            else:
                n = self._floor if known is None else known.n
                assets[asset_id] = self._asset(instrument, n)
            instruments[asset_id] = instrument

    def _asset(self, instrument: Instrument, n: int) -> Asset:
        """A followed asset, with what is known of its market from before."""
        asset = Asset(instrument, self._epoch, n)
        status = asset.status = self._statuses.of(instrument.platform, instrument.asset_id)
        if status is not None and status.status == "closed":
            asset.state, asset.why, asset.result = "closed", status.why, status.result
        return asset

    def catalogue(self, platform: str, fields: Mapping[str, Any]) -> None:
        """A `catalog` record: facts of one market, and which assets show the same orders."""
        assets, market_id = fields.get("assets"), fields.get("market_id")
        if not isinstance(assets, list) or not assets or not isinstance(market_id, str):
            self._bad(platform, "bad_record", f"catalog {fields!r}"[:120])
            return
        facts = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in fields.items()
            if name not in _NOT_FACTS and isinstance(value, str | int | bool)
        }
        instruments = self.instruments[platform]
        first = str(assets[0])
        for asset_id in map(str, assets):
            known = instruments.get(asset_id)
            if known is not None:
                instruments[asset_id] = Instrument(
                    platform, asset_id, known.market_id, {**facts, **known.facts}
                )
            elif asset_id != first and self._discover is not None:
                mirror = {**facts, MIRROR_OF: first}
                instruments[asset_id] = Instrument(platform, asset_id, market_id, mirror)
            elif isinstance(instruments, Discovering) and instruments.adopts:
                instruments[asset_id] = Instrument(platform, asset_id, market_id, facts)
                self._found(instruments[asset_id])

    def _found(self, instrument: Instrument) -> None:
        self.assets[instrument.platform][instrument.asset_id] = self._asset(instrument, self._floor)
        if self._discover is not None:
            self._discover(instrument)
