"""Which connection shows each asset, and what is said about it: outputs of normalisers to messages.

An asset may be on two connections while one replaces the other; the first stays the owner as long as its
book is live there. A leg becomes live by a snapshot only, and each message is counted in the asset's n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from wup.metrics import RESYNCS
from wup.normalizer import encode
from wup.venues.base import (
    BadInput,
    BookChanged,
    BookReplaced,
    LegChanged,
    ListingChanged,
    RepairWanted,
    StatusesLost,
    StatusTold,
    TradeSeen,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wup._core import VenueBook
    from wup.model import LegState
    from wup.normalizer.legs import Asset, Connection
    from wup.normalizer.statuses import Statuses
    from wup.venues.base import Output

Emit = Callable[[str, bytes], object]
"""(subject, payload) of one normalised message."""
Repair = Callable[[str, tuple[str, ...], str, str], None]
"""(platform, assets, why, connection): the venue must be asked for fresh books."""
Listed = Callable[[str, ListingChanged], None]
"""(platform, what of it): the venue's catalogue says something else now."""
Look = Callable[[str, "tuple[str, ...] | None"], None]
"""(platform, assets): what the venue said of these markets, or of any (None), may have been missed, or is not
known to its catalogue yet: that should be asked."""
Bad = Callable[[str, str, str], None]
"""(platform, kind, detail) of input that cannot be used."""


