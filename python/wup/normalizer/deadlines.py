"""What time alone decides: deadlines of normalisers, connections whose marks stopped, books never heard of.

Each decision is told as a verdict, so that a recording holds it and a replay needs no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wup.normalizer.unheard import Unheard
from wup.subjects import TWO_MARKS_S
from wup.venues.base import LegChanged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.model import LegState
    from wup.normalizer.legs import Asset, Connection
    from wup.normalizer.showing import Bad, Repair, Showing

Verdict = Callable[[str, str, str, str, str], None]
"""(platform, connection, asset, state, why): a clock made a leg leave; replay needs to be told."""
Close = Callable[["Connection", str, int, int], None]
"""(connection, why, rx_us, now_us)."""

_SILENT_US = int(TWO_MARKS_S * 1_000_000)
GONE_US = 60_000_000
"""A connection silent for so long will not come back: whoever held it is gone."""
FAILED_US = 5_000_000
"""Between two wishes to replace a connection whose timer fails."""
_WHOEVER = ""
"""In a repair request: whichever connection carries the assets."""


class Deadlines:
    """Looks after every connection; a fault at one is that one's alone."""

    def __init__(
        self,
        assets: Mapping[str, Mapping[str, Asset]],
        connections: Mapping[tuple[str, str], Connection],
        showing: Showing,
        repair: Repair,
        bad: Bad,
        verdict: Verdict,
        close: Close,
    ) -> None:
        self._assets = assets
        self._connections = connections
        self._showing = showing
        self._repair = repair
        self._bad = bad
        self._verdict = verdict
        self._close = close
        self._unheard = Unheard()

    def timer(self, now_us: int) -> None:
        """One round."""
        for connection in list(self._connections.values()):
            try:
                self._look_after(connection, now_us)
            except Exception as error:
                self._failed(connection, error, now_us)
        connected = {connection.platform for connection in self._connections.values()}
        for platform, assets in self._unheard.wanted(self._assets, connected, now_us).items():
            self._repair(platform, assets, "no_first_book", _WHOEVER)

    def _look_after(self, connection: Connection, now_us: int) -> None:
        marks_us = connection.marks_us
        if marks_us is not None and not connection.silent and now_us - marks_us > _SILENT_US:
            connection.silent = True
            for asset_id in list(connection.live):
                self._leave(connection, asset_id, "down", "upstream_silent", now_us)
        if connection.silent and marks_us is not None and now_us - marks_us > GONE_US:
            self._close(connection, "upstream_silent", now_us, now_us)
            return
        outputs = connection.normaliser.timer(now_us)
        for output in outputs:
            if isinstance(output, LegChanged):
                self._tell(connection, output.asset_id, output.state, output.why)
        if outputs:
            self._showing.outputs(connection, outputs, now_us, now_us)

    def _failed(self, connection: Connection, error: Exception, now_us: int) -> None:
        """A fault of ours in a timer: what this connection's state is worth is unknown. Its legs leave until
        their next whole books, a replay is told so, and another connection is asked for."""
        platform = connection.platform
        self._bad(platform, "timer_failed", repr(error))
        try:
            # A timer that fails does so again and again: each leg's leaving is said once.
            assets = [one for one in connection.distrust(self._bad) if one not in connection.told]
            connection.told.update(assets)
            for asset_id in assets:
                self._leave(connection, asset_id, "resync", "gap", now_us)
            if now_us >= connection.replace_us:
                connection.replace_us = now_us + FAILED_US
                self._repair(platform, (), "unrepaired", connection.name)
            if assets:
                # What a replay does when it is told.
                doubts = connection.normaliser.doubt(assets, "gap", now_us)
                self._showing.outputs(connection, doubts, now_us, now_us)
        except Exception as second:
            # Nothing can be told any more; the legs of the other connections still must be looked after.
            self._bad(platform, "timer_failed", repr(second))

    def _leave(self, connection: Connection, asset_id: str, state: LegState, why: str, now_us: int) -> None:
        self._tell(connection, asset_id, state, why)
        self._showing.leave(connection.platform, connection, asset_id, state, why, None, now_us)

    def _tell(self, connection: Connection, asset_id: str, state: str, why: str) -> None:
        self._verdict(connection.platform, connection.name, asset_id, state, why)

    def forgive(self, stood_us: int, now_us: int) -> None:
        """We ourselves stood still for `stood_us` until now: that time counts as nobody's silence.

        Only that time: a process that stands still again and again still finds out who is silent.
        """
        for connection in self._connections.values():
            if connection.marks_us is not None:
                connection.marks_us = min(now_us, connection.marks_us + stood_us)
