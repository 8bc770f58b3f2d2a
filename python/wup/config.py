"""Settings from the environment (architecture.md section 4), validated at start, all errors at once.

Venue settings live in the venue's folder; `load` reads any of these classes.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Annotated, Any, Literal, TypeVar, cast, get_args
from urllib.parse import SplitResult, urlsplit

from pydantic import ByteSize, Field, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from wup import logs
from wup.errors import SettingsError

Port = Annotated[int, Field(ge=0, le=65_535)]
LogLevel = Literal["trace", "debug", "info", "warning", "warn", "error"]


def _rust_log() -> LogLevel:
    """RUST_LOG where LOG_LEVEL is not set: its level for everything; what it says of
    single crates is theirs."""
    for part in os.environ.get("RUST_LOG", "").split(","):
        level = part.strip().lower()
        if level in get_args(LogLevel):
            return cast("LogLevel", level)
    return "info"


class EnvSettings(BaseSettings):
    """Base of every settings class: frozen, read from variables named like the fields in upper case."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", case_sensitive=False, env_ignore_empty=True
    )


class FileSettings(EnvSettings):
    """Settings that name files: they can always be read, and the files looked at, whatever else is wrong."""

    bind_host: str = "127.0.0.1"
    mappings: str = "mappings"
    tokens_file: str | None = None
    orderbook_token_file: str | None = None

    def orderbook_token(self) -> str | None:
        """What the gateway shows to the orderbook service: the token in ORDERBOOK_TOKEN_FILE.

        Raises:
            SettingsError: the file is missing, readable by others, or holds no token.
        """
        from wup.access import read_token

        path = self.orderbook_token_file
        return None if path is None else read_token(path, "ORDERBOOK_TOKEN_FILE")


class Settings(FileSettings):
    """Settings of the stages; the defaults are those of a single stage."""

    nats_url: str | None = None
    redis_url: str | None = None
    metrics_port: Port | None = None
    http_port: Port | None = None
    orderbook_http_port: Port = 8080
    events_http_port: Port = 8081
    ws_port: Port = 8082
    refresh_interval_secs: Annotated[float, Field(gt=0, le=1_000_000)] = 60.0
    event_slug: Annotated[tuple[str, ...], NoDecode] = ()
    nats_subject: str = "normalized.>"
    publish_changes: bool = False
    normalize: Literal["inline", "off"] = "inline"
    shard: str = "0/1"
    record: bool | None = None
    record_dir: str = "recordings"
    record_max_size: Annotated[ByteSize, Field(ge=2**20)] = ByteSize(20 * 2**30)
    record_max_age_hours: Annotated[float, Field(gt=0, le=1_000_000)] = 168.0
    record_segment_size: Annotated[ByteSize, Field(ge=2**16)] = ByteSize(64 * 2**20)
    record_segment_secs: Annotated[float, Field(ge=1, le=1_000_000_000)] = 3600.0
    record_stream: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ("localhost", "127.0.0.1", "[::1]")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    metrics_host: str = "127.0.0.1"
    orderbook_service_url: Annotated[tuple[str, ...], NoDecode] = ("http://localhost:8080",)
    log_level: LogLevel = Field(default_factory=_rust_log)

    @field_validator(
        "event_slug",
        "allowed_origins",
        "allowed_hosts",
        "trusted_proxies",
        "orderbook_service_url",
        mode="before",
    )
    @classmethod
    def _comma_list(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("nats_url")
    @classmethod
    def _nats_url(cls, value: str | None) -> str | None:
        if value is not None:
            servers = [part.strip() for part in value.split(",") if part.strip()]
            if not servers:
                raise ValueError("must name a server")
            for server in servers:
                _address(server, ("nats", "tls", "ws", "wss"))
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: str | None) -> str | None:
        if value is None:
            return value
        if value.startswith("unix://"):
            if not urlsplit(value).path.strip("/"):
                raise ValueError("must name a socket, like unix:///run/redis.sock")
            return value
        database = _address(value, ("redis", "rediss"), "unix").path.strip("/")
        if database and not re.fullmatch("[0-9]+", database):
            raise ValueError("the path must be the number of a database")
        return value

    @field_validator("orderbook_service_url")
    @classmethod
    def _service_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must name a server")
        for url in value:
            _address(url, ("http", "https"))
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in value:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(f"{proxy} is no address or network") from None
        return value

    @field_validator("bind_host", "metrics_host")
    @classmethod
    def _bind_host(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be empty")
        return value.strip()

    @field_validator("shard")
    @classmethod
    def _shard(cls, value: str) -> str:
        index, slash, count = value.partition("/")
        if not slash or not index.isdigit() or not count.isdigit() or not int(index) < int(count) <= 1024:
            raise ValueError("must be i/n with 0 <= i < n")
        return value

    def shard_index(self) -> tuple[int, int]:
        """(i, n) of SHARD."""
        index, _, count = self.shard.partition("/")
        return int(index), int(count)

    def nats(self) -> str:
        """NATS_URL with the default of a single stage."""
        return self.nats_url or "nats://localhost:4222"

    def redis(self) -> str:
        """REDIS_URL with the default of a single stage."""
        return self.redis_url or "redis://localhost:6379"


_S = TypeVar("_S", bound=EnvSettings)


def _address(url: str, schemes: tuple[str, ...], *others: str) -> SplitResult:
    """A URL with one of the schemes, a host, and a port that can be connected to, if any."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("the port must be a number from 1 to 65535") from None
    if "://" not in url or parts.scheme not in schemes:
        raise ValueError("must begin with " + " or ".join(f"{scheme}://" for scheme in (*schemes, *others)))
    if not host or re.search(r"\s", host):
        raise ValueError("must name a host")
    if port == 0:
        raise ValueError("the port must be a number from 1 to 65535")
    return parts


def _problem(item: dict[str, Any]) -> str:
    name = ".".join(str(part) for part in item["loc"]).upper()
    got = logs.redacted(repr(item["input"]))
    return f"{name}: {item['msg'].removeprefix('Value error, ')} (got {got})"


def load(kind: type[_S], **overrides: Any) -> _S:
    """Read one settings class.

    Raises:
        SettingsError: every wrong variable, each with its name and what it must be.
    """
    try:
        return kind(**overrides)
    except ValidationError as error:
        raise SettingsError([_problem(dict(item)) for item in error.errors(include_url=False)]) from None


def load_all(kinds: dict[str, type[EnvSettings]]) -> dict[str, EnvSettings]:
    """Read several classes; the errors of all come at once."""
    loaded: dict[str, EnvSettings] = {}
    problems: list[str] = []
    for name, kind in kinds.items():
        try:
            loaded[name] = load(kind)
        except SettingsError as error:
            problems.extend(error.problems)
    if problems:
        raise SettingsError(problems)
    return loaded


def is_loopback(host: str) -> bool:
    """Does `host` name this machine only?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
