"""`wup book BOOK --at TIME`: a book at a moment of a recording, or why it cannot be known."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson

from wup._core import CoreError
from wup.errors import WupError
from wup.playback.gaps import Gaps
from wup.playback.sources import show_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wup.playback.replay import Emitted, Replay
    from wup.raw import Meta

_NAMED = 5


class Unknown(WupError):
    """The book at that moment cannot be known; `why` is a code, the text says it in words.

    `outside` (the recording does not cover the moment), `recorder_off`, `disk_full`, ... (nothing was
    recorded then), `frames_lost` (frames of a connection that showed the book are missing around it),
    `no_such_book`, `not_live` (no leg of it was live: `legs` says why), `unreadable`.
    """

    def __init__(self, why: str, text: str, **more: Any) -> None:
        super().__init__(text)
        self.why = why
        self.more = more


def book_at(
    make: Callable[[], Replay], book: str, at_us: int, *, depth: int | None = None, quick: bool = False
) -> dict[str, Any]:
    """The `snapshot` message of a book after everything received up to `at_us`.

    `make` gives the log, which must go beyond `at_us`: whether anything was recorded then shows only in what
    came after, so that it is read on until each connection that shows the book was heard once more. `quick`:
    it begins in the middle of a run, so that epoch and sequence cannot be told and are left out. `book` may
    be `platform:asset`; `no` at its end gives the NO view.

    Raises:
        Unknown: and why. BusError: a stream cannot be read.
    """
    replay = make()
    gaps = Gaps()
    said: dict[str, str] = {}

    def put(message: Emitted) -> None:
        if message.kind == "status":
            said[message.book] = str(orjson.loads(message.payload).get("why"))

    replay.begin(put)
    answer: dict[str, Any] | None = None
    records = replay.records()
    for meta, payload in records:
        gaps.record(meta, payload)
        if meta.rx_us > at_us:
            if replay.player.records == 0:
                break
            _refuse_in_gap(gaps, at_us, {("", "")})
            answer = _look(replay, book, at_us, depth, said)
            showing = _showing(replay, answer)
            _read_on(chain([(meta, payload)], records), gaps, at_us, showing)
            break
        replay.feed(meta, payload)
    if replay.bad_lines and answer is None:
        raise Unknown("unreadable", f"the recording cannot be read up to there: {replay.bad_lines[0]}")
    if answer is None:
        first = "" if replay.first_us is None else f" (it goes from {show_time(replay.first_us)}"
        last = f" to {show_time(replay.player.now_us)})" if first else ""
        raise Unknown("outside", f"the recording does not cover {show_time(at_us)}{first}{last}")
    if quick:
        del answer["epoch"], answer["seq"]
    return answer


def _showing(replay: Replay, answer: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(platform, connection) of those from which the book's live legs are shown."""
    found: set[tuple[str, str]] = set()
    for leg in answer["legs"].values():
        owner = replay.player.owner(leg["platform"], leg["asset"]) if leg["state"] == "live" else None
        if owner is not None:
            found.add((leg["platform"], owner))
    return found


def _read_on(
    records: Iterable[tuple[Meta, bytes]], gaps: Gaps, at_us: int, showing: set[tuple[str, str]]
) -> None:
    """Hear each connection once more, without feeding: a frame that is missing shows only then.

    The first of `records` was told to `gaps` already.

    Raises:
        Unknown: one of them had lost frames.
    """
    silent = set(showing)
    for place, (meta, payload) in enumerate(records):
        if place:
            gaps.record(meta, payload)
        if meta.kind in ("frame", "marks", "close", "open"):
            silent.discard((meta.platform, meta.connection))
        elif meta.kind == "start" and any(not gap.connection and gap.to_us > at_us for gap in gaps.found):
            # Another run: nothing of this one is told any more.
            silent.clear()
        if not silent:
            break
    _refuse_in_gap(gaps, at_us, showing)


def _refuse_in_gap(gaps: Gaps, at_us: int, of: set[tuple[str, str]]) -> None:
    """`of`: which gaps matter, by platform and connection; empty names stand for all that is recorded.

    Raises:
        Unknown: the moment is within one.
    """
    for gap in gaps.found:
        if gap.from_us <= at_us < gap.to_us and (gap.platform, gap.connection) in of:
            between = f"from {show_time(gap.from_us)} to {show_time(gap.to_us)}"
            if gap.connection:
                raise Unknown(gap.why, f"{gap.frames} frames of {gap.connection} are missing {between}")
            raise Unknown(gap.why, f"nothing was recorded {between}: {gap.why}")


def _look(replay: Replay, wanted: str, at_us: int, depth: int | None, said: dict[str, str]) -> dict[str, Any]:
    store = replay.player.store
    book = _named(replay, wanted)
    view = store.book(book, at_us)
    if view.state == "down":
        yes = f"{book.rpartition('.')[0]}.yes"
        legs = {name: leg["state"] for name, leg in view.legs.items()}
        why = said.get(yes, "leg_snapshot" if not legs else "no_first_book")
        told = ", ".join(f"{name} {state}" for name, state in legs.items()) or "it had none"
        raise Unknown(
            "not_live", f"no leg of {book} was live then ({told}); last: {why}", legs=legs, last=why
        )
    found: dict[str, Any] = orjson.loads(store.snapshot(book, depth, "subscribe", at_us))
    # The moment that was asked for, not the last change's.
    found["at"] = at_us
    return found


def _named(replay: Replay, wanted: str) -> str:
    store = replay.player.store
    platform, colon, asset = wanted.partition(":")
    if colon:
        for book in store.books():
            for leg in store.book(book).legs.values():
                if (leg["platform"], leg["asset"]) == (platform, asset):
                    return book
        raise Unknown("no_such_book", f"no book had the asset {wanted} then")
    stem, _, token = wanted.rpartition(".")
    try:
        if token in ("yes", "no") and store.books(f"{stem}.yes"):
            return wanted
    except CoreError:
        pass
    known = store.books()
    if not known:
        raise Unknown("not_live", "the recording had no book yet then")
    some = ", ".join(known[:_NAMED]) + (f" and {len(known) - _NAMED} more" if len(known) > _NAMED else "")
    raise Unknown("no_such_book", f"no book {wanted!r} then; there were {some or 'none'}")
