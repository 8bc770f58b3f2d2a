"""Recorded frames through the same engine and store, to byte-identical output.

`reader`, `jetstream` and `sources` give the records; `player` plays them; `replay` is one playing of them;
`identity` says what "the same output" means; `run`, `verify`, `moment`, `export` and `serving` are what the
commands do with it. (`wup.replay` is the function for programs.)
"""

from wup.playback.identity import comparable
from wup.playback.replay import Message, Replay
from wup.playback.run import cli_run, run

__all__ = ["Message", "Replay", "cli_run", "comparable", "run"]
