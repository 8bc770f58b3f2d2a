"""Gateways that break one rule on purpose: `python -m conformance.broken [NAME...]`.

The run of that rule's tests must fail with each of these; one that it does not notice is a hole in the run.
Tests are collected once, then a process is forked for each. Prints a JSON object: name to exit code, output.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Frame

from conformance.rules import RULES
from gateway import raw
from gateway.plain import PlainClient
from wup.gateway.frame import Beat
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
    honest = Beat.frame
    _replace(Beat, "frame", lambda beat, count: honest(beat, count + 1))


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


BREAKS: dict[str, tuple[str, Callable[[], None]]] = {
    "drop_delta": ("4.1a", drop_delta),
    "repeat_delta": ("4.1a", repeat_delta),
    "wrong_count": ("4.4c", wrong_count),
    "skip_digest": ("4.5a", skip_digest),
    "no_snapshot_after_gap": ("4.5c", no_snapshot_after_gap),
    "deltas_while_owed": ("4.6d", deltas_while_owed),
    "answer_without_id": ("4.id", answer_without_id),
    "keep_after_unsubscribe": ("4.op-unsubscribe", keep_after_unsubscribe),
    "accept_reserved_bits": ("close-1002", accept_reserved_bits),
}
"""What is broken, the rule that it breaks, and how."""

AT_ONCE = 3
PLAIN = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


def files(key: str) -> list[str]:
    """Where the tests of a rule are."""
    (rule,) = [rule for rule in RULES if rule.key == key]
    return sorted({f"tests/{test.partition('::')[0]}" for test in rule.tests})


def run(name: str, output: Path) -> int:
    """In a process of its own: break it, and run the rule's tests."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    key, take = BREAKS[name]
    take()
    # What never comes need not be waited for so long.
    PlainClient.until.__defaults__ = (2.0,)
    raw.WAIT_S = 2.0
    return pytest.main([*PLAIN, "-x", f"--rule={key}", *files(key)])


def main(names: list[str]) -> dict[str, tuple[int, str]]:
    """Exit code and output of each."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = os.dup(1)
        os.dup2(2, 1)
        every = sorted({file for name in names for file in files(BREAKS[name][0])})
        pytest.main([*PLAIN, "--collect-only", *every])
        running: dict[int, str] = {}
        ended: dict[str, int] = {}
        waiting = list(names)
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                name = waiting.pop(0)
                process = os.fork()
                if process == 0:
                    code = 99
                    try:
                        code = run(name, Path(folder) / name)
                    finally:
                        sys.stdout.flush()
                        os._exit(code)
                running[process] = name
            process, status = os.wait()
            ended[running.pop(process)] = os.waitstatus_to_exitcode(status)
        sys.stdout.flush()
        os.dup2(quiet, 1)
        return {name: (ended[name], (Path(folder) / name).read_text()) for name in names}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:] or list(BREAKS))))
