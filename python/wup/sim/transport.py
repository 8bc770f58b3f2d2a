"""A TCP transport that can misbehave: bytes one by one, silence on an open socket, reset."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class FaultyTransport:
    """Stands in front of a real transport; what it does not change it passes on."""

    def __init__(self, inner: asyncio.Transport) -> None:
        self._inner = inner
        self._mute = False
        self._slicing = False
        self._queue = bytearray()
        self._task: asyncio.Task[None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, slice, or swallow."""
        if self._mute:
            return
        if self._slicing or self._queue:
            self._queue += data
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._drip())
        else:
            self._inner.write(data)

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several parts."""
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        """Half-close, after what is waiting."""
        self._flush()
        if not self._mute:
            self._inner.write_eof()

    def close(self) -> None:
        """Close, after what is waiting."""
        self._flush()
        self._inner.close()

    def abort(self) -> None:
        """Close at once."""
        self._queue.clear()
        self._inner.abort()

    def half_open(self) -> None:
        """The peer sees an open socket that never says anything again."""
        self._mute = True
        with contextlib.suppress(RuntimeError):
            self._inner.pause_reading()

    def slice_for(self, seconds: float) -> None:
        """From now on bytes leave one by one."""
        self._slicing = True
        asyncio.get_running_loop().call_later(seconds, self._whole)

    def reset(self) -> None:
        """Close with a TCP reset instead of a FIN."""
        sock = self._inner.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def _whole(self) -> None:
        self._slicing = False

    async def _drip(self) -> None:
        while self._queue and self._slicing and not self._inner.is_closing():
            self._inner.write(bytes(self._queue[:1]))
            del self._queue[:1]
            # Let the other side read: without it the kernel would hand over one large piece.
            await asyncio.sleep(0)
        self._flush()

    def _flush(self) -> None:
        if self._queue and not self._mute and not self._inner.is_closing():
            self._inner.write(bytes(self._queue))
        self._queue.clear()
