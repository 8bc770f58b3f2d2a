"""A replay from what people write: names of logs, and times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wup import config
from wup.errors import SettingsError
from wup.playback.replay import Replay
from wup.playback.sources import STREAM, Part, find, parse_time, read_catalog_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def open_replay(
    logs: Sequence[str | Path],
    *,
    start: str | int | None = None,
    end: str | int | None = None,
    catalog: str | Path | None = None,
    nats_url: str | None = None,
    seek: str | int | None = None,
    quick: bool = False,
) -> Replay:
    """See `wup.replay`. `seek`: play everything, but leave out runs that ended before this time; `quick`:
    begin with the books of a segment shortly before it.

    Raises:
        SettingsError, ValueError: as there.
    """
    if not logs:
        raise SettingsError(["no recording named: a folder, files, or jetstream:STREAM"])
    part = Part(_micros(start), _micros(end))
    if part.start_us is not None and part.end_us is not None and part.start_us >= part.end_us:
        raise ValueError("the start must be before the end")
    if nats_url is None and any(str(log).startswith(STREAM) for log in logs):
        nats_url = config.load(config.Settings).nats()
    wanted = part if seek is None else Part(_micros(seek), part.end_us, quick)
    source = find(logs, nats_url=nats_url, part=wanted)
    known = [] if catalog is None else read_catalog_file(catalog)
    return Replay(source, part=part, catalog=known)


def _micros(time: str | int | None) -> int | None:
    return parse_time(str(time)) if time is not None else None
