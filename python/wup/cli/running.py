"""Running a coroutine as a command: uvloop, signals, exit codes."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import orjson
import uvloop

from wup import logs
from wup.errors import PortInUse, SettingsError, WupError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EXIT_SETTINGS = 2


def fail(problems: list[str]) -> NoReturn:
    """All problems to stderr, one a line; exit 2."""
    for problem in problems:
        sys.stderr.write(f"wup: {problem}\n")
    sys.exit(EXIT_SETTINGS)


def say(message: dict[str, object]) -> None:
    """One JSON line on stdout, at once."""
    sys.stdout.write(orjson.dumps(message).decode() + "\n")
    sys.stdout.flush()


def run(main: Callable[[asyncio.Event], Awaitable[int]], *, log_level: str = "info") -> NoReturn:
    """Run `main(stop)` and exit with what it returns.

    SIGINT and SIGTERM set `stop`; a second one ends the process at once. Wrong settings and busy ports are
    told in plain words, exit 2; other errors of ours exit 1.
    """
    logs.configure(log_level)
    # A dump of memory would hold keys and tokens.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    async def body() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            if stop.is_set():
                os._exit(130)
            stop.set()

        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, interrupt)
        return await main(stop)

    try:
        code = uvloop.run(body())
    except SettingsError as error:
        fail(error.problems)
    except PortInUse as error:
        fail([str(error)])
    except WupError as error:
        sys.stderr.write(f"wup: {error}\n")
        sys.exit(1)
    sys.exit(code)
