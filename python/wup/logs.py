"""Logging: structlog over stdlib, JSON or console; one sample per kind of bad input."""

from __future__ import annotations

import logging
import re
import sys

import structlog

from wup.metrics import BAD_INPUT

_SAMPLE = 200
_seen: set[tuple[str, str, str]] = set()


def configure(level: str = "info", *, json: bool | None = None) -> None:
    """Set up logging to stderr; console form on a terminal, JSON lines otherwise."""
    as_json = not sys.stderr.isatty() if json is None else json
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper(), logging.INFO)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def log(name: str) -> structlog.stdlib.BoundLogger:
    """A logger bound to a stage's name."""
    return structlog.get_logger(stage=name)  # type: ignore[no-any-return]


def clean(text: str | bytes, limit: int = _SAMPLE) -> str:
    """Outside text for a log line: escaped and cut."""
    shown = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    cut = shown[:limit].encode("unicode_escape").decode()
    return cut + ("..." if len(shown) > limit else "")


_CREDENTIALS = re.compile(r"//[^/@\s]*@")


def redacted(url: str) -> str:
    """A URL, or a comma list of them, without user names and passwords: for people to read."""
    return _CREDENTIALS.sub("//***@", url)


def bad_input(stage: str, platform: str, kind: str, sample: str | bytes, **more: object) -> None:
    """Count input that cannot be used, and log the first of each kind with a sample."""
    BAD_INPUT.labels(stage, platform, kind).inc()
    key = (stage, platform, kind)
    if key not in _seen:
        _seen.add(key)
        log(stage).warning("bad input", platform=platform, kind=kind, sample=clean(sample), **more)
