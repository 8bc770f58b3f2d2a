"""`wup verify`: is a recording whole, what is missing in it and why, and what comes out of it."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from wup.playback.gaps import Gaps
from wup.playback.identity import comparable
from wup.playback.sources import show_time
from wup.recorder import files

if TYPE_CHECKING:
    from pathlib import Path

    from wup.playback.replay import Emitted, Replay

_STATUS = re.compile(rb'"state":"(\w+)".*?"why":"(\w+)"')
_SHOWN = 200


def verify(replay: Replay, folders: list[Path]) -> dict[str, Any]:
    """Play it and judge it; `folders` are recorders' folders, whose files are compared with their indexes.

    Raises:
        BusError: a stream cannot be read.
    """
    damaged, deleted = _files(folders)
    gaps = Gaps()
    digest = hashlib.sha256()
    update = digest.update
    kinds: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    live: dict[str, list[int]] = {}
    """By book: microseconds live so far, since when (0: not live), first seen."""

    def put(message: Emitted) -> None:
        payload = message.payload
        update(comparable(payload))
        kinds[message.kind] += 1
        if message.kind == "snapshot" and message.book not in live:
            live[message.book] = [0, 0, replay.player.now_us]
        if message.kind == "status":
            told = _STATUS.search(payload)
            state, why = (told[1].decode(), told[2].decode()) if told else ("", "")
            now_us = replay.player.now_us
            entry = live.setdefault(message.book, [0, 0, now_us])
            if entry[1]:
                entry[0] += now_us - entry[1]
                entry[1] = 0
            if state == "live":
                entry[1] = now_us
            else:
                reasons.setdefault(message.book, Counter())[why] += 1

    replay.begin(put)
    feed, look = replay.feed, gaps.record
    for meta, payload in replay.records():
        look(meta, payload)
        feed(meta, payload)
    player = replay.player
    store = player.store
    standing = set(store.books())
    books = []
    for name, (live_us, since_us, first_us) in sorted(live.items()):
        total_us = max(player.now_us - first_us, 1)
        still_us = player.now_us - since_us if since_us else 0
        books.append(
            {
                "book": name,
                "state": store.book(name).state if name in standing else "gone",
                "live_share": f"{(live_us + still_us) / total_us:.4f}",
                "not_live": dict(reasons.get(name, {})),
            }
        )
    bad = replay.bad_lines
    found = [gap.fields() for gap in gaps.found]
    return {
        "type": "verified",
        "whole": not (damaged or bad or found or deleted),
        "records": player.records,
        "frames": player.frames,
        "messages": sum(kinds.values()),
        "by_kind": dict(kinds),
        "first": None if replay.first_us is None else show_time(replay.first_us),
        "last": show_time(player.now_us) if player.records else None,
        "gaps": found[:_SHOWN],
        "gap_count": len(found),
        "deleted_segments": deleted,
        "damaged_files": damaged,
        "bad_lines": len(bad),
        "bad_line_samples": [str(line) for line in bad[:20]],
        "bad_input": dict(sorted(player.bad.items())),
        "checks": player.checks(),
        "books": books,
        "sha256": digest.hexdigest(),
    }


def _files(folders: list[Path]) -> tuple[list[str], int]:
    """What is wrong with the files, and how many segments are gone from the middle or the beginning."""
    damaged: list[str] = []
    deleted = 0
    for folder in folders:
        before = 0
        for name in files.names(folder):
            number = files.number_of(name)
            deleted += number - before - 1
            before = number
            path = files.packed_of(folder, name)
            index = files.read_index(folder, name)
            if index is None:
                damaged.append(f"{files.index_of(folder, name)}: missing or unreadable")
            elif index.closed:
                size = path.stat().st_size
                if size != index.bytes:
                    damaged.append(f"{path}: {size} bytes, its index says {index.bytes}")
                elif _sha256(path) != index.sha256:
                    damaged.append(f"{path}: other content than its index says")
    return damaged, deleted


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
