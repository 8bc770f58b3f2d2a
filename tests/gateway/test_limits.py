"""The settings of the WebSocket: bounded, told at the start, documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wup import config
from wup.cli.stages import settings_or_exit
from wup.errors import SettingsError
from wup.gateway import Limits

NAMES = sorted(name.upper() for name in Limits.model_fields)


@pytest.mark.parametrize("value", ["0", "-1", "1000000000000000", "inf", "nan", "soon"])
@pytest.mark.parametrize("name", NAMES)
def test_figures_out_of_bounds_are_told(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """No limit can be nothing, endless or no number; the error names the variable and the bound."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        config.load(Limits)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name}: Input should be ")


def test_a_heartbeat_is_no_rarer_than_clients_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client takes five seconds without a frame for a dead connection; the heartbeat comes before."""
    monkeypatch.setenv("WS_HEARTBEAT_MS", "4001")
    with pytest.raises(SettingsError, match=r"WS_HEARTBEAT_MS.*less than or equal to 4000"):
        config.load(Limits)


def test_limits_are_looked_at_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every stage's command refuses a wrong limit at once, with the other wrong settings, by exit code 2."""
    monkeypatch.setenv("WS_HEARTBEAT_MS", "60000")
    monkeypatch.setenv("HTTP_RATE", "0")
    monkeypatch.setenv("SHARD", "x")
    with pytest.raises(SystemExit) as caught:
        settings_or_exit()
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert all(name in told for name in ("WS_HEARTBEAT_MS", "HTTP_RATE", "SHARD"))


def test_every_limit_is_documented_with_its_default() -> None:
    """docs/websocket.md has each variable, in its table, with the value that holds without it."""
    text = (Path(__file__).parents[2] / "docs" / "websocket.md").read_text()
    told: dict[str, str] = {}
    for row in re.findall(r"^\| (`[A-Z_`, ]+`) \| ([0-9, ]+) \|", text, re.MULTILINE):
        told |= dict(zip(re.findall(r"[A-Z_]+", row[0]), row[1].split(", "), strict=True))
    defaults = {name.upper(): field.default for name, field in Limits.model_fields.items()}
    assert {name: told.get(name) for name in NAMES} == {name: f"{defaults[name]:.12g}" for name in NAMES}
