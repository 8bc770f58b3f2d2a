"""Replay of recorded frames on a real socket: a venue that says again what it said once.

A tape is JSON lines, plain or zstd, in any of three forms: WUP's own recordings (`rx_us` and `raw`), frames
with nanoseconds (`rx_ns` and `raw`), and parsed frames with milliseconds (`recv_ms` and `frame`). Old forms
of a venue's messages reach a reader this way without the simulator having to speak them.
"""

from __future__ import annotations

import asyncio
import errno
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import zstandard
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from wup.errors import PortInUse, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.asyncio.server import Server, ServerConnection

_ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class TapeFrame:
    """One recorded frame."""

    at_us: int
    text: str


def read_tape(path: Path, *, platform: str | None = None) -> list[TapeFrame]:
    """The frames of a tape in order; other records (`kind` other than `frame`) are left out.

    Raises:
        SettingsError: the file cannot be read, or has lines that are no frames: each with its number.
    """
    try:
        data = path.read_bytes()
        if data.startswith(_ZSTD):
            data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    except (OSError, zstandard.ZstdError) as error:
        raise SettingsError([f"{path}: cannot be read ({error})"]) from None
    frames: list[TapeFrame] = []
    problems: list[str] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            frames.extend(_frame(orjson.loads(line), platform))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            problems.append(f"{path}:{number}: no frame ({error})")
    if problems:
        raise SettingsError(problems)
    return frames


def _frame(record: Any, platform: str | None) -> Iterator[TapeFrame]:
    if not isinstance(record, dict):
        raise ValueError("not an object")
    if record.get("kind", "frame") != "frame" or (platform and record.get("platform", platform) != platform):
        return
    if "frame" in record:
        yield TapeFrame(int(record["recv_ms"]) * 1_000, orjson.dumps(record["frame"]).decode())
        return
    at_us = int(record["rx_us"]) if "rx_us" in record else int(record["rx_ns"]) // 1_000
    text = record["raw"]
    if not isinstance(text, str):
        raise ValueError("raw is not text")
    yield TapeFrame(at_us, text)


class TapeServer:
    """Plays a tape to every client, from the moment it sends its first frame."""

    def __init__(self, frames: list[TapeFrame], *, speed: float = 1.0) -> None:
        """`speed`: 1 = as recorded, n = n times as fast, 0 = without waiting."""
        self.port = 0
        self._frames = frames
        self._speed = speed
        self._server: Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0, setting: str = "SIM_TAPE_PORT") -> None:
        """Listen.

        Raises:
            PortInUse: the port is taken; names `setting`.
        """
        try:
            self._server = await serve(self._play, host, port, compression=None, close_timeout=1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(setting, host, port) from None
            raise
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        if self._server is not None:
            self._server.close(code=1001, reason="going away")
            await self._server.wait_closed()
            self._server = None

    async def _play(self, socket: ServerConnection) -> None:
        try:
            await socket.recv()
            loop = asyncio.get_running_loop()
            started, first = loop.time(), self._frames[0].at_us if self._frames else 0
            for frame in self._frames:
                if self._speed:
                    due = started + (frame.at_us - first) / 1_000_000 / self._speed
                    # Always from the start of the tape: waits do not add up.
                    await asyncio.sleep(max(0.0, due - loop.time()))
                await socket.send(frame.text)
            # The tape is over; the client decides when to leave.
            await socket.wait_closed()
        except ConnectionClosed:
            return
