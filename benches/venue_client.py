"""Which client for the venue sockets: from a frame sent to the callback called, and the processor per frame?

A server in a process of its own sends frames of a venue's usual size at a steady rate; each client reads them
on uvloop, as the aggregator runs. `python benches/venue_client.py --seconds 5 --rates 1000,5000`.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from machine import machine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FRAME_BYTES = 600
"""One change of a Polymarket book, both tokens named (a Kalshi delta has 270)."""
STAMP_BYTES = 20


class Heard:
    """Latencies of the frames read, nanoseconds; the clock is the machine's, the same in both processes."""

    def __init__(self) -> None:
        self.late: list[int] = []

    def __call__(self, raw: bytes) -> None:
        self.late.append(time.perf_counter_ns() - int(raw[:STAMP_BYTES]))


def framed(payload: bytes) -> bytes:
    """A text frame as a server sends it (RFC 6455: no mask)."""
    return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload


async def send(socket: ServerConnection) -> None:
    """On `rate seconds`: that many frames a second, each with the time at which it left."""
    with_stamp = b" " * (FRAME_BYTES - STAMP_BYTES)
    try:
        async for order in socket:
            rate, seconds = (float(part) for part in str(order).split())
            start, sent, total = time.perf_counter(), 0, round(rate * seconds)
            while sent < total:
                due = min(total, int((time.perf_counter() - start) * rate) + 1)
                while sent < due:
                    stamp = b"%020d" % time.perf_counter_ns()
                    socket.transport.write(framed(stamp + with_stamp))
                    sent += 1
                await asyncio.sleep(max(0.0, start + (sent + 0.5) / rate - time.perf_counter()))
            await socket.close()
    except ConnectionClosed:
        return


async def server() -> None:
    async with serve(send, "127.0.0.1", 0, compression=None, ping_interval=None) as running:
        print(next(iter(running.sockets)).getsockname()[1], flush=True)
        await running.serve_forever()


async def with_websockets(url: str, order: str, heard: Heard) -> None:
    async with connect(url, compression=None, max_queue=4096, ping_interval=None) as socket:
        await socket.send(order)
        try:
            while True:
                heard(await socket.recv(decode=False))
        except ConnectionClosed:
            return


class Listener(WSListener):
    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.heard(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()


async def with_picows(url: str, order: str, heard: Heard) -> None:
    transport, _ = await ws_connect(lambda: Listener(heard), url)
    transport.send(WSMsgType.TEXT, order.encode())
    await transport.wait_disconnected()


CLIENTS: dict[str, Callable[[str, str, Heard], Awaitable[None]]] = {
    "websockets": with_websockets,
    "picows": with_picows,
}


async def one(name: str, url: str, rate: int, seconds: float) -> tuple[list[int], float]:
    """Sorted latencies, and processor microseconds per frame."""
    heard = Heard()
    used = time.process_time()
    await CLIENTS[name](url, f"{rate} {seconds}", heard)
    used = time.process_time() - used
    return sorted(heard.late), used / len(heard.late) * 1e6


async def main(rates: list[int], seconds: float, rounds: int) -> None:
    print(machine())
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = f"ws://127.0.0.1:{process.stdout.readline().strip()}/"
    try:
        for rate in rates:
            for name in list(CLIENTS) * rounds:
                late, used = await one(name, url, rate, seconds)
                p50, p99 = (late[int(q * (len(late) - 1))] / 1000 for q in (0.5, 0.99))
                print(
                    f"{rate:>6} frames/s  {name:<10} p50 {p50:6.0f} us  p99 {p99:6.0f} us  "
                    f"{used:6.2f} us of processor a frame  ({len(late)} frames)",
                    flush=True,
                )
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rates", default="1000,5000")
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    if chosen.serve:
        uvloop.run(server())
    else:
        uvloop.run(main([int(rate) for rate in chosen.rates.split(",")], chosen.seconds, chosen.rounds))
