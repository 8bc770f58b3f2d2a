"""Recorded frames through the same engine and store, to byte-identical output."""

from wup.playback.run import cli_run, run

__all__ = ["cli_run", "run"]
