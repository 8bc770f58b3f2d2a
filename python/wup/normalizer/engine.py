"""Records in, normalised messages out: venue truth without I/O and without a clock of its own.

Live and in replay the same records (`wup.raw`) go through the same code. Per asset the engine keeps the
epoch and counter of wire.md section 2 and the connection whose book is shown (`showing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from wup import subjects
from wup.normalizer import encode
from wup.normalizer.deadlines import Deadlines
from wup.normalizer.followed import Followed
from wup.normalizer.health import Health
from wup.normalizer.legs import STATES, STATUS_REASONS, Connection
from wup.normalizer.showing import Showing
from wup.normalizer.statuses import Statuses
from wup.raw import UNCOUNTED
from wup.venues.numbers import restored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wup.mapping.table import MappingTable
    from wup.model import Instrument, Level
    from wup.normalizer.deadlines import Verdict
    from wup.normalizer.showing import Bad, Emit, Listed, Look, Repair
    from wup.normalizer.statuses import Tell
    from wup.raw import Meta
    from wup.venues.base import Venue

MARKS_US = 2_000_000
MARKS_SHARE = 30


class Engine:
    """Every venue's normalisers, one per connection, and what they say per asset.

    `stamp` gives `ts.norm`; without it `ts.norm` is the receive time (replay). `discover` makes the engine
    follow every asset that it meets, and is told each; without it only the table's assets are followed.
    `tell` is told every change of a market's own status, `look` when the venue's catalogue should be asked
    for it; neither may call the engine.
    """

    def __init__(
        self,
        *,
        epoch: int,
        instance: str,
        venues: Mapping[str, Venue],
        emit: Emit,
        repair: Repair = lambda platform, assets, why, connection: None,
        bad: Bad = lambda platform, kind, detail: None,
        verdict: Verdict = lambda platform, connection, asset, state, why: None,
        tell: Tell = lambda platform, asset, fields: None,
        listed: Listed = lambda platform, change: None,
        look: Look = lambda platform, assets: None,
        stamp: Callable[[], int] | None = None,
        discover: Callable[[Instrument], None] | None = None,
    ) -> None:
        self.epoch = epoch
        self._instance = instance
        self._venues = venues
        self._repair = repair
        self._bad = bad
        self._verdict = verdict
        self._look = look
        self._lenient = discover is not None
        self._statuses = Statuses(tell)
        self._followed = Followed(venues, epoch, self._statuses, bad, discover)
        self._instruments = self._followed.instruments
        self._assets = self._followed.assets
        self._connections: dict[tuple[str, str], Connection] = {}
        self._showing = Showing(
            epoch, self._assets, self._connections, self._statuses, emit, repair, bad, look, stamp, listed
        )
        self._deadlines = Deadlines(
            self._assets, self._connections, self._showing, repair, bad, verdict, self._close
        )
        self.health = Health(self._assets, self._connections, bad)
        self._opened = 0
        self._ticks = 0
        self._done: dict[tuple[str, str], int] = {}

    def set_table(self, table: MappingTable) -> None:
        """Follow exactly the table's assets from now on."""
        self._followed.set_table(table)
        for assets in self._assets.values():
            for asset in assets.values():
                if asset.state == "halted" and asset.status is None:
                    # The catalogue has ended the halt, and whoever asked before was told that it holds.
                    self._showing.reopened(asset, asset.touched_us)
        for connection in self._connections.values():
            connection.sweep(self._assets[connection.platform])

    # --- records ----------------------------------------------------------------------------------

    def record(self, meta: Meta, payload: bytes, now_us: int) -> None:
        """One record. `now_us`: the time that deadlines count in, never going back."""
        if meta.kind == "frame":
            self._frame(meta, payload, now_us)
            return
        if meta.platform not in self._venues:
            if meta.kind not in ("start", "mapping"):
                self._bad(meta.platform, "unknown_platform", meta.kind)
            return
        connection = self._connections.get((meta.platform, meta.connection))
        if meta.kind == "sent":
            if connection is None:
                connection = self._adopt(meta)
            if connection is not None:
                try:
                    outputs = connection.normaliser.sent(payload, now_us)
                except Exception as error:
                    self._raised(connection, error, now_us)
                else:
                    self._showing.outputs(connection, outputs, meta.rx_us, now_us)
            return
        fields = self._fields(meta, payload)
        if fields is None:
            return
        if meta.kind == "open":
            if connection is not None:
                self._close(connection, "disconnected", meta.rx_us, now_us)
            self._open(meta, fields, meta.n)
        elif meta.kind == "marks":
            self._marked(meta, connection, fields, now_us)
        elif meta.kind == "close" and connection is not None:
            why = fields.get("why")
            known = isinstance(why, str) and why in STATUS_REASONS
            self._close(connection, str(why) if known else "disconnected", meta.rx_us, now_us)
        elif meta.kind == "verdict":
            self._judged(meta, connection, fields, now_us)
        elif meta.kind == "status":
            self._noted(meta, fields, now_us)
        elif meta.kind == "catalog":
            self._followed.catalogue(meta.platform, fields)
        elif meta.kind == "book" and connection is not None:
            self._restored(meta, connection, fields, now_us)

    def _fields(self, meta: Meta, payload: bytes) -> dict[str, Any] | None:
        try:
            fields = orjson.loads(payload)
        except orjson.JSONDecodeError:
            fields = None
        if not isinstance(fields, dict):
            self._bad(meta.platform, "bad_record", f"{meta.kind} {payload[:80]!r}")
            return None
        return fields

    def _frame(self, meta: Meta, payload: bytes, now_us: int) -> None:
        connection = self._connections.get((meta.platform, meta.connection))
        if connection is None:
            connection = self._adopt(meta)
            if connection is None:
                return
        if meta.n != connection.n + 1:
            if meta.n <= connection.n:
                self._bad(meta.platform, "repeated_record", f"{meta.connection} {meta.n}")
                return
            # A connection met at an unknown place has no books yet that could have missed something.
            if connection.n != UNCOUNTED:
                self._lost(connection, f"{connection.n} then {meta.n}", now_us)
        connection.n = meta.n
        if connection.silent:
            self._heard(connection, now_us)
        try:
            outputs = connection.normaliser.frame(payload, now_us)
        except Exception as error:
            self._raised(connection, error, now_us)
            return
        if outputs:
            self._showing.outputs(connection, outputs, meta.rx_us, now_us)

    def _raised(self, connection: Connection, error: Exception, now_us: int) -> None:
        """A normaliser never raises. If one does after all, what it holds is not to be trusted."""
        self._bad(connection.platform, "normaliser_error", repr(error))
        self._lost(connection, "normaliser error", now_us)

    def _open(self, meta: Meta, fields: Mapping[str, Any], n: int) -> Connection:
        venue = self._venues[meta.platform]
        self._opened += 1
        normaliser = venue.normaliser(fields, self._instruments[meta.platform])
        connection = Connection(meta.connection, meta.platform, normaliser, self._opened, n)
        self._connections[(meta.platform, meta.connection)] = connection
        # What the venue said while none was open is not said again.
        self._look(meta.platform, None)
        return connection

    def _adopt(self, meta: Meta) -> Connection | None:
        """A connection whose opening was not seen: in replay of bare frames it has the venue's defaults;
        live its marks will say how it was opened, and its frames until then are no use."""
        if meta.platform not in self._venues:
            self._bad(meta.platform, "unknown_platform", meta.connection)
        elif self._lenient:
            return self._open(meta, {}, UNCOUNTED)
        else:
            self._bad(meta.platform, "no_open", meta.connection)
        return None

    def _close(self, connection: Connection, why: str, rx_us: int, now_us: int) -> None:
        del self._connections[(connection.platform, connection.name)]
        for verdict, count in connection.normaliser.checks.items():
            key = (connection.platform, verdict)
            self._done[key] = self._done.get(key, 0) + count
        self.health.closing(connection)
        try:
            outputs = connection.normaliser.closed(why)
        except Exception as error:
            self._bad(connection.platform, "normaliser_error", repr(error))
            outputs = []
        shown = list(connection.live)
        connection.live.clear()
        self._showing.outputs(connection, outputs, rx_us, now_us)
        for asset_id in shown:
            self._showing.leave(connection.platform, connection, asset_id, "down", why, None, now_us)

    # --- losses and verdicts ----------------------------------------------------------------------

    def _lost(self, connection: Connection, detail: str, now_us: int) -> None:
        """Frames of this connection were lost on their way to us: none of its books is known."""
        self._bad(connection.platform, "lost_records", f"{connection.name} {detail}")
        self._look(connection.platform, None)
        assets = connection.distrust(self._bad)
        for asset_id in assets:
            self._showing.leave(connection.platform, connection, asset_id, "resync", "gap", None, now_us)
        if assets:
            self._repair(connection.platform, assets, "gap", connection.name)

    def _marked(
        self, meta: Meta, connection: Connection | None, fields: Mapping[str, Any], now_us: int
    ) -> None:
        """The connection's marks: the counter after the last frame, and how it was opened."""
        if connection is None:
            opened = fields.get("open")
            if not isinstance(opened, dict):
                return
            connection = self._open(meta, opened, meta.n)
            if meta.n:
                wanted = tuple(self._instruments[meta.platform])
                self._repair(meta.platform, wanted, "gap", meta.connection)
        elif meta.n > connection.n != UNCOUNTED:
            self._lost(connection, f"{connection.n} then marks {meta.n}", now_us)
        connection.n = max(connection.n, meta.n)
        connection.marks_us = now_us
        if connection.silent:
            self._heard(connection, now_us)

    def _heard(self, connection: Connection, now_us: int) -> None:
        """A silent connection speaks again without a hole: its books are what they were."""
        connection.silent = False
        connection.marks_us = now_us
        for asset_id in list(connection.live):
            asset = self._assets[connection.platform].get(asset_id)
            if asset is not None and asset.state != "closed":
                self._verdict(connection.platform, connection.name, asset_id, "live", "leg_snapshot")
                self._showing.offer(connection, asset, now_us)

    def _judged(
        self, meta: Meta, connection: Connection | None, fields: Mapping[str, Any], now_us: int
    ) -> None:
        """A decision that a clock or a failure made elsewhere: the asset is not shown from this connection
        until its next whole book, or until a verdict `live` takes it back."""
        state: Any = fields.get("state")
        why = fields.get("why")
        named = fields.get("assets", fields.get("asset"))
        if named == "all":
            named = list(self._assets[meta.platform])
        assets = [named] if isinstance(named, str) else named
        known = isinstance(state, str) and state in STATES
        if not isinstance(assets, list) or not known or not isinstance(why, str):
            self._bad(meta.platform, "bad_record", f"verdict {fields!r}"[:120])
            return
        for asset_id in assets:
            asset = self._assets[meta.platform].get(asset_id) if isinstance(asset_id, str) else None
            if asset is None:
                self._bad(meta.platform, "unknown_asset", f"verdict {asset_id!r}")
                continue
            judged = connection or asset.owner
            if state == "live":
                if judged is None or asset_id in judged.doubted or asset.state == "closed":
                    continue
                if judged.normaliser.book(asset_id) is not None:
                    judged.live[asset_id] = None
                    self._showing.offer(judged, asset, now_us)
                continue
            if judged is not None:
                judged.live.pop(asset_id, None)
                if state == "resync":
                    # Something was lost: what is in memory is not to be shown again by a word alone.
                    judged.doubted.add(asset_id)
            self._showing.leave(meta.platform, judged, asset_id, state, why, fields.get("result"), now_us)
            if judged is not None and state == "resync":
                self._showing.outputs(
                    judged, judged.normaliser.doubt((asset_id,), why, now_us), meta.rx_us, now_us
                )

    def _noted(self, meta: Meta, fields: Mapping[str, Any], now_us: int) -> None:
        """A `status` record: what the venue said before this log began. How a halt ends is in the log itself,
        as it was for who wrote it."""
        asset_id, status, why = fields.get("asset"), fields.get("status"), fields.get("why", "")
        result, venue_us, told_us = fields.get("result"), fields.get("venue_us"), fields.get("told_us")
        if (
            not isinstance(asset_id, str)
            or status not in ("open", "halted", "closed")
            or why not in (*STATUS_REASONS, "")
            or not isinstance(result, str | None)
            or any(time is not None and type(time) is not int for time in (venue_us, told_us))
        ):
            self._bad(meta.platform, "bad_record", f"status {fields!r}"[:120])
        elif status != "open":
            listed = fields.get("listed") is True
            self._showing.hold(
                meta.platform,
                asset_id,
                status,
                why or status,
                result,
                venue_us,
                now_us,
                listed=listed,
                told_us=told_us,
            )

    def tell_statuses(self, parts: int) -> None:
        """Tell the statuses of markets that are not open once more: the next of so many parts of them."""
        self._statuses.again(parts, lambda platform, asset_id: asset_id in self._assets.get(platform, {}))

    # --- time and requests ------------------------------------------------------------------------

    def timer(self, now_us: int) -> None:
        """Deadlines of the normalisers, and connections whose marks stopped."""
        self._deadlines.timer(now_us)

    def forgive(self, stood_us: int, now_us: int) -> None:
        """We ourselves stood still for `stood_us` until now: that time counts as nobody's silence."""
        self._deadlines.forgive(stood_us, now_us)

    def resync(self, platform: str, assets: Iterable[str] | None, now_us: int) -> None:
        """Answer a request for fresh snapshots from memory; None means every asset of the platform.

        An asset in the middle of a transaction is answered when that is whole.
        """
        known = self._assets.get(platform, {})
        for asset_id in list(known) if assets is None else assets:
            asset = known.get(asset_id)
            if asset is None:
                continue
            if asset.state == "live" and asset.owner is not None:
                book = asset.owner.normaliser.book(asset_id)
                if book is None:
                    asset.owed = True
                else:
                    asset.owed = False
                    self._showing.snapshot(asset, book, now_us)
            elif not self._showing.reopened(asset, now_us):
                self._showing.say_state(asset, now_us)

    def shown(
        self, platform: str, asset_id: str
    ) -> tuple[str, int | None, tuple[Sequence[Level], Sequence[Level]]] | None:
        """Subject, venue time and levels of an asset that is live and not in the middle of a transaction."""
        asset = self._assets.get(platform, {}).get(asset_id)
        if asset is None or asset.state != "live" or asset.owner is None or asset.owed:
            return None
        book = asset.owner.normaliser.book(asset_id)
        return None if book is None else (asset.subject, asset.venue_us, book.levels())

    def owner(self, platform: str, asset_id: str) -> str | None:
        """The connection whose book of the asset is shown; None while none is."""
        asset = self._assets.get(platform, {}).get(asset_id)
        if asset is None or asset.state != "live" or asset.owner is None:
            return None
        return asset.owner.name

    def marks(self, now_us: int) -> list[tuple[str, bytes]]:
        """(subject, payload) per platform: the counters of assets that changed in the last two seconds and
        of one thirtieth of all; also when there are none."""
        self._ticks += 1
        messages: list[tuple[str, bytes]] = []
        for platform, assets in self._assets.items():
            counters = {
                asset_id: asset.n
                for place, (asset_id, asset) in enumerate(assets.items())
                if asset.n
                and (now_us - asset.touched_us <= MARKS_US or (place + self._ticks) % MARKS_SHARE == 0)
            }
            subject = subjects.normalized_marks(platform, self._instance)
            messages.append((subject, encode.marks(self.epoch, counters)))
        return messages

    # --- checkpoints of a recording ---------------------------------------------------------------

    def followed(self) -> list[tuple[str, str]]:
        """(platform, asset) of everything that is followed."""
        return [(platform, asset_id) for platform, assets in self._assets.items() for asset_id in assets]

    def checkpoint(self, platform: str, asset_id: str) -> tuple[str, bytes] | None:
        """(connection, body of a `book` record) of an asset whose book is known and whole, halted or not: a
        reader who begins here can go on with it."""
        asset = self._assets.get(platform, {}).get(asset_id)
        if asset is None or asset.state not in ("live", "halted") or asset.owner is None:
            return None
        fields = asset.owner.normaliser.checkpoint(asset_id)
        if fields is None:
            return None
        return asset.owner.name, orjson.dumps({"asset": asset_id, **fields})

    def _restored(self, meta: Meta, connection: Connection, fields: Mapping[str, Any], now_us: int) -> None:
        """A `book` record: who knows the book compares, who does not takes it."""
        asset_id = fields.get("asset")
        if not isinstance(asset_id, str) or asset_id not in self._assets[meta.platform]:
            return
        if asset_id in connection.live:
            known = connection.normaliser.book(asset_id)
            if known is not None:
                # As numbers: a checkpoint has the venue's own text.
                written = restored(fields)
                same = written is not None and written.levels() == known.levels()
                key = (meta.platform, "checkpoint_match" if same else "checkpoint_mismatch")
                self._done[key] = self._done.get(key, 0) + 1
            return
        outputs = connection.normaliser.restore(asset_id, fields, now_us)
        self._showing.outputs(connection, outputs, meta.rx_us, now_us)

    def checks(self) -> dict[tuple[str, str], int]:
        """Verifications against what the venues offer, by (platform, verdict), since the start."""
        total = dict(self._done)
        for connection in self._connections.values():
            for verdict, count in connection.normaliser.checks.items():
                key = (connection.platform, verdict)
                total[key] = total.get(key, 0) + count
        return total
