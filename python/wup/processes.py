"""Child processes that cannot outlive us.

A child is started through a few lines of Python that ask the kernel for a parent-death signal and then
become the program (Linux), so that nothing is left after Ctrl-C, SIGTERM or SIGKILL of the parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The check after prctl closes the gap in which the parent died before the signal was armed.
_BECOME = """
import os, sys
parent, program = int(sys.argv[1]), sys.argv[2]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != parent:
        os._exit(1)
os.execvp(program, sys.argv[2:])
"""


def guarded(command: Sequence[str]) -> list[str]:
    """`command` as one that dies with this process."""
    return [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *command]


async def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdout: int | None = asyncio.subprocess.PIPE,
    stderr: int | None = None,
    cwd: str | None = None,
) -> asyncio.subprocess.Process:
    """Start `command` as a guarded child.

    The child ignores the terminal's Ctrl-C (a session of its own): the parent decides when it ends.
    """
    return await asyncio.create_subprocess_exec(
        *guarded(command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=None if env is None else dict(env),
        cwd=cwd,
        start_new_session=True,
        limit=64 * 1024 * 1024,
    )


async def stop(process: asyncio.subprocess.Process, grace_s: float = 5.0) -> int:
    """SIGTERM, then SIGKILL after `grace_s`; the exit code."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), grace_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode if process.returncode is not None else -1
