"""Settings: defaults, lists, and every error at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from wup import config
from wup.cli.stages import settings_or_exit
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


@pytest.mark.parametrize(
    ("log_level", "rust_log", "level"),
    [
        (None, None, "info"),
        (None, "debug", "debug"),
        (None, "hyper=trace,WARN", "warn"),
        (None, "hyper=trace", "info"),
        ("error", "debug", "error"),
    ],
)
def test_the_log_level_may_come_from_rust_log(
    monkeypatch: pytest.MonkeyPatch, log_level: str | None, rust_log: str | None, level: str
) -> None:
    """RUST_LOG's level for everything holds where LOG_LEVEL is not set; the rest of it is not read."""
    for name, value in (("LOG_LEVEL", log_level), ("RUST_LOG", rust_log)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert config.load(config.Settings).log_level == level


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NATS_URL", "localhost:4222"),
        ("NATS_URL", "nats://localhost:notaport"),
        ("NATS_URL", "nats://localhost:0"),
        ("NATS_URL", "nats://localhost:70000"),
        ("NATS_URL", "nats://"),
        ("NATS_URL", "nats://good:4222,http://bad:4222"),
        ("NATS_URL", " , "),
        ("REDIS_URL", "foo"),
        ("REDIS_URL", "redis://localhost:x"),
        ("REDIS_URL", "redis://localhost:6379/main"),
        ("REDIS_URL", "unix://"),
        ("ORDERBOOK_SERVICE_URL", "localhost:8080"),
        ("ORDERBOOK_SERVICE_URL", "http://a:8080,ftp://b"),
        ("ORDERBOOK_SERVICE_URL", ","),
        ("BIND_HOST", "  "),
    ],
)
def test_wrong_addresses_are_settings_errors(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """An address that nothing can connect to is told at start, by the name of its variable."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        config.load(config.Settings)
    assert [problem.split(":")[0] for problem in error.value.problems] == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NATS_URL", "nats://a:4222, tls://user:secret@b,ws://c:80,wss://[::1]:443"),
        ("REDIS_URL", "redis://:secret@localhost:6379/2"),
        ("REDIS_URL", "rediss://cache.example"),
        ("REDIS_URL", "unix:///run/valkey.sock?db=1"),
        ("ORDERBOOK_SERVICE_URL", "http://a:8080,https://b"),
        ("BIND_HOST", "::1"),
    ],
)
def test_right_addresses_are_taken(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Every documented form of an address is accepted."""
    monkeypatch.setenv(name, value)
    config.load(config.Settings)


def test_errors_tell_no_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address is shown without its user name and password."""
    monkeypatch.setenv("NATS_URL", "nats://user:secret@host:port")
    with pytest.raises(SettingsError) as error:
        config.load(config.Settings)
    assert "secret" not in str(error.value.problems)
    assert "host:port" in str(error.value.problems)


def test_settings_and_their_files_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Wrong addresses, mapping files, tokens files and an open bind come as one list, exit 2, before
    anything is started."""
    (tmp_path / "a.toml").write_text("version = [")
    for name, value in (
        ("NATS_URL", "nats://localhost:notaport"),
        ("REDIS_URL", "foo"),
        ("MAPPINGS", str(tmp_path)),
        ("TOKENS_FILE", str(tmp_path / "none")),
        ("ORDERBOOK_TOKEN_FILE", str(tmp_path / "none")),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        settings_or_exit(mappings=True)
    assert left.value.code == 2
    told = capsys.readouterr().err
    for part in (
        "NATS_URL",
        "REDIS_URL",
        f"MAPPINGS: {tmp_path / 'a.toml'}:1",
        "TOKENS_FILE",
        "ORDERBOOK_TOKEN_FILE",
    ):
        assert f"wup: {part}" in told
    monkeypatch.delenv("TOKENS_FILE")
    monkeypatch.setenv("BIND_HOST", "0.0.0.0")
    with pytest.raises(SystemExit):
        settings_or_exit()
    told = capsys.readouterr().err
    assert "BIND_HOST: 0.0.0.0" in told
    assert "a.toml" not in told


def test_a_mapping_path_that_names_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """MAPPINGS must exist when it is set; the default folder need not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAPPINGS", raising=False)
    settings_or_exit(mappings=True)
    monkeypatch.setenv("MAPPINGS", "nowhere.toml")
    with pytest.raises(SystemExit):
        settings_or_exit(mappings=True)
    assert "nowhere.toml" in capsys.readouterr().err
