"""Running a coroutine as a command: uvloop, signals, exit codes."""

from __future__ import annotations

import asyncio
import gc
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


_started = False


def started() -> None:
    """Call once everything runs: from here on the command ends by itself when told to stop.

    What lives until the end is taken out of the garbage collector's sight: a full collection over the books
    of thousands of markets stalls the loop for 150 ms and more, and the hot path makes no cycles.
    """
    global _started
    _started = True
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def run(main: Callable[[asyncio.Event], Awaitable[int]], *, log_level: str = "info") -> NoReturn:
    """Run `main(stop)` on uvloop and exit with what it returns.

    SIGINT and SIGTERM set `stop` (before `started` they cancel `main`); a second one ends the process at
    once. Wrong settings and busy ports are told in plain words, exit 2; other errors of ours exit 1.
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
        command = asyncio.ensure_future(main(stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({command, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not command.done() and not _started:
            # Still starting, perhaps waiting for a server that is away: nothing looks at `stop` yet.
            command.cancel()
        stopping.cancel()
        try:
            return await command
        except asyncio.CancelledError:
            return 0

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(body())
    except SettingsError as error:
        fail(error.problems)
    except PortInUse as error:
        fail([str(error)])
    except WupError as error:
        sys.stderr.write(f"wup: {error}\n")
        sys.exit(1)
    sys.exit(code)
