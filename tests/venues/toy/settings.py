"""Settings of the toy venue."""

from wup.config import EnvSettings


class ToySettings(EnvSettings):
    """Where the venue is."""

    toy_ws_url: str = "ws://127.0.0.1:1/"
