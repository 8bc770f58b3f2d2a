"""What the engine knows about each followed asset and each venue connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup import subjects
from wup._core import Writer
from wup.venues.following import too_many

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.model import Instrument, LegState
    from wup.normalizer.showing import Bad
    from wup.normalizer.statuses import Status
    from wup.venues.base import LegCheck, Normaliser

STATES = frozenset(("syncing", "live", "resync", "down", "halted", "closed"))
STATUS_REASONS = frozenset(
    (
        "leg_snapshot",
        "seq_gap",
        "hash_mismatch",
        "venue_silent",
        "disconnected",
        "halted",
        "suspended",
        "maintenance",
        "upstream_silent",
        "no_credentials",
        "gap",
        "resolved",
        "closed",
        "unmapped",
        "mapping",
    )
)
"""The words of wire.md section 3 rule 5; whatever else a connection ended with is `disconnected`."""


class Asset:
    """One followed asset: its counter, its state, and the connection whose book is shown.

    `owed`: a snapshot was asked for in the middle of a transaction; it goes out instead of the next update.
    `status`: the market is halted or closed, whatever its connections have; None while it is open. A halted
    asset has an owner too: the connection whose book is shown once trading goes on.
    """

    __slots__ = (
        "instrument",
        "n",
        "owed",
        "owner",
        "past_check",
        "recv_us",
        "result",
        "state",
        "status",
        "subject",
        "touched_us",
        "venue_us",
        "why",
        "writer",
    )

    def __init__(self, instrument: Instrument, epoch: int, n: int) -> None:
        self.instrument = instrument
        self.writer = Writer(instrument.platform, instrument.market_id, instrument.asset_id, epoch)
        self.subject = subjects.normalized(instrument.platform, instrument.market_id, instrument.asset_id)
        self.n = n
        self.state: LegState = "syncing"
        self.why = "mapping"
        self.result: str | None = None
        self.owner: Connection | None = None
        self.owed = False
        self.status: Status | None = None
        self.venue_us: int | None = None
        self.recv_us: int | None = None
        self.touched_us = 0
        self.past_check: LegCheck | None = None
        """What the checks on connections that are closed said."""


class Connection:
    """One venue connection: its counter, and which assets it can show.

    `n`: of its last frame, `UNCOUNTED` when it was met at an unknown place.
    `live`: assets whose whole book came on this connection and that nothing has put in doubt since.
    `doubted`: assets of which a frame was lost on the way, until their next whole book.
    `told`: assets of which a verdict said that a fault of ours took them, until their next whole book.
    `silent`: its marks stopped; nothing of it is shown until they come again.
    `replace_us`: before this another connection is not asked for again.
    """

    __slots__ = (
        "doubted",
        "live",
        "marks_us",
        "n",
        "name",
        "normaliser",
        "order",
        "platform",
        "replace_us",
        "silent",
        "told",
    )

    def __init__(self, name: str, platform: str, normaliser: Normaliser, order: int, n: int) -> None:
        self.name = name
        self.platform = platform
        self.normaliser = normaliser
        self.order = order
        self.n = n
        # In the order in which they came: a set's order differs from process to process, and a replay's
        # messages would come in another order than the live ones.
        self.live: dict[str, None] = {}
        self.doubted: set[str] = set()
        self.told: set[str] = set()
        self.marks_us: int | None = None
        self.silent = False
        self.replace_us = 0

    def sweep(self, followed: Mapping[str, Asset]) -> None:
        """Forget assets that are not followed any more and that this connection has no book of, once they are
        many: most go when they are unsubscribed, but not in every order."""
        for kept in (self.live, self.doubted, self.told):
            if too_many(len(kept), followed):
                for asset_id in [one for one in kept if one not in followed]:
                    if self.normaliser.book(asset_id) is None:
                        self.live.pop(asset_id, None)
                        self.doubted.discard(asset_id)
                        self.told.discard(asset_id)

    def distrust(self, bad: Bad) -> tuple[str, ...]:
        """Nothing of this connection is known before its next whole books; the assets that this concerns."""
        assets = dict.fromkeys(self.live)
        try:
            assets.update(dict.fromkeys(self.normaliser.assets()))
        except Exception as error:
            bad(self.platform, "normaliser_error", repr(error))
        self.live.clear()
        self.doubted.update(assets)
        return tuple(assets)
