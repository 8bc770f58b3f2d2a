"""Settings: defaults, lists, and every error at once."""

from __future__ import annotations

import pytest

from wup import config
from wup.errors import SettingsError


def test_defaults_are_those_of_the_design(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback, the documented ports and addresses, publishing off."""
    for name in ("NATS_URL", "REDIS_URL", "HTTP_PORT", "WS_PORT", "METRICS_PORT", "MAPPINGS"):
        monkeypatch.delenv(name, raising=False)
    settings = config.load(config.Settings)
    assert settings.bind_host == "127.0.0.1"
    assert (settings.orderbook_http_port, settings.events_http_port, settings.ws_port) == (8080, 8081, 8082)
    assert settings.nats() == "nats://localhost:4222"
    assert settings.redis() == "redis://localhost:6379"
    assert settings.publish_changes is False
    assert settings.shard_index() == (0, 1)


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENT_SLUG and the others take comma separated values; blanks are dropped."""
    monkeypatch.setenv("EVENT_SLUG", "kalshi:KXFED-26DEC, polymarket:fed ,,")
    assert config.load(config.Settings).event_slug == ("kalshi:KXFED-26DEC", "polymarket:fed")


def test_all_errors_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three wrong variables give three problems, each naming its variable."""
    monkeypatch.setenv("WS_PORT", "99999")
    monkeypatch.setenv("SHARD", "3/2")
    monkeypatch.setenv("REFRESH_INTERVAL_SECS", "soon")
    with pytest.raises(SettingsError) as error:
        config.load(config.Settings)
    named = {problem.split(":")[0] for problem in error.value.problems}
    assert named == {"WS_PORT", "SHARD", "REFRESH_INTERVAL_SECS"}


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("example.org", False)],
)
def test_loopback_is_recognised(host: str, loopback: bool) -> None:
    """Only addresses of this machine count as loopback; names other than localhost do not."""
    assert config.is_loopback(host) is loopback
