"""Which question: what does a message cost its reader, and how late is it, when it is handled in the turn in
which it was read, beside the way through the client's queue (`bus/reader.py`)?

`python benches/bus.py [--quick]`. One process publishes 340 bytes at a time, four at once; this one reads
them over a real NATS server, both ways in turn. Prints medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time

import uvloop

from machine import machine
from wup import servers
from wup.bus import Message, NatsBus, reader

_AT_ONCE = 4


async def publish(url: str, count: int) -> None:
    """The other process."""
    bus = await NatsBus.connect(url)
    for number in range(count):
        bus.publish("bench", b"%d " % time.time_ns() + b"x" * 320)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0.001)
    await bus.flush()
    await bus.close()


async def read(url: str, count: int) -> tuple[float, float, float]:
    """Processor time a message, p50 and p99 from publishing to handling; all in microseconds."""
    bus = await NatsBus.connect(url)
    late: list[int] = []
    done = asyncio.Event()

    def handle(message: Message) -> None:
        late.append(time.time_ns() - int(message.payload.partition(b" ")[0]))
        if len(late) == count:
            done.set()

    await bus.subscribe("bench", handle)
    command = [sys.executable, __file__, "--publish", url, "--count", str(count)]
    process = await asyncio.create_subprocess_exec(*command)
    before = time.process_time()
    async with asyncio.timeout(60):
        await done.wait()
    spent = time.process_time() - before
    await process.wait()
    await bus.close()
    late.sort()
    return 1e6 * spent / count, late[count // 2] / 1e3, late[count * 99 // 100] / 1e3


async def main(count: int, rounds: int) -> None:
    """Both ways, alternating."""
    print(machine())
    direct = reader.PER_TURN
    found: dict[int, list[tuple[float, float, float]]] = {0: [], direct: []}
    async with servers.embedded_nats() as url:
        for _ in range(rounds):
            for per_turn, results in found.items():
                reader.PER_TURN = per_turn
                results.append(await read(url, count))
    for per_turn, results in found.items():
        cpu, p50, p99 = (statistics.median(column) for column in zip(*results, strict=True))
        way = "in the turn it was read" if per_turn else "through the queue"
        print(f"{way:24} {cpu:5.1f} us of the processor a message, p50 {p50:5.0f} us, p99 {p99:5.0f} us")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one short round: for CI")
    parser.add_argument("--publish", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = arguments.count or (1_000 if arguments.quick else 20_000)
    if arguments.publish:
        asyncio.run(publish(arguments.publish, size))
    else:
        uvloop.run(main(size, 1 if arguments.quick else 5))
