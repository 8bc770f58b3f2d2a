"""The examples run as they stand and show what they say."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_script(capsys: pytest.CaptureFixture[str]) -> None:
    """The script runs to its end; the client is exact throughout."""
    runpy.run_path(str(EXAMPLES / "native_book.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "client is exact" in shown
    assert "('kalshi', 'a', 'seq_gap')" in shown


def test_replay_of_the_recording_beside_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recording in the examples is played, whole."""
    monkeypatch.setattr("sys.argv", ["replay.py"])
    runpy.run_path(str(EXAMPLES / "replay.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "1329 frames, 6 books, 0 bad lines" in shown
    assert "spread 0." in shown


def test_notebook() -> None:
    """Every code cell runs in order, and cells that end in a book have a table to show."""
    notebook: dict[str, Any] = json.loads((EXAMPLES / "native_book.ipynb").read_text())
    names: dict[str, Any] = {}
    tables = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            *_, last = source.splitlines()
            exec(compile(source, "cell", "exec"), names)  # the cell is ours
            if last.isidentifier() or last.endswith(")"):
                shown = eval(last, names)  # the same
                tables += hasattr(shown, "_repr_html_")
    assert names["client"].exact
    assert tables >= 3
