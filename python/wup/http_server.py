"""uvicorn inside our own event loop: bound before it starts, so that a busy port is a clear error.

uvicorn itself has no deadline for what a client sends or takes; the protocol class here has.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from wup import problem
from wup.errors import PortInUse
from wup.http_guard import HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wup.http_plain import PlainRequests

_START_S = 10.0
_GRACE_S = 5
_KEEP_ALIVE_S = 15
_RECEIVE_S = 5.0
_STUCK_S = 10.0


class Http(H11Protocol):
    """uvicorn's HTTP protocol with deadlines: for a request's head, for its body, for an answer's reader."""

    receive_s = _RECEIVE_S
    stuck_s = _STUCK_S
    plain: PlainRequests | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._left = 0
        self._stuck: asyncio.TimerHandle | None = None
        self._late: asyncio.TimerHandle | None = self.loop.call_later(self.receive_s, self._cut)

    def data_received(self, data: bytes) -> None:
        if self.plain is not None and self._nothing_before():
            answer = self.plain.answer(data, self.client, self.server_state.default_headers)
            if answer is not None:
                self._stop_late()
                self.transport.write(answer)
                self.on_response_complete()
                return
        super().data_received(data)
        if self.transport.get_protocol() is not self or self.transport.is_closing():
            self._stop_late()
            return
        head = self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
        if not head and self.conn.their_state is not h11.SEND_BODY:
            self._stop_late()
        elif self._late is None:
            self._late = self.loop.call_later(self.receive_s, self._cut)

    def _nothing_before(self) -> bool:
        """Is no request under way, none half read, and every answer taken?"""
        conn = self.conn
        return (
            conn.our_state is h11.IDLE
            and conn.their_state is h11.IDLE
            and not conn.trailing_data[0]
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def send_400_response(self, msg: str) -> None:
        """An error of the request's form, as a problem document; h11 knows the fitting status."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        answer = problem.problem(status, msg)
        headers = [*answer.raw_headers, (b"connection", b"close"), (b"x-content-type-options", b"nosniff")]
        for event in (
            h11.Response(status_code=status, headers=headers, reason=b""),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._left = self.transport.get_write_buffer_size()
        self._stuck = self.loop.call_later(self.stuck_s, self._look)

    def resume_writing(self) -> None:
        self._stop_stuck()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_late()
        self._stop_stuck()
        super().connection_lost(exc)

    def _look(self) -> None:
        """The reader of an answer is slow: is it reading at all?"""
        left = self.transport.get_write_buffer_size()
        if left >= self._left:
            self.transport.abort()
            return
        self._left = left
        self._stuck = self.loop.call_later(self.stuck_s, self._look)

    def _cut(self) -> None:
        self._late = None
        if self.transport.get_protocol() is self and not self.transport.is_closing():
            self.transport.close()

    def _stop_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _stop_stuck(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


class _Server(uvicorn.Server):
    """Leaves the process's signals alone (the command line owns them), and tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket.

    Raises:
        PortInUse: the port is taken; the error names `setting`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, or asyncio does not see that what it accepts is TCP and leaves Nagle's algorithm on.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(setting, host, port) from None
        raise
    listener.listen(2048)
    listener.setblocking(False)
    return listener


class HttpServer:
    """One ASGI application on one port.

    Args:
        app: the application.
        setting: the setting that names the port, for the error of a busy one.
        receive_s: a request's head, and then its body, must have come by then.
        plain: answers plain requests without `app`.
        options: further `uvicorn.Config` options.
    """

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        setting: str,
        *,
        receive_s: float = _RECEIVE_S,
        plain: PlainRequests | None = None,
        **options: Any,
    ) -> None:
        self._app = app
        self._host = host
        self._wanted = port
        self._setting = setting
        self._http = type("Http", (Http,), {"receive_s": receive_s, "plain": plain})
        self._options = {"ws": "none", **options}
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.port = port

    @property
    def addresses(self) -> list[str]:
        """The addresses that are listened on."""
        servers = [] if self._server is None else self._server.servers
        return [str(sock.getsockname()[0]) for server in servers for sock in server.sockets]

    async def start(self) -> None:
        """Listen; returns when requests are answered.

        Raises:
            PortInUse: the port is taken.
        """
        listener = bind(self._host, self._wanted, self._setting)
        self.port = int(listener.getsockname()[1])
        config = uvicorn.Config(
            self._app,
            http=self._http,
            log_config=None,
            # A warning for each bad request is a line for each that a stranger wants written.
            log_level="error",
            access_log=False,
            lifespan="off",
            server_header=False,
            # Who the client is behind a proxy is for `wup.access` to say.
            proxy_headers=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
            **self._options,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name=f"http-{self._setting}")
        up = asyncio.create_task(self._server.up.wait())
        done, _ = await asyncio.wait({up, self._task}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        if up not in done:
            up.cancel()
            listener.close()
            raise RuntimeError(f"the server of {self._setting} did not start")

    async def stop(self) -> None:
        """Finish running requests and close every connection; returns within seconds."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        done, _ = await asyncio.wait({self._task}, timeout=_GRACE_S + 3)
        if not done:
            self._server.force_exit = True
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._server = None
        self._task = None