class Showing:
    """The followed assets as their readers see them."""

    def __init__(
        self,
        epoch: int,
        assets: Mapping[str, Mapping[str, Asset]],
        connections: Mapping[tuple[str, str], Connection],
        statuses: Statuses,
        emit: Emit,
        repair: Repair,
        bad: Bad,
        look: Look,
        stamp: Callable[[], int] | None,
        listed: Listed,
    ) -> None:
        self._epoch = epoch
        self._assets = assets
        self._connections = connections
        self._statuses = statuses
        self._emit = emit
        self._repair = repair
        self._bad = bad
        self._look = look
        self._stamp = stamp
        self._listed = listed

    def outputs(self, connection: Connection, outputs: Iterable[Output], rx_us: int, now_us: int) -> None:
        assets = self._assets[connection.platform]
        for output in outputs:
            if isinstance(output, BookChanged):
                asset = assets.get(output.asset_id)
                if asset is None:
                    continue
                if asset.owner is connection and asset.state == "live" and not asset.owed:
                    asset.n += 1
                    asset.venue_us, asset.recv_us, asset.touched_us = output.venue_us, rx_us, now_us
                    norm_us = rx_us if self._stamp is None else self._stamp()
                    update = asset.writer.update(
                        asset.n, output.bids, output.asks, output.venue_us, rx_us, norm_us
                    )
                    self._emit(asset.subject, update)
                elif output.asset_id in connection.live and asset.state != "closed":
                    if (
                        asset.status is not None
                        and output.placed
                        and self._statuses.proves(connection.platform, output.asset_id, output.venue_us)
                    ):
                        self._opened(asset)
                    self.offer(connection, asset, now_us, output.venue_us, rx_us)
            elif isinstance(output, BookReplaced):
                asset = assets.get(output.asset_id)
                if asset is not None and asset.state != "closed":
                    connection.live[output.asset_id] = None
                    connection.doubted.discard(output.asset_id)
                    connection.told.discard(output.asset_id)
                    self.offer(connection, asset, now_us, output.venue_us, rx_us)
            elif isinstance(output, TradeSeen):
                asset = assets.get(output.asset_id)
                if asset is not None and (asset.owner is connection or asset.owner is None):
                    asset.n += 1
                    asset.touched_us = now_us
                    norm_us = rx_us if self._stamp is None else self._stamp()
                    self._emit(asset.subject, encode.trade(asset, self._epoch, output, rx_us, norm_us))
            elif isinstance(output, LegChanged):
                connection.live.pop(output.asset_id, None)
                self.leave(
                    connection.platform,
                    connection,
                    output.asset_id,
                    output.state,
                    output.why,
                    output.result,
                    now_us,
                )
            elif isinstance(output, StatusTold):
                self._told(connection.platform, output, rx_us, now_us)
            elif isinstance(output, ListingChanged):
                self._listed(connection.platform, output)
            elif isinstance(output, StatusesLost):
                self._look(connection.platform, None)
            elif isinstance(output, RepairWanted):
                self._repair(connection.platform, output.assets, output.why, connection.name)
            elif isinstance(output, BadInput):
                self._bad(connection.platform, output.kind, output.detail)

    def offer(
        self,
        connection: Connection,
        asset: Asset,
        now_us: int,
        venue_us: int | None = None,
        rx_us: int | None = None,
    ) -> bool:
        """Show the asset from this connection, unless another one shows it already.

        Of a halted market it is said that it is halted, as soon as its book is known.
        """
        if connection.silent:
            return False
        if (
            asset.owner is not None
            and asset.owner is not connection
            and (asset.state == "live" or asset.state == "halted")
        ):
            return False
        book = connection.normaliser.book(asset.instrument.asset_id)
        if book is None:
            return False
        asset.owner = connection
        if rx_us is not None:
            asset.venue_us, asset.recv_us = venue_us, rx_us
        status = asset.status
        if status is not None:
            self._state(asset, status.status, status.why, status.result, now_us)
            return True
        asset.state, asset.why, asset.result = "live", "leg_snapshot", None
        asset.owed = False
        self.snapshot(asset, book, now_us)
        return True

    def snapshot(self, asset: Asset, book: VenueBook, now_us: int) -> None:
        """Say the whole book."""
        asset.n += 1
        asset.touched_us = now_us
        norm_us = asset.recv_us if self._stamp is None else self._stamp()
        whole = asset.writer.snapshot(asset.n, book, asset.venue_us, asset.recv_us, norm_us)
        self._emit(asset.subject, whole)

    def leave(
        self,
        platform: str,
        connection: Connection | None,
        asset_id: str,
        state: LegState,
        why: str,
        result: str | None,
        now_us: int,
    ) -> None:
        """The asset is no longer shown from this connection: another takes over, or the leg leaves."""
        asset = self._assets[platform].get(asset_id)
        if asset is None:
            return
        # What is closed is closed on every connection; the rest concerns only who shows the asset.
        if state != "closed":
            if asset.owner is not None and asset.owner is not connection:
                return
            if self._taken_over(asset, platform, now_us):
                return
        asset.owner = None
        self._state(asset, state, why, result, now_us)

    # --- the market's own status --------------------------------------------------------------------

    def _told(self, platform: str, said: StatusTold, rx_us: int, now_us: int) -> None:
        if said.status != "open":
            self.hold(
                platform,
                said.asset_id,
                said.status,
                said.why,
                said.result,
                said.venue_us,
                now_us,
                told_us=rx_us,
            )
            return
        asset = self._assets[platform].get(said.asset_id)
        if asset is not None and asset.status is not None and self._opened(asset):
            self.reopened(asset, now_us, rx_us)

    def hold(
        self,
        platform: str,
        asset_id: str,
        status: Literal["halted", "closed"],
        why: str,
        result: str | None,
        venue_us: int | None,
        now_us: int,
        *,
        listed: bool = False,
        told_us: int | None = None,
    ) -> None:
        """The market is halted, or at its end, until something else is known; also when said again."""
        asset = self._assets[platform].get(asset_id)
        held = self._statuses.of(platform, asset_id)
        if status == "halted" and (held is None or held.status == "halted"):
            # Its end may not be heard: the catalogue is to have listed it, so that it can tell. Said again it
            # may be another halt, about which it knows nothing yet.
            self._look(platform, (asset_id,))
        held = self._statuses.hold(
            platform, asset_id, status, why, result=result, venue_us=venue_us, listed=listed, told_us=told_us
        )
        if held.status == "closed":
            # No connection shows it any more, and none says when it stops carrying it.
            for connection in self._connections.values():
                if connection.platform == platform:
                    connection.live.pop(asset_id, None)
        if asset is None:
            return
        asset.status = held
        if held.status == "closed":
            asset.owner = None
            self._state(asset, "closed", held.why, held.result, now_us)
        elif asset.state == "live":
            self._state(asset, "halted", held.why, None, now_us)

    def _opened(self, asset: Asset) -> bool:
        instrument = asset.instrument
        if not self._statuses.opened(instrument.platform, instrument.asset_id):
            return False
        asset.status = None
        # As long as the catalogue lists the halt the mapping keeps the leg out.
        self._look(instrument.platform, (instrument.asset_id,))
        return True

    def reopened(self, asset: Asset, now_us: int, rx_us: int | None = None) -> bool:
        """Show a market that was halted and is open, from the connection that kept its book.

        In the middle of a transaction, or without such a connection, it is shown with the next change.
        """
        if asset.state != "halted" or asset.status is not None:
            return False
        if asset.owner is not None and self.offer(asset.owner, asset, now_us, None, rx_us):
            return True
        return self._taken_over(asset, asset.instrument.platform, now_us)

    # ------------------------------------------------------------------------------------------------

    def _taken_over(self, asset: Asset, platform: str, now_us: int) -> bool:
        asset_id = asset.instrument.asset_id
        candidates = [
            connection
            for connection in self._connections.values()
            if connection.platform == platform and asset_id in connection.live
        ]
        if not candidates or asset.state == "closed":
            return False
        asset.owner = None
        # The newest connection is the one that was opened to replace the others.
        candidates.sort(key=lambda connection: -connection.order)
        return any(self.offer(connection, asset, now_us) for connection in candidates)

    def _state(self, asset: Asset, state: LegState, why: str, result: str | None, now_us: int) -> None:
        if asset.state == "closed" and (state != "closed" or result is None or result == asset.result):
            return
        # A loss may be found twice, by us and by the venue's sequence: the first word stands.
        if asset.state == state and (state == "resync" or (asset.why, asset.result) == (why, result)):
            return
        if state == "resync" and asset.state == "live":
            RESYNCS.labels("venue", asset.instrument.platform, why).inc()
        asset.state, asset.why, asset.result = state, why, result
        asset.owed = False
        self.say_state(asset, now_us)

    def say_state(self, asset: Asset, now_us: int) -> None:
        asset.n += 1
        asset.touched_us = now_us
        self._emit(asset.subject, encode.state(asset, self._epoch, asset.state, asset.why, asset.result))
