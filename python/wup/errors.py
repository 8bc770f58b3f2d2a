"""Errors that cross module borders.

WupError
+-- SettingsError      settings or mapping files wrong: all problems at once, exit 2
+-- VenueMessageError  a venue frame that cannot be read; carries the asset where it can be told
+-- BusError           the bus cannot be reached or refuses
+-- PortInUse          a port is taken; names the setting to change

The native core raises `wup._core.CoreError` and its children.
"""

from __future__ import annotations


class WupError(Exception):
    """Base of all errors of this package."""


class SettingsError(WupError):
    """One or more settings or input files are wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class VenueMessageError(WupError):
    """A venue frame, or one item of it, that cannot be read.

    `kind` is the counter's label (`bad_json`, `unknown_type`, `bad_level`, `unknown_asset`, ...).
    """

    def __init__(self, kind: str, detail: str, asset_id: str | None = None) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.asset_id = asset_id


class BusError(WupError):
    """The bus cannot be reached, or refused."""


class PortInUse(WupError):
    """A listening port is taken."""

    def __init__(self, setting: str, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is in use; set {setting} to another port (0 = any free one)")
        self.setting = setting
        self.port = port
