"""One client's conversation (wire.md section 4): who it is, what it may, how long. No sockets here."""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from wup import logs
from wup.bucket import Bucket
from wup.gateway import protocol
from wup.gateway.frame import control
from wup.gateway.operations import Operations
from wup.gateway.protocol import Fault, Op
from wup.gateway.reading import Reading
from wup.metrics import FAULTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.clock import Clock
    from wup.gateway.chores import Work
    from wup.gateway.hub import Hub
    from wup.gateway.limits import Limits
    from wup.gateway.outbox import Outbox
    from wup.gateway.pattern import Pattern
    from wup.gateway.stream import Stream
    from wup.gateway.tokens import Grant, Tokens

_BAD_MESSAGES = 20
_BAD_WINDOW_S = 10.0
_RATE_WINDOW_S = 10.0
_HEARTBEAT_ANYWAY_S = 5.0
_NOTICE_S = 1.0
_BYTES_A_BOOK = 256  # reading so much of a message takes as long as looking at one book


class Wire(Protocol):
    """The connection under a session."""

    def close(self, code: int, reason: str) -> None:
        """Flush, send a close frame, end."""
        ...

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        ...

    def hold(self) -> None:
        """Read nothing more for now."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...


class Session:
    """State of one connection: who it is, what it asked for, when it was last heard.

    Messages are dealt with one after the other, each in pieces (`chores`): what comes meanwhile waits here,
    and when that is as much as one message may be, in the client's own socket.
    """

    def __init__(
        self,
        hub: Hub,
        limits: Limits,
        tokens: Tokens | None,
        clock: Clock,
        greeting: Mapping[str, object] | None = None,
    ) -> None:
        self.name = f"c-{secrets.token_hex(4)}"
        self._chores = hub.chores
        self._limits = limits
        self._tokens = tokens
        self._clock = clock
        self._greeting = greeting or {}
        now = clock.monotonic()
        self._opened = now
        self._heartbeat_at = now
        self._grant: Grant | None = None
        self._reading = Reading(hub, limits, self._left_out)
        self._operations = Operations(hub, limits, self._reading, self._reply, self._allows)
        self._inbox: deque[tuple[bytes, bool]] = deque()
        self._inbox_bytes = 0
        self._busy = False
        self._answered = False
        self.held = False
        self._bucket = Bucket(limits.ws_rate, limits.ws_burst, now)
        self._over_rate_at: float | None = None
        self._over_rate = 0
        self._bad: deque[float] = deque(maxlen=_BAD_MESSAGES)
        self._slow_noticed = 0.0
        self._slow_books = 0
        self._left_out_noticed = 0.0
        self._pinged_at = now
        self._ping: bytes | None = None
        self.ended = False
        self.box: Outbox
        self._wire: Wire

    # --- life -------------------------------------------------------------------------------------

    def open(self, wire: Wire, box: Outbox, grant: Grant | None) -> None:
        """The connection is up: greet."""
        self._wire = wire
        self.box = self._reading.box = self._operations.box = box
        self._grant = grant  # counted by the connection already
        limits = self._limits
        self._say(
            {
                "type": "welcome",
                "protocol": "wup.v1",
                "connection": self.name,
                "heartbeat_ms": limits.ws_heartbeat_ms,
                "limits": {
                    "message_bytes": limits.ws_message_bytes,
                    "patterns": limits.ws_patterns,
                    "books": limits.ws_books,
                    "rate": limits.ws_rate,
                },
                "ts": self._clock.now_us(),
                **self._greeting,
            }
        )

    def end(self) -> None:
        """The connection is gone: leave every stream."""
        if self.ended:
            return
        self.ended = True
        self._inbox.clear()
        self.box.close()
        self._chores.begin(self._reading.end_all())
        if self._tokens is not None and self._grant is not None:
            self._tokens.let_go(self._grant)

    def say_goodbye(self, in_ms: int, jitter_ms: int) -> None:
        """The gateway stops."""
        self._say({"type": "notice", "code": "going_away", "in_ms": in_ms, "jitter_ms": jitter_ms})

    def _say(self, message: dict[str, Any]) -> None:
        self.box.send(control(message))

    # --- what the client sends --------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """One text message: dealt with at once, or after those before it."""
        allowed = self._within_rate(self._clock.monotonic())
        if self.ended:
            return
        self._inbox.append((data, allowed))
        self._inbox_bytes += len(data)
        if not self._busy:
            self._busy = True
            self._chores.begin(self._answer_all())
        if self._inbox_bytes >= self._limits.ws_message_bytes and not self.held:
            self.held = True
            self._wire.hold()

    def _answer_all(self) -> Work:
        while self._inbox:
            data, allowed = self._inbox.popleft()
            self._inbox_bytes -= len(data)
            yield 1 + len(data) // _BYTES_A_BOOK
            if not self.ended:
                try:
                    yield from self._answer(data, allowed)
                except Exception as error:
                    # Nothing would read this client any more.
                    self.broken(error)
                    return
        self._inbox_bytes = 0
        self._busy = False
        if self.held:
            self.held = False
            # Its pong may have come while nobody looked.
            self._pinged_at = self._clock.monotonic()
            self._wire.resume()

    def _answer(self, data: bytes, allowed: bool) -> Work:
        """Deal with one message: one answer, whatever goes wrong."""
        op: Op | None = None
        self._answered = False
        try:
            op = protocol.parse(data, self._limits.ws_json_depth)
            if not allowed:
                raise Fault("rate_limited", f"more than {self._limits.ws_rate} messages a second")
            work = self._run(op)
            for done in work:
                yield done
                if self.ended:
                    work.close()
                    return
        except Fault as fault:
            if op is not None:
                fault.id = op.id
            self._fail(fault)
            self._judge(fault, self._clock.monotonic())
        except Exception as error:
            if self._answered:
                self.broken(error)
                return
            logs.log("gateway").error("operation failed", connection=self.name, error=logs.clean(repr(error)))
            failure = Fault("internal", "the server failed to do this")
            failure.id = None if op is None else op.id
            self._fail(failure)

    def _reply(self, message: dict[str, Any]) -> None:
        """The one answer to what is being dealt with."""
        self._answered = True
        self._say(message)

    def _fail(self, fault: Fault) -> None:
        """The one answer, an error."""
        FAULTS.labels(fault.code).inc()
        self._reply(fault.answer())

    def control_frame(self) -> None:
        """A ping or pong of the client's own accord costs as much as a message."""
        self._within_rate(self._clock.monotonic())

    def pong(self, payload: bytes) -> None:
        """The answer to our ping, or an unasked one."""
        if payload == self._ping:
            self._ping = None
        else:
            self.control_frame()

    def _within_rate(self, now: float) -> bool:
        if self._bucket.take(now):
            return True
        first = self._over_rate_at
        self._over_rate += 1
        if first is None or now - first > _RATE_WINDOW_S:
            self._over_rate_at = now
            self._over_rate = 1
        elif now - first > 1.0 / self._limits.ws_rate or self._over_rate > self._limits.ws_burst:
            # A burst read at one go counts once, unless it is two of them: the client had the time of one
            # message to stop.
            self._close(4429, "message rate")
        return False

    def _judge(self, fault: Fault, now: float) -> None:
        if fault.code not in protocol.BAD_MESSAGE:
            return
        self._bad.append(now)
        if len(self._bad) == _BAD_MESSAGES and now - self._bad[0] <= _BAD_WINDOW_S:
            self._close(4400, "too many bad messages")

    def _close(self, code: int, reason: str) -> None:
        self._wire.close(code, reason)

    def _run(self, op: Op) -> Work:
        if op.name == "ping":
            self._reply({"type": "pong", "id": op.id, "ts": self._clock.now_us()})
        elif op.name == "auth":
            self._auth(op)
        elif self._tokens is not None and self._grant is None:
            raise Fault("unauthorized", "authenticate first")
        elif self._in_force():
            yield from self._operations.run(op)

    def _auth(self, op: Op) -> None:
        now_us = self._clock.now_us()
        if self._tokens is None:
            self._reply({"type": "authenticated", "id": op.id, "scopes": [">"], "expires": None})
            return
        grant = self._tokens.find(op.token, now_us)
        logs.log("gateway").info("auth", connection=self.name, accepted=grant is not None)
        if grant is None:
            self._refuse(op, "unauthorized", "token unknown or expired", 4401)
            return
        if not all(grant.allows(held.pattern) for held in self._reading.subscriptions.values()):
            raise Fault("forbidden", "the new token does not cover what is subscribed")
        if not self._tokens.hold(grant, self._limits.ws_per_token):
            self._refuse(op, "rate_limited", "too many connections of this token", 1013)
            return
        if self._grant is not None:
            self._tokens.let_go(self._grant)
        self._grant = grant
        self._reply(
            {"type": "authenticated", "id": op.id, "scopes": list(grant.scopes), "expires": grant.expires}
        )

    def _refuse(self, op: Op, code: str, why: str, close: int) -> None:
        fault = Fault(code, why)
        fault.id = op.id
        self._fail(fault)
        self._close(close, why)

    def _allows(self, pattern: Pattern) -> bool:
        """Does the token cover this?"""
        return self._grant is None or self._grant.allows(pattern)

    def _left_out(self) -> None:
        """A book that began to match is one too many."""
        now = self._clock.monotonic()
        if now - self._left_out_noticed >= _NOTICE_S:
            self._left_out_noticed = now
            self._say({"type": "notice", "code": "books_limit", "books": self._limits.ws_books})

    # --- the outbox's owner -----------------------------------------------------------------------

    def slow(self, streams: list[Stream]) -> None:
        """Deltas of these streams were dropped."""
        lost = set(streams)
        if any(
            subscription.options.disconnect and not lost.isdisjoint(subscription.streams)
            for subscription in self._reading.subscriptions.values()
        ):
            self._close(4490, "slow reader")
            return
        self._slow_books += len(streams)
        now = self._clock.monotonic()
        if now - self._slow_noticed >= _NOTICE_S:
            self._slow_noticed = now
            self._say({"type": "notice", "code": "slow", "books": self._slow_books})
            self._slow_books = 0

    def broken(self, error: Exception) -> None:
        """Writing to this client failed by a fault of ours."""
        logs.log("gateway").error("connection failed", connection=self.name, error=logs.clean(repr(error)))
        self._close(1011, "server fault")

    # --- time -------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Deadlines, pings, heartbeat and the slow-reader clock; called about four times a second."""
        limits = self._limits
        if self._tokens is not None:
            if self._grant is None:
                if now - self._opened > limits.ws_auth_s:
                    self._close(4408, "no auth")
                    return
            elif not self._in_force():
                return
        # One that is being dealt with, over many turns, may be it.
        if not self._reading.ever and not self._busy and now - self._opened > limits.ws_first_subscribe_s:
            self._close(4408, "no subscribe")
            return
        box = self.box
        if box.stuck(now) or box.flooded():
            self._close(4490, "slow reader")
            return
        if box.paused and box.late(now):
            box.conflate()
            if self.ended:
                return
        self._keep_alive(now)

    def _in_force(self) -> bool:
        """Does the token still allow this? When its entry was changed: go on within the new one, or close."""
        now_us = self._clock.now_us()
        if self._tokens is None or self._grant is None or self._tokens.valid(self._grant, now_us):
            return True
        new = self._tokens.renewed(self._grant, now_us)
        if new is None:
            self._close(4401, "token expired or revoked")
            return False
        if not all(new.allows(held.pattern) for held in self._reading.subscriptions.values()):
            self._close(4403, "the token does not cover what is subscribed any more")
            return False
        self._grant = new
        return True

    def _keep_alive(self, now: float) -> None:
        limits = self._limits
        box = self.box
        box.flush(now)
        quiet = box.idle() and now - box.sent_at >= limits.ws_heartbeat_ms / 1000
        if quiet or now - self._heartbeat_at >= _HEARTBEAT_ANYWAY_S:
            self._heartbeat_at = now
            box.beat(self._clock.now_us(), now)
        if self._ping is None:
            if now - self._pinged_at >= limits.ws_ping_s:
                self._pinged_at = now
                self._ping = secrets.token_bytes(4)
                self._wire.ping(self._ping)
        elif now - self._pinged_at >= limits.ws_pong_s and not self.held:
            self._close(4491, "no pong")
