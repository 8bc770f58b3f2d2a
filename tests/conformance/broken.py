"""Breaks one rule of the gateway on purpose: `WUP_BREAK=drop_delta pytest -p conformance.broken`.

The conformance run must fail with each of these; one that it does not notice is a hole in the run.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

from websockets.frames import Frame

from gateway import raw
from gateway.plain import PlainClient
from wup.gateway.hub import Hub
from wup.gateway.mirror import Mirrors
from wup.gateway.outbox import Outbox
from wup.gateway.reading import Reading, Subscription
from wup.gateway.session import Session
from wup.gateway.stream import Stream

_turn = itertools.count(1)


def drop_delta() -> None:
    """Each seventh message of a stream reaches nobody."""
    honest = Stream.send
    _replace(Stream, "send", lambda *args: None if next(_turn) % 7 == 0 else honest(*args))


def repeat_delta() -> None:
    """Each seventh message of a stream comes twice."""
    honest = Stream.send

    def send(*args: Any) -> None:
        for _ in range(2 if next(_turn) % 7 == 0 else 1):
            honest(*args)

    _replace(Stream, "send", send)


def wrong_count() -> None:
    """The heartbeat counts one message too many."""
    honest = Session._say

    def say(session: Session, message: dict[str, Any]) -> None:
        wrong = {"count": message["count"] + 1} if message["type"] == "heartbeat" else {}
        honest(session, {**message, **wrong})

    _replace(Session, "_say", say)


def skip_digest() -> None:
    """Changes go on without a look at the mirror."""
    _replace(Mirrors, "_change", lambda self, book, payload: self._listener.changed(book, payload, "delta"))


def no_snapshot_after_gap() -> None:
    """Readers of a lost book are never given another snapshot."""
    _replace(Hub, "restored", lambda *_: None)


def deltas_while_owed() -> None:
    """A reader that is owed a snapshot goes on getting deltas."""
    honest = Outbox.owe

    def owe(box: Outbox, stream: Stream, why: str) -> None:
        honest(box, stream, why)
        stream.readers[box] = None

    _replace(Outbox, "owe", owe)


def answer_without_id() -> None:
    """Answers do not say what they answer."""
    honest = Session._say
    _replace(
        Session,
        "_say",
        lambda self, message: honest(self, {key: message[key] for key in message if key != "id"}),
    )


def keep_after_unsubscribe() -> None:
    """What was unsubscribed goes on."""

    def end(reading: Reading, subscriptions: list[Subscription]) -> Iterator[int]:
        for subscription in subscriptions:
            del reading.subscriptions[subscription.pattern.text, subscription.options]
        yield 1

    _replace(Reading, "end", end)


def accept_reserved_bits() -> None:
    """Frames are not checked."""
    _replace(Frame, "check", lambda *_: None)


def _replace(owner: type, name: str, value: Any) -> None:
    assert name in vars(owner), f"{owner.__name__}.{name} is gone: break the rule another way"
    setattr(owner, name, value)


# What never comes need not be waited for so long.
PlainClient.until.__defaults__ = (2.0,)
raw.WAIT_S = 2.0

globals()[os.environ["WUP_BREAK"]]()
