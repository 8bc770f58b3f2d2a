"""What an outbox gives to the kernel itself, past its transport: the same bytes in the same order."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from wup.gateway.frame import Frame
from wup.gateway.limits import Limits
from wup.gateway.outbox import Outbox, Wakeup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wup.gateway.stream import Stream


class Wire:
    """A transport that keeps what it is given, and the owner of an outbox."""

    def __init__(self) -> None:
        self.given = b""
        self.waiting = 0
        self.closing = False
        self.faults: list[Exception] = []

    def write(self, data: bytes) -> None:
        self.given += data

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.closing

    def slow(self, streams: list[Stream]) -> None:
        raise AssertionError(streams)

    def broken(self, error: Exception) -> None:
        self.faults.append(error)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection, neither of which blocks."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


async def send(box: Outbox, wakeup: Wakeup, *frames: bytes) -> None:
    """Book messages of one turn, as the fan-out puts them."""
    for data in frames:
        box.put(Frame(data, None, len(data), 0.0))  # type: ignore[arg-type]
    wakeup.run()


def setup(sock: socket.socket) -> tuple[Wire, Wakeup, Outbox]:
    wire = Wire()
    wakeup = Wakeup(asyncio.get_running_loop(), lambda: 0.0)
    return wire, wakeup, Outbox(wire, wakeup, wire, Limits(), 0.0, sock.fileno())


async def test_a_free_socket_gets_the_frames_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """With nothing waiting in the transport, the kernel has all frames of a turn when the turn is over."""
    wire, wakeup, box = setup(pair[0])
    await send(box, wakeup, b"one", b"two")
    await send(box, wakeup, b"three")
    assert pair[1].recv(100) == b"onetwothree"
    assert (wire.given, box.count) == (b"", 3)


@pytest.mark.parametrize("why", ["waiting", "closing"])
async def test_never_past_what_waits_nor_into_a_closed_transport(
    pair: tuple[socket.socket, socket.socket], why: str
) -> None:
    """While the transport holds bytes, frames go behind them; one that closes gets them, for its descriptor
    may be another connection's by now."""
    wire, wakeup, box = setup(pair[0])
    setattr(wire, why, 1)
    await send(box, wakeup, b"one")
    assert wire.given == b"one"
    with pytest.raises(BlockingIOError):
        pair[1].recv(100)


async def test_what_the_kernel_does_not_take_goes_to_the_transport(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """A full socket takes a part or nothing: the rest, and only the rest, waits in the transport."""
    wire, wakeup, box = setup(pair[0])
    sent = b""
    while not wire.given:
        frame = bytes([65 + len(sent) % 26]) * 50_001
        sent += frame
        await send(box, wakeup, frame)
    got = b""
    while len(got) < len(sent) - len(wire.given):
        got += pair[1].recv(1_000_000)
    assert got + wire.given == sent
    assert not wire.faults


async def test_a_dead_socket_is_the_transports_to_find(pair: tuple[socket.socket, socket.socket]) -> None:
    """Writing to a connection that is gone raises nothing: the transport gets the bytes, and the news."""
    wire, wakeup, box = setup(pair[0])
    pair[1].close()
    await send(box, wakeup, b"one")
    assert (wire.given, wire.faults) == (b"one", [])
