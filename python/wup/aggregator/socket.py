"""One venue WebSocket: bytes in, calls out. Knows no venue and no bus.

picows calls us from within the socket read: nothing is queued and nothing awaited between the venue's bytes
and the bus (docs/design.md has the figures). What it leaves to its user is done here: fragments put
together, a close answered, the time of the read kept, a proxy looked up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from picows import WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup.clock import Clock

MAX_FRAME = 32 * 1024 * 1024
"""Bytes of a message, in one frame or in fragments: the first books of 400 busy assets are 2 MB."""
OPEN_S = 10.0
TCP_USER_TIMEOUT_MS = 10_000

# What picows would log is told by our own records, once.
_QUIET = logging.getLogger("wup.aggregator.socket")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False

_TEXT, _MORE = WSMsgType.TEXT, WSMsgType.CONTINUATION
_WHOLE = (_TEXT, WSMsgType.BINARY)
_PING, _CLOSE = WSMsgType.PING, WSMsgType.CLOSE


class Refused(Exception):
    """The venue answered the upgrade with something else than 101."""

    def __init__(self, status: int, retry_after_s: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.retry_after_s = retry_after_s


class Unreachable(Exception):
    """No WebSocket came about: no route, no TLS, no answer, or not an answer to an upgrade."""


class Reader(Protocol):
    """Who is told what comes."""

    def opened(self, venue: VenueSocket) -> None:
        """The upgrade is done; no frame has been read yet."""
        ...

    def frame(self, raw: bytes, rx_us: int) -> None:
        """One whole message; `rx_us` is when its last bytes were read from the socket, microseconds."""
        ...


class VenueSocket(WSListener):
    """An open WebSocket; made by `open_socket`."""

    def __init__(self, reader: Reader, clock: Clock, wanted: Callable[[], bool]) -> None:
        self._reader = reader
        self._clock = clock
        self._wanted = wanted
        self._transport: WSTransport | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._first = True
        self._rx_us = 0
        self.heard = clock.monotonic()
        """Monotonic seconds of the last read that held a frame of any kind, pings and pongs included."""
        self.ended = "closed"
        """How it ended, in words."""

    # --- called by picows --------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        if not self._wanted():
            transport.disconnect(graceful=False)
            return
        self._transport = transport
        sock = transport.underlying_transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
        self.heard = self._clock.monotonic()
        self._reader.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if transport.is_close_frame_sent:
            # After a frame that breaks the protocol picows reads on for a moment: what that is nobody knows.
            transport.disconnect(graceful=False)
            return
        if self._first:
            # One time for all frames of one read: those that wait behind others are not read later.
            self._rx_us = self._clock.now_us()
            self.heard = self._clock.monotonic()
        self._first = frame.last_in_buffer
        kind = frame.msg_type
        if kind in _WHOLE and frame.fin and not self._parts:
            self._reader.frame(frame.get_payload_as_bytes(), self._rx_us)
        elif kind in _WHOLE or kind == _MORE:
            self._fragment(frame, kind)
        elif kind == _PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind == _CLOSE:
            self.ended = f"closed by the venue: {frame.get_close_message()!r}"[:200]
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _fragment(self, frame: WSFrame, kind: WSMsgType) -> None:
        if (kind == _MORE) != bool(self._parts):
            self.abort("fragments out of order")
            return
        part = frame.get_payload_as_bytes()
        self._parts.append(part)
        self._size += len(part)
        if self._size > MAX_FRAME:
            self.abort("message over the limit")
        elif frame.fin:
            raw = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self._reader.frame(raw, self._rx_us)

    # --- called by the connection ------------------------------------------------------------------

    def send(self, text: str) -> None:
        """One text frame; nothing when the socket is gone."""
        transport = self._transport
        if transport is not None and not transport.is_disconnected:
            transport.send(_TEXT, text.encode())

    def ping(self) -> None:
        """A protocol ping; its pong moves `heard`."""
        transport = self._transport
        if transport is not None and not transport.is_disconnected:
            transport.send_ping(b"wup")

    def abort(self, why: str) -> None:
        """Close at once: a half-open socket would hold a polite close for its whole timeout."""
        if self._transport is not None and not self._transport.is_disconnected:
            self.ended = why
            self._transport.disconnect(graceful=False)

    async def wait_closed(self) -> None:
        """Returns when the socket is gone, whoever closed it."""
        assert self._transport is not None
        try:
            await self._transport.wait_disconnected()
        except asyncio.CancelledError:
            raise
        except Exception as problem:
            # Picows hands over what broke the protocol, or what our reader raised.
            self.ended = repr(problem)


async def open_socket(url: str, headers: dict[str, str], reader: Reader, clock: Clock) -> VenueSocket:
    """Connect and upgrade.

    Raises:
        Refused: an HTTP answer other than 101.
        Unreachable: anything else that stood in the way, after at most `OPEN_S` seconds.
    """
    made: list[VenueSocket] = []
    waiting = True

    def listener() -> VenueSocket:
        # Who was told to stop meanwhile is not told of a socket any more.
        made.append(VenueSocket(reader, clock, lambda: waiting))
        return made[-1]

    try:
        async with asyncio.timeout(OPEN_S):
            transport, _ = await ws_connect(
                listener,
                url,
                websocket_handshake_timeout=OPEN_S,
                logger_name=_QUIET,
                enable_auto_pong=False,
                max_frame_size=MAX_FRAME,
                extra_headers=headers,
                max_redirects=0,
                proxy=proxy_for(url),
            )
    except WSHandshakeError as problem:
        if problem.response is None:
            raise Unreachable(str(problem)) from problem
        after = problem.response.headers.get("Retry-After")
        status = int(problem.response.status)
        raise Refused(status, retry_after(after, clock.now_us())) from problem
    except (WSError, OSError, TimeoutError, ValueError, EOFError) as problem:
        raise Unreachable(repr(problem)) from problem
    finally:
        waiting = False
    if not made or made[0]._transport is None:
        transport.disconnect(graceful=False)
        raise Unreachable("closed during the upgrade")
    return made[0]


def retry_after(value: str | None, now_us: int) -> float | None:
    """Seconds from a `Retry-After` header (seconds, or a date); None when there is none that can be read."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_us / 1_000_000)
    except (ValueError, OverflowError):
        return None


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for `url` (`https_proxy`, `no_proxy`, ...), or None."""
    parts = urlsplit(url)
    known = getproxies()
    if not known or (parts.hostname and proxy_bypass(f"{parts.hostname}:{parts.port or ''}".rstrip(":"))):
        return None
    schemes = ("wss", "socks", "https", "all") if parts.scheme == "wss" else ("ws", "socks", "http", "all")
    return next((known[scheme] for scheme in schemes if known.get(scheme)), None)
