"""The processes of the gateway bench: NATS, publisher, server under test, load client, each on its cores."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from wup import processes, servers

HERE = Path(__file__).parent
LIMITS = {
    "WS_CONNECTIONS": "20000",
    "WS_PER_ADDRESS": "20000",
    "WS_CONNECTS_PER_SECOND": "100000",
    # Thousands of handshakes in a second make the loop late; that is not the question here.
    "WS_LAG_MS": "60000",
}
_ASYNCIO = """
import asyncio, sys, uvloop
uvloop.new_event_loop = asyncio.new_event_loop
from wup.cli import main
sys.argv = ["wup", "gateway", "--json"]
main()
"""


class BenchError(Exception):
    """A process of the bench failed, or found what must not be."""


def raise_files() -> int:
    """As many open files as may be; both ends of a connection are on this machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@dataclass(slots=True)
class Child:
    """A process that takes lines and answers with JSON lines."""

    process: asyncio.subprocess.Process
    name: str
    hello: dict[str, Any] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.process.pid

    async def line(self, seconds: float) -> dict[str, Any]:
        """The next JSON line."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                while raw := await self.process.stdout.readline():
                    if raw.startswith(b"{"):
                        answer: dict[str, Any] = json.loads(raw)
                        return answer
        except TimeoutError:
            raise BenchError(f"{self.name}: no answer in {seconds} s") from None
        raise BenchError(f"{self.name} ended")

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    async def ask(self, line: str, seconds: float) -> dict[str, Any]:
        self.say(line)
        return await self.line(seconds)


@contextlib.contextmanager
def _placed(cores: set[int]) -> Iterator[None]:
    """What is started meanwhile, and every thread of it, runs on these cores."""
    mine = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


@contextlib.asynccontextmanager
async def child(
    name: str,
    command: Sequence[str],
    *,
    cores: set[int],
    env: dict[str, str] | None = None,
    ready_s: float = 30.0,
) -> AsyncIterator[Child]:
    """Start a process, wait for its first JSON line, end it at the end."""
    with _placed(cores):
        process = await asyncio.create_subprocess_exec(
            *processes.guarded(command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **(env or {})},
            limit=1024 * 1024,
        )
    found = Child(process, name)
    try:
        found.hello = await found.line(ready_s)
        yield found
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(12):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


@dataclass(slots=True)
class Cores:
    """The server under test has one core, all others the rest; on one core they share it."""

    server: set[int]
    others: set[int]

    @classmethod
    def split(cls, pin: bool) -> Cores:
        every = os.sched_getaffinity(0)
        if not pin or len(every) < 2:
            return cls(every, every)
        first = min(every)
        return cls({first}, every - {first})


@contextlib.asynccontextmanager
async def nats(cores: Cores) -> AsyncIterator[str]:
    """A NATS server, away from the server under test."""
    async with contextlib.AsyncExitStack() as stack:
        with _placed(cores.others):
            url = await stack.enter_async_context(servers.embedded_nats())
        yield url


def gateway(nats: str, http: int, cores: Cores, loop: str) -> Any:
    """The real `wup gateway`, on its own loop (uvloop) or on asyncio's."""
    command = [sys.executable, "-m", "wup", "gateway", "--json"]
    if loop == "asyncio":
        command = [sys.executable, "-c", _ASYNCIO]
    env = {
        **LIMITS,
        "NATS_URL": nats,
        "ORDERBOOK_SERVICE_URL": f"http://127.0.0.1:{http}",
        "WS_PORT": "0",
        "METRICS_PORT": "0",
        "LOG_LEVEL": "error",
    }
    return child(f"gateway ({loop})", command, cores=cores.server, env=env)


def peer(kind: str, nats: str, http: int, cores: Cores) -> Any:
    """A plain server for comparison."""
    command = [
        sys.executable,
        str(HERE / "peers.py"),
        kind,
        "--nats",
        nats,
        "--http",
        f"http://127.0.0.1:{http}",
    ]
    return child(kind, command, cores=cores.server)


def publisher(nats: str, cores: Cores, aggregates: int, books: int, levels: int, hot: bool = True) -> Any:
    """The orderbook stage; `hot`: with the book that all read."""
    command = [sys.executable, str(HERE / "publisher.py"), "--nats", nats]
    command += ["--aggregates", str(aggregates), "--books", str(books), "--levels", str(levels)]
    command += ["--hot" if hot else "--no-hot"]
    return child("publisher", command, cores=cores.others, ready_s=60)


def clients(
    binary: Path,
    port: int,
    count: int,
    cores: Cores,
    *,
    pattern: str = "hot.>",
    groups: int = 1,
    receive_buffer: int = 0,
) -> Any:
    """The load client, once every book has come. What it reads in a window it checks when that is over."""
    command = [str(binary), "--address", f"127.0.0.1:{port}", "--clients", str(count), "--pattern", pattern]
    command += ["--groups", str(groups), "--receive-buffer", str(receive_buffer)]
    return child("wup-load", command, cores=cores.others, ready_s=60)


async def written(server: Child) -> tuple[float, float]:
    """Frames and writes that the gateway counts so far; (0, 0) for a server without metrics."""
    if "metrics" not in server.hello:
        return 0.0, 0.0
    async with httpx2.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"http://127.0.0.1:{server.hello['metrics']}/metrics")).text
    found = dict(re.findall(r"^wup_ws_(frames|writes)_total (\S+)$", text, re.M))
    return float(found["frames"]), float(found["writes"])


async def settled(server: Child) -> None:
    """Until the gateway says that it has all books."""
    async with asyncio.timeout(30), httpx2.AsyncClient(trust_env=False) as client:
        while (await client.get(f"http://127.0.0.1:{server.hello['ws']}/readyz")).status_code != 200:
            await asyncio.sleep(0.05)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, user and system, seconds, to the nanosecond."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def tcp_bytes() -> int:
    """What all TCP sockets of this machine hold in the kernel's buffers."""
    found = re.search(r"^TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.M)
    return int(found[1]) * resource.getpagesize() if found else 0
