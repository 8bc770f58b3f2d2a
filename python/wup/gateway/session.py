"""One client's conversation (wire.md section 4): operations in, answers out. No sockets here."""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from wup import logs
from wup.bucket import Bucket
from wup.gateway import pattern as patterns
from wup.gateway import protocol
from wup.gateway.frame import control
from wup.gateway.protocol import Fault, Op, Options
from wup.gateway.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wup.clock import Clock
    from wup.gateway.hub import Hub
    from wup.gateway.limits import Limits
    from wup.gateway.mirrored import MirroredBook
    from wup.gateway.outbox import Outbox
    from wup.gateway.pattern import Pattern
    from wup.gateway.stream import Stream
    from wup.gateway.tokens import Grant, Tokens

_BAD_MESSAGES = 20
_BAD_WINDOW_S = 10.0
_RATE_WINDOW_S = 10.0
_HEARTBEAT_ANYWAY_S = 5.0
_PAGE = 500
_NOTICE_S = 1.0


class Wire(Protocol):
    """The connection under a session."""

    def close(self, code: int, reason: str) -> None:
        """Flush, send a close frame, end."""
        ...

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        ...


class Session:
    """State of one connection: who it is, what it reads, what it is owed."""

    def __init__(
        self,
        hub: Hub,
        limits: Limits,
        tokens: Tokens | None,
        clock: Clock,
        greeting: Mapping[str, object] | None = None,
    ) -> None:
        self.name = f"c-{secrets.token_hex(4)}"
        self._hub = hub
        self._limits = limits
        self._tokens = tokens
        self._clock = clock
        self._greeting = greeting or {}
        now = clock.monotonic()
        self._opened = now
        self._heartbeat_at = now
        self._grant: Grant | None = None
        self._subscribed_once = False
        self._reading = Reading(hub, limits, self._left_out)
        self._bucket = Bucket(limits.ws_rate, limits.ws_burst, now)
        self._over_rate_at: float | None = None
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
        self.box = self._reading.box = box
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
        self._reading.end_all()
        self.box.close()
        if self._tokens is not None and self._grant is not None:
            self._tokens.let_go(self._grant)

    def say_goodbye(self, in_ms: int, jitter_ms: int) -> None:
        """The gateway stops."""
        self._say({"type": "notice", "code": "going_away", "in_ms": in_ms, "jitter_ms": jitter_ms})

    def _say(self, message: dict[str, Any]) -> None:
        self.box.send(control(message))

    # --- what the client sends --------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """One text message."""
        now = self._clock.monotonic()
        allowed = self._within_rate(now)
        if self.ended:
            return
        op_id: str | None = None
        try:
            op = protocol.parse(data, self._limits.ws_json_depth)
            op_id = op.id
            if not allowed:
                raise self._fault(op, "rate_limited", f"more than {self._limits.ws_rate} messages a second")
            self._run(op)
        except Fault as fault:
            self._say(fault.answer())
            self._judge(fault, now)
        except Exception as error:
            logs.log("gateway").error("operation failed", connection=self.name, error=logs.clean(repr(error)))
            failure = Fault("internal", "the server failed to do this")
            failure.id = op_id
            self._say(failure.answer())

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
        if first is None or now - first > _RATE_WINDOW_S:
            self._over_rate_at = now
        elif now - first > 1.0 / self._limits.ws_rate:
            # A burst read at one go counts once; the client had the time of one message to stop.
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

    def _run(self, op: Op) -> None:
        if op.name == "ping":
            self._say({"type": "pong", "id": op.id, "ts": self._clock.now_us()})
            return
        if op.name == "auth":
            self._auth(op)
            return
        if self._tokens is not None and self._grant is None:
            raise self._fault(op, "unauthorized", "authenticate first")
        if not self._in_force():
            return
        if op.name == "subscribe":
            self._subscribe(op)
        elif op.name == "unsubscribe":
            self._unsubscribe(op)
        elif op.name == "resync":
            self._resync(op)
        else:
            self._list(op)

    @staticmethod
    def _fault(op: Op, code: str, message: str, at: int | None = None) -> Fault:
        fault = Fault(code, message, at)
        fault.id = op.id
        return fault

    def _auth(self, op: Op) -> None:
        now_us = self._clock.now_us()
        if self._tokens is None:
            self._say({"type": "authenticated", "id": op.id, "scopes": [">"], "expires": None})
            return
        grant = self._tokens.find(op.token, now_us)
        logs.log("gateway").info("auth", connection=self.name, accepted=grant is not None)
        if grant is None:
            self._say(self._fault(op, "unauthorized", "token unknown or expired").answer())
            self._close(4401, "token unknown or expired")
            return
        if not all(grant.allows(held.pattern) for held in self._reading.subscriptions.values()):
            raise self._fault(op, "forbidden", "the new token does not cover what is subscribed")
        if not self._tokens.hold(grant, self._limits.ws_per_token):
            self._say(self._fault(op, "rate_limited", "too many connections of this token").answer())
            self._close(1013, "too many connections of this token")
            return
        if self._grant is not None:
            self._tokens.let_go(self._grant)
        self._grant = grant
        self._say(
            {"type": "authenticated", "id": op.id, "scopes": list(grant.scopes), "expires": grant.expires}
        )

    def _pattern(self, op: Op, text: str, at: int | None) -> Pattern:
        try:
            pattern = patterns.parse(text)
        except ValueError as error:
            raise self._fault(op, "bad_pattern", str(error), at) from None
        if self._grant is not None and not self._grant.allows(pattern):
            raise self._fault(op, "forbidden", "the token does not cover this", at)
        return pattern

    def _subscribe(self, op: Op) -> None:
        reading = self._reading
        planned: dict[tuple[str, Options], tuple[Pattern, list[MirroredBook]]] = {}
        fresh: set[tuple[str, bool]] = set()
        matched: set[tuple[str, bool]] = set()
        for at, text in enumerate(op.books):
            pattern = self._pattern(op, text, at)
            key = (text, op.options)
            if key in reading.subscriptions or key in planned:
                raise self._fault(op, "already_subscribed", "this pattern is in force already", at)
            if len(reading.subscriptions) + len(planned) >= self._limits.ws_patterns:
                raise self._fault(op, "too_many_patterns", f"limit {self._limits.ws_patterns}", at)
            books = self._hub.find(pattern)
            for book in books:
                matched.add((book.book, pattern.no))
                if not reading.reads(book, pattern, op.options):
                    fresh.add((book.book, pattern.no))
            if not reading.room_for(len(fresh)):
                limit = self._limits.ws_books
                raise self._fault(
                    op, "too_many_books", f"pattern matches {len(books)} books, limit {limit}", at
                )
            planned[key] = (pattern, books)
        self._subscribed_once = True
        self._say({"type": "subscribed", "id": op.id, "books": list(op.books), "matched": len(matched)})
        for (_, options), (pattern, books) in planned.items():
            reading.begin(pattern, options, books)

    def _unsubscribe(self, op: Op) -> None:
        keys: list[tuple[str, Options]] = []
        for at, text in enumerate(op.books):
            found = [
                key
                for key in self._reading.subscriptions
                if key[0] == text and (op.options == Options() or key[1] == op.options) and key not in keys
            ]
            if not found:
                raise self._fault(op, "not_subscribed", "no such pattern in force", at)
            keys.extend(found)
        for key in keys:
            self._reading.end(key)
        self._say({"type": "unsubscribed", "id": op.id, "books": list(op.books)})

    def _resync(self, op: Op) -> None:
        wanted: list[Stream] = []
        for at, text in enumerate(op.books):
            pattern = self._pattern(op, text, at)
            books = self._hub.find(pattern) if pattern.kind != "wild" else []
            held = [stream for book in books for stream in self._reading.streams_of(book, pattern.no)]
            if not held:
                raise self._fault(op, "unknown_book", "not a book of this connection", at)
            wanted.extend(held)
        self._say({"type": "resynced", "id": op.id, "books": list(op.books)})
        for stream in wanted:
            stream.want(self.box, "resync")

    def _list(self, op: Op) -> None:
        pattern = self._pattern(op, op.match, None)
        names = {(book.no_book if pattern.no else book.book): book for book in self._hub.find(pattern)}
        after = op.after
        page = sorted(name for name in names if after is None or name > after)
        more = len(page) > _PAGE
        page = page[:_PAGE]
        self._say(
            {
                "type": "books",
                "id": op.id,
                "books": [
                    {
                        "book": name,
                        "title": names[name].title,
                        "label": names[name].label,
                        "state": names[name].state(),
                    }
                    for name in page
                ],
                "next": page[-1] if more else None,
            }
        )

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
        if not self._subscribed_once and now - self._opened > limits.ws_first_subscribe_s:
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
        if box.idle() and (
            now - box.sent_at >= limits.ws_heartbeat_ms / 1000
            or now - self._heartbeat_at >= _HEARTBEAT_ANYWAY_S
        ):
            self._heartbeat_at = now
            self._say({"type": "heartbeat", "count": box.count, "ts": self._clock.now_us()})
            box.flush(now)
        if self._ping is None:
            if now - self._pinged_at >= limits.ws_ping_s:
                self._pinged_at = now
                self._ping = secrets.token_bytes(4)
                self._wire.ping(self._ping)
        elif now - self._pinged_at >= limits.ws_pong_s:
            self._close(4491, "no pong")
