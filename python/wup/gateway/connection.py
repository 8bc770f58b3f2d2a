"""The WebSocket protocol class that uvicorn runs: websockets' sans-I/O server under our own session.

uvicorn hands over a socket whose request asked for an upgrade. From then on frames are parsed here, and
prepared frames are written straight to the transport: no task, no queue and no await per message.
"""

from __future__ import annotations

import asyncio
import http
import socket
from typing import TYPE_CHECKING, Any, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from wup import logs
from wup.access import client_address
from wup.gateway.frame import Control
from wup.gateway.outbox import Outbox
from wup.gateway.session import Session
from wup.metrics import CLIENTS, CLOSED, REFUSED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uvicorn.config import Config
    from uvicorn.server import ServerState
    from websockets.http11 import Response
    from websockets.typing import Subprotocol

    from wup.gateway.core import Core
    from wup.gateway.tokens import Grant

_HIGH_WATER = 65_536
_CLOSE_S = 5.0
_PIECE = 4_096
_LATE = 100  # frames that may come after our close frame
_PATH = "/ws"


def _choose(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """`wup.v1` when the client offers it; none otherwise, which is no error."""
    wanted = cast("Subprotocol", "wup.v1")
    return wanted if wanted in offered else None


class Connection(asyncio.Protocol):
    """One WebSocket connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        core: Core,
    ) -> None:
        self._core = core
        self._state = server_state
        self._slot = 0
        self._loop = asyncio.get_running_loop()
        limits = core.limits
        self._conn = ServerProtocol(
            select_subprotocol=_choose,
            subprotocols=[cast("Subprotocol", "wup.v1")],
            max_size=limits.ws_message_bytes,
        )
        self._transport: asyncio.Transport
        self._address = ""
        self._admitted = False
        self._grant: Grant | None = None
        self._session: Session | None = None
        self._box: Outbox | None = None
        self._fragments: list[bytes] = []
        self._text = False
        self._partial_at: float | None = None
        self._code: int | None = None
        self._late = 0
        self._deadline: asyncio.TimerHandle | None = None

    # --- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._state.connections.add(cast("Any", self))
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(cast("Any", self))
        if self._deadline is not None:
            self._deadline.cancel()
        if self._session is not None:
            self._session.end()
            self._core.leave(self, self._slot)
            CLIENTS.dec()
            received = self._conn.close_rcvd
            code = self._code or (received.code if received is not None else CloseCode.ABNORMAL_CLOSURE)
            CLOSED.labels(str(int(code)) if int(code) in _COUNTED else "other").inc()
            logs.log("gateway").info("closed", connection=self._session.name, code=int(code))
        self._release()

    def pause_writing(self) -> None:
        if self._box is not None:
            self._box.pause()

    def resume_writing(self) -> None:
        if self._box is not None:
            self._box.resume(self._core.clock.monotonic())

    def eof_received(self) -> None:
        self._conn.receive_eof()
        self._write_protocol()

    def data_received(self, data: bytes) -> None:
        try:
            self._received(data)
        except Exception as error:  # one connection's fault must not reach the others
            logs.log("gateway").error("connection failed", peer=self._address, error=logs.clean(repr(error)))
            self._close_now(1011, "server fault")
            if self._session is None:
                self._transport.abort()

    def _received(self, data: bytes) -> None:
        # In pieces: what is not read yet when the connection has to end need not be taken apart.
        for start in range(0, len(data), _PIECE):
            self._conn.receive_data(data[start : start + _PIECE])
            self._events()
            if self._late > _LATE:
                self._transport.abort()
                return
        partial = bool(self._fragments) or bool(self._conn.reader.buffer)
        if not partial:
            self._partial_at = None
        elif self._partial_at is None:
            self._partial_at = self._core.clock.monotonic()

    def _events(self) -> None:
        events = self._conn.events_received()
        if self._code is not None:
            # Only the peer's close frame is waited for, and not behind any number of others.
            self._late += len(events)
            events = []
        for event in events:
            if isinstance(event, Request):
                self._handshake(event)
            elif isinstance(event, Frame):
                self._frame(event)
            if self._code is not None:
                break
            if not self._fragments:
                self._partial_at = None
        self._write_protocol()

    # --- handshake --------------------------------------------------------------------------------

    def _handshake(self, request: Request) -> None:
        refusal = self._refusal(request)
        if refusal is None:
            response = self._conn.accept(request)
            self._conn.send_response(response)
            if response.status_code == http.HTTPStatus.SWITCHING_PROTOCOLS:
                self._open(request)
                return
        else:
            self._conn.send_response(refusal)
            REFUSED.labels(str(refusal.status_code)).inc()
            if self._core.refusals.take(self._core.clock.monotonic()):
                logs.log("gateway").info("refused", peer=self._address, status=refusal.status_code)
        self._release()

    def _release(self) -> None:
        if self._admitted:
            self._admitted = False
            self._core.admission.leave(self._address)
        if self._grant is not None and self._session is None:
            assert self._core.tokens is not None
            self._core.tokens.let_go(self._grant)
            self._grant = None

    def _refusal(self, request: Request) -> Response | None:
        """Why this client may not come in, as the HTTP answer; cheap checks first."""
        status = http.HTTPStatus
        path, _, query = request.path.partition("?")
        if self._core.draining:
            return self._reject(status.SERVICE_UNAVAILABLE, "going away", retry_s=5)
        if path != _PATH:
            return self._reject(status.NOT_FOUND, "the WebSocket is at /ws")
        hosts = request.headers.get_all("Host")
        if len(hosts) != 1 or not self._core.access.host(hosts[0]):
            return self._reject(status.MISDIRECTED_REQUEST, "unknown Host")
        origins = request.headers.get_all("Origin")
        if origins and not (len(origins) == 1 and self._core.access.origin(origins[0], hosts[0])):
            return self._reject(status.FORBIDDEN, "Origin not allowed")
        if query and any(part.split("=")[0].lower() == "token" for part in query.split("&")):
            return self._reject(status.BAD_REQUEST, "a token does not belong in the address")
        if self._core.overload.busy:
            return self._reject(status.SERVICE_UNAVAILABLE, "overloaded", retry_s=2)
        forwarded = request.headers.get_all("X-Forwarded-For")
        self._address = client_address(self._address, forwarded, self._core.access.proxies)
        why = self._core.admission.admit(self._address, self._core.clock.monotonic())
        if why is not None:
            return self._reject(status.SERVICE_UNAVAILABLE, why, retry_s=1)
        self._admitted = True
        tokens, token = self._core.tokens, _bearer(request)
        if tokens is not None and token is not None:
            grant = tokens.find(token, self._core.clock.now_us())
            if grant is not None and not tokens.hold(grant, self._core.limits.ws_per_token):
                return self._reject(status.SERVICE_UNAVAILABLE, "too many connections of this token", 1)
            self._grant = grant
        return None

    def _reject(self, status: http.HTTPStatus, text: str, retry_s: int | None = None) -> Response:
        response = self._conn.reject(status, text + "\n")
        if retry_s is not None:
            response.headers["Retry-After"] = str(retry_s)
        return response

    def _open(self, request: Request) -> None:
        core = self._core
        self._write_protocol()
        if core.tokens is not None and _bearer(request) is not None and self._grant is None:
            logs.log("gateway").info("auth", peer=self._address, accepted=False)
            self._close_now(4401, "token unknown or expired")
            self._release()
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            # What a stopped reader can tie up is this, the transport's and the outbox's limit together. What
            # its window has no room for stays where it can still be dropped; what is on its way may be more.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, core.limits.ws_send_buffer_bytes)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, core.limits.ws_unsent_bytes)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        session = Session(core.hub, core.limits, core.tokens, core.clock, core.greeting)
        self._box = Outbox(self._transport, core.wakeup, session, core.limits, core.clock.monotonic())
        self._session = session
        self._slot = core.enter(self)
        CLIENTS.inc()
        logs.log("gateway").info(
            "connected", connection=session.name, peer=self._address, token=self._grant is not None
        )
        session.open(self, self._box, self._grant)

    # --- frames in --------------------------------------------------------------------------------

    def _frame(self, frame: Frame) -> None:
        session = self._session
        if session is None or session.ended:
            return
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._text = frame.opcode is Opcode.TEXT
            if not self._text:
                self._close_now(1003, "text frames only")
                return
            self._piece(session, frame)
        elif frame.opcode is Opcode.CONT:
            self._piece(session, frame)
        elif frame.opcode is Opcode.PING:
            session.control_frame()
        elif frame.opcode is Opcode.PONG:
            session.pong(bytes(frame.data))
        elif frame.opcode is Opcode.CLOSE:
            session.end()

    def _piece(self, session: Session, frame: Frame) -> None:
        self._fragments.append(bytes(frame.data))
        if not frame.fin:
            if len(self._fragments) >= self._core.limits.ws_fragments:
                self._close_now(1002, "too many fragments")
            return
        message = b"".join(self._fragments)
        self._fragments.clear()
        try:
            message.decode()
        except UnicodeDecodeError:
            self._close_now(1007, "not UTF-8")
            return
        session.receive(message)

    # --- frames out -------------------------------------------------------------------------------

    def _write_protocol(self) -> None:
        """What the sans-I/O protocol wants written: handshake, pongs, close frames, end of stream."""
        for data in self._conn.data_to_send():
            if data:
                self._put(data)
            else:
                self._end_of_stream()

    def _put(self, data: bytes) -> None:
        box = self._box
        if box is None or box.closed:
            if not self._transport.is_closing():
                self._transport.write(data)
        elif self._conn.state is State.OPEN:
            box.send(Control(data))
        else:
            # A close frame: nothing may come after it, and what waits for a slow reader is not waited for.
            box.flush_for_close(self._core.clock.monotonic())
            box.close()
            self._transport.write(data)

    def _end_of_stream(self) -> None:
        if self._session is not None:
            self._session.end()
        if not self._transport.is_closing():
            self._transport.close()
        self._cut_later()

    def _cut_later(self) -> None:
        """A peer that does not read cannot hold the socket open."""
        if self._deadline is None:
            self._deadline = self._loop.call_later(_CLOSE_S, self._transport.abort)

    def _close_now(self, code: int, reason: str) -> None:
        if self._code is not None or self._conn.state is not State.OPEN:
            return
        self._code = code
        self._conn.send_close(code, reason)
        self._write_protocol()
        if self._session is not None:
            self._session.end()
        self._cut_later()

    # --- Wire, for the session --------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Flush, send a close frame, take nothing more."""
        self._close_now(code, reason)

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        if self._conn.state is State.OPEN:
            self._conn.send_ping(payload)
            self._write_protocol()

    def hold(self) -> None:
        """Leave what the client sends in its socket."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again; what the client could not finish meanwhile has its time anew."""
        if self._partial_at is not None:
            self._partial_at = self._core.clock.monotonic()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # --- the service's and uvicorn's --------------------------------------------------------------

    def check(self, now: float) -> None:
        """Deadlines of the connection and its session."""
        held = self._session is not None and self._session.held
        partial_at = None if held else self._partial_at
        if partial_at is not None and now - partial_at > self._core.limits.ws_frame_s:
            self._close_now(1002, "message not finished in time")
            return
        if self._session is not None and not self._session.ended:
            try:
                self._session.check(now)
            except Exception as error:  # one connection's fault must not reach the others
                self._session.broken(error)

    def backlog(self) -> int:
        """Bytes that wait for this client outside the kernel."""
        return 0 if self._box is None else self._box.backlog()

    def goodbye(self, in_ms: int, jitter_ms: int) -> None:
        """Tell the client that the gateway stops."""
        if self._session is not None and not self._session.ended:
            self._session.say_goodbye(in_ms, jitter_ms)

    def shutdown(self) -> None:
        """uvicorn stops."""
        if self._session is None:
            self._transport.close()
        else:
            self._close_now(1012, "restart")


_COUNTED = frozenset(
    {1000, 1001, 1002, 1003, 1005, 1006, 1007, 1009, 1011, 1012, 1013}
    | {4400, 4401, 4403, 4408, 4429, 4490, 4491}
)
"""Close codes that get their own label; a client may send any number it likes."""


def _bearer(request: Request) -> str | None:
    values = request.headers.get_all("Authorization")
    if len(values) != 1:
        return None
    scheme, _, token = values[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
