"""Killing the orderbook service under load: how long until every book is exact again, and was any ever wrong?

`python tests/end_to_end/recovery.py --kills 20 --venue-kills 5` is the long form: 5,006 books, ten thousand
assets. It prints each kill with its times and whether they are within the goals. Exit code: 0 when nothing
was wrong and all goals were met, 1 when anything was wrong or did not come back, 3 when all was right but
some goal was missed (a busy machine does that, so no test asks for it; `make soak` runs it alone, and fails).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benches"))

from machine import machine

# It must not stay: a file there with the name of a folder of tests would hide that folder.
sys.path.remove(str(Path(__file__).parent.parent.parent / "benches"))

from end_to_end.plain import PlainClient
from end_to_end.running import Command, command
from wup import servers
from wup.demo.truth import merged, shown
from wup.demo.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.asyncio.client import ClientConnection

    from wup.demo.truth import Cells

NAMED_BOOKS = 6
"""Books of the simulators' two named events, beside the generated ones."""
PLAIN_PATTERNS = ["fed-2026-12.>", "simload-0000.>"]
"""What the client written against wire.md alone reads: Python's integers are slow."""

_WINDOW_US = 5_000_000
"""A book at the client is this far behind the newest of its venue's messages there at most."""
_STAMP = re.compile(rb'"cause":"([a-z]+).*"ts":\{"venue":(\d+)', re.DOTALL)
_STEP_US = 50_000
_SAMPLE = 500
"""Books compared with the truth after each kill."""
_ASSETS_AT_ONCE = 50

FLAGGED_GOAL_S = 3.0
"""No book is shown as live from before the kill for longer: two of its shard's marks missed, and the next
look."""
BACK_GOALS_S = {"orderbook": 5.0, "aggregator+orderbook": 10.0}
"""All books are exact again: from the normalizers, and from the venues. Both from the kill, process start
included."""


@dataclass
class Kill:
    """One SIGKILL, seconds after it."""

    what: str
    ready_s: float
    """The new process says that it serves."""
    flagged_s: float
    """No book is live at the client any more in the epoch from before."""
    half_s: float
    recovered_s: float
    """Every book is exact and live at the client, in an epoch larger than before."""
    left: int = 0
    """Books that did not come back in time."""

    @property
    def missed(self) -> list[str]:
        """The goals that were not met, in words."""
        found = [f"{self.left} books did not come back"] if self.left else []
        if self.flagged_s > FLAGGED_GOAL_S:
            found.append(f"flagged after more than {FLAGGED_GOAL_S:g} s")
        goal_s = BACK_GOALS_S[self.what]
        if self.recovered_s > goal_s:
            found.append(f"exact after more than {goal_s:g} s")
        return found


@dataclass
class Result:
    """What a run found."""

    books: int
    follow_s: float
    """From the start of the stages until every book was live."""
    kills: list[Kill] = field(default_factory=list)
    checked: int = 0
    """Messages whose digest the clients recomputed."""
    compared: int = 0
    """Legs of books compared with the simulators' true books."""
    late: int = 0
    """Legs that were more than five seconds behind their venue's others, and right five seconds later."""
    behind_s: float = 0.0
    """How far the client was behind the venues at most, when it was compared with them."""
    wrong: list[str] = field(default_factory=list)


class Clients:
    """Two connections that are never opened anew: one verifies digests, counts and truth of everything, the
    other, written against wire.md alone, every rule of a few books."""

    def __init__(self, pairs: list[dict[str, Any]], control: str) -> None:
        self.verifier = Verifier(pairs, control)
        self.control = control
        self.compared = 0
        self.late = 0
        self.behind_s = 0.0
        self._seen: dict[bytes, int] = {}
        self.wrong: list[tuple[str, str]] = []
        self.plain = PlainClient()
        self._tasks: list[asyncio.Task[None]] = []
        self._pending: set[str] = set()
        self._old: set[str] = set()
        self._before: dict[str, int] = {}

    def watch(self, all_books: ClientConnection, few_books: ClientConnection) -> None:
        self._tasks = [
            asyncio.create_task(self._verify(all_books)),
            asyncio.create_task(self._read(few_books)),
            asyncio.create_task(self.verifier.judge()),
        ]

    async def _verify(self, socket: ClientConnection) -> None:
        while True:
            raw = await socket.recv(decode=False)
            stamp = _STAMP.search(raw)
            if stamp is not None:
                platform, venue_us = stamp[1], int(stamp[2])
                self._seen[platform] = max(venue_us, self._seen.get(platform, 0))
            for book in self.verifier.receive(raw):
                await socket.send(orjson.dumps({"op": "resync", "id": "r", "books": [book]}), text=True)

    async def _read(self, socket: ClientConnection) -> None:
        while True:
            self.plain.receive(await socket.recv())

    async def judge_now(self, sample: Sequence[str]) -> None:
        """Compare every leg of these books, as the client shows them at this moment, with the true books of
        the last seconds: it must be one of them. A leg that traded too fast for the steps is left out.

        What is unlike is compared once more a little later: a client that has not read for seconds is late,
        and a book that stays unlike is wrong.
        """
        unlike = await self._unlike(sample)
        self.late += len(unlike)
        if unlike:
            await asyncio.sleep(_WINDOW_US / 1e6)
            self.wrong += await self._unlike(list(dict.fromkeys(book for book, _ in unlike)))

    async def _unlike(self, sample: Sequence[str]) -> list[tuple[str, str]]:
        """(book, what is wrong) of the legs that are like none of their true books."""
        now_us = time.time_ns() // 1000
        ours: list[tuple[str, str, bool, str, str, Cells]] = []
        for book in sample:
            mirror = self.verifier.mirrors[book]
            if not (mirror.exact and mirror.state == "live"):
                continue
            snapshot = mirror.snapshot()
            cells = shown(snapshot)
            for name, leg in orjson.loads(snapshot)["legs"].items():
                own = {key: {name: parts[name]} for key, parts in cells.items() if name in parts}
                ours.append((book, name, leg["inverted"], leg["platform"], leg["asset"], own))
        found: list[tuple[str, str]] = []
        # However far behind the whole system is on this machine: what was not received yet is not wrong.
        behind_us = now_us - min(self._seen.values(), default=now_us)
        self.behind_s = max(self.behind_s, behind_us / 1e6)
        window_us = _WINDOW_US + max(0, behind_us)
        steps = [now_us, now_us - window_us]
        async with httpx2.AsyncClient(timeout=30) as http:
            for _ in range(2):
                truths = await self._truths(http, [(one[3], one[4]) for one in ours], steps)
                unlike = []
                for one, answers in zip(ours, truths, strict=True):
                    true = [merged({one[1]: (one[2], book)}) for book in answers if book is not None]
                    if one[5] in true:
                        self.compared += 1
                    elif len(steps) == 2:
                        unlike.append(one)
                    elif len(true) == len(steps) and all(cells == true[0] for cells in true):
                        wrong = {key for key in true[0] | one[5] if true[0].get(key) != one[5].get(key)}
                        cells = [(*key, true[0].get(key), one[5].get(key)) for key in sorted(wrong)[:5]]
                        found.append((one[0], f"{one[0]} {one[1]}: true and shown: {cells}"))
                ours = unlike
                steps = list(range(now_us - window_us, now_us, _STEP_US))
        return found

    async def _truths(
        self, http: httpx2.AsyncClient, assets: Sequence[tuple[str, str]], steps: Sequence[int]
    ) -> list[list[Any]]:
        """For each asset the true books at each of the times; None where that is not remembered."""
        found: list[list[Any]] = []
        for start in range(0, len(assets), _ASSETS_AT_ONCE):
            some = assets[start : start + _ASSETS_AT_ONCE]
            queries = [(platform, asset, at) for platform, asset in some for at in steps]
            answer = await http.post(f"{self.control}/truth", json={"queries": queries})
            answer.raise_for_status()
            flat = orjson.loads(answer.content)
            found += [flat[i : i + len(steps)] for i in range(0, len(flat), len(steps))]
        return found

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with httpx2.AsyncClient(timeout=10) as http:
            await self.verifier.judge_ready(http)

    def ended(self) -> bool:
        return any(task.done() for task in self._tasks)

    def live(self) -> int:
        return sum(m.exact and m.state == "live" for m in self.verifier.mirrors.values())

    def remember_epochs(self) -> None:
        """From now on `outstanding` counts the books that are not live in a later epoch, and `old` those that
        are live in this one."""
        self._before = {book: mirror.epoch for book, mirror in self.verifier.mirrors.items()}
        self._pending = set(self._before)
        self._old = set(self._before)

    def old(self) -> int:
        mirrors = self.verifier.mirrors
        self._old = {
            book
            for book in self._old
            if mirrors[book].exact
            and mirrors[book].state == "live"
            and mirrors[book].epoch == self._before[book]
        }
        return len(self._old)

    def outstanding(self) -> int:
        mirrors = self.verifier.mirrors
        self._pending = {
            book
            for book in self._pending
            if not (
                mirrors[book].exact
                and mirrors[book].state == "live"
                and mirrors[book].epoch > self._before[book]
            )
        }
        return len(self._pending)

    def problems(self) -> list[str]:
        verifier = self.verifier
        found = [
            *(what for _, what in self.wrong),
            *(f"plain client: {problem}" for problem in self.plain.wrong),
        ]
        for what, count in (
            ("digests", verifier.mismatches),
            ("heartbeat counts", verifier.heartbeats_wrong),
            ("books unlike the truth", verifier.different),
        ):
            if count:
                found.append(f"{count} wrong {what}: {verifier.first_difference}")
        return found


class System:
    """Real processes: simulators, NATS, Valkey, and the stages over NATS."""

    def __init__(self, stack: AsyncExitStack, seed: int) -> None:
        self._stack = stack
        self._seed = seed
        self._env: dict[str, str] = {}
        self.stages: dict[str, Command] = {}

    async def start(self, events: int, outcomes: int, rate: int) -> list[dict[str, Any]]:
        """Start everything; the simulators' unified markets."""
        enter = self._stack.enter_async_context
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        nats, redis = await enter(servers.embedded_nats()), await enter(servers.embedded_valkey())
        mapping = folder / "mapping.toml"
        sim_env = {
            "SIM_EXTRA_EVENTS": str(events),
            "SIM_EXTRA_OUTCOMES": str(outcomes),
            "SIM_RATE": str(rate),
        }
        sim = await enter(
            command(
                "sim", "both", "--seed", str(self._seed), "--json", "--mapping", str(mapping), env=sim_env
            )
        )
        ready = await sim.until("ready", 120)
        self.control = str(ready["control"])
        self._http_port = str(servers.free_port())
        self._env = {
            **ready["env"],
            "NATS_URL": nats,
            "REDIS_URL": redis,
            "MAPPINGS": str(mapping),
            "PUBLISH_CHANGES": "true",
            "ORDERBOOK_SERVICE_URL": f"http://127.0.0.1:{self._http_port}",
            "LOG_LEVEL": "warning",
            # The two named events come on top of the 5,000 that one connection may have.
            "WS_BOOKS": str(events * outcomes + NAMED_BOOKS),
        }
        for stage in ("orderbook", "events", "aggregator", "gateway"):
            await self.run(stage)
        return list(ready["pairs"])

    async def run(self, stage: str) -> None:
        more = {"HTTP_PORT": self._http_port} if stage == "orderbook" else {}
        made = await self._stack.enter_async_context(command(stage, env={**self._env, **more}))
        await made.until("ready", 60)
        self.stages[stage] = made

    async def kill(self, stage: str) -> None:
        await self.stages[stage].end(signal.SIGKILL)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.stages['gateway'].lines[-1]['ws']}/ws"


async def strike(system: System, clients: Clients, stages: Sequence[str], limit_s: float) -> Kill:
    """SIGKILL `stages`, start them again at once, and watch the books come back for `limit_s` at most."""
    clients.remember_epochs()
    books = clients.outstanding()
    began = time.monotonic()
    await asyncio.gather(*(system.kill(stage) for stage in stages))
    starting = asyncio.gather(*(system.run(stage) for stage in stages))
    times: dict[str, float] = {}

    def note(what: str, happened: bool) -> None:
        if happened:
            times.setdefault(what, time.monotonic() - began)

    while True:
        left = clients.outstanding()
        note("ready", starting.done())
        note("flagged", not clients.old())
        note("half", left <= books // 2)
        recovered = time.monotonic() - began
        if (not left and starting.done()) or recovered > limit_s:
            break
        await asyncio.sleep(0.02)
    await starting
    return Kill(
        "+".join(stages),
        times.get("ready", recovered),
        times.get("flagged", recovered),
        times.get("half", recovered),
        recovered,
        left,
    )


async def run(
    *,
    events: int,
    outcomes: int,
    kills: int,
    venue_kills: int = 0,
    seed: int = 7,
    rate: int = 500,
    limit_s: float = 60,
    say: bool = False,
) -> Result:
    """One system; `kills` SIGKILLs of the orderbook service at random moments, then `venue_kills` of it and
    the normalizer together, so that the books come from the venues. Books that are not back within `limit_s`
    of a kill are wrong, and no further kill is tried.

    Raises:
        TimeoutError: the books were never all live.
    """
    rng = random.Random(seed)
    async with AsyncExitStack() as stack:
        system = System(stack, seed)
        began = time.monotonic()
        pairs = await system.start(events, outcomes, rate)
        clients = Clients(pairs, system.control)
        sockets: list[ClientConnection] = []
        for patterns in ([">"], PLAIN_PATTERNS):
            socket = await stack.enter_async_context(
                connect(system.url, max_size=None, ping_interval=None, max_queue=None)
            )
            await socket.send(orjson.dumps({"op": "subscribe", "id": "1", "books": patterns}), text=True)
            sockets.append(socket)
        clients.watch(*sockets)
        stack.push_async_callback(clients.stop)
        async with asyncio.timeout(180):
            while clients.live() < len(pairs):
                await asyncio.sleep(0.05)
        result = Result(len(pairs), time.monotonic() - began)
        plan = [("orderbook",)] * kills + [("aggregator", "orderbook")] * venue_kills
        for stages in plan:
            await asyncio.sleep(rng.uniform(0.2, 3.0))
            one = await strike(system, clients, stages, limit_s)
            names = list(clients.verifier.mirrors)
            await clients.judge_now(rng.sample(names, min(len(names), _SAMPLE)))
            result.kills.append(one)
            if say:
                print(
                    f"{len(result.kills):3} {one.what:20}  started {one.ready_s:5.2f} s  "
                    f"flagged {one.flagged_s:5.2f} s  half back {one.half_s:5.2f} s  "
                    f"all exact {one.recovered_s:5.2f} s  "
                    + ("pass" if not one.missed else "FAIL: " + ", ".join(one.missed)),
                    flush=True,
                )
            if clients.ended():
                raise AssertionError("a client's connection ended")
            if one.left:
                break
        # What was recovered last is judged too.
        await asyncio.sleep(2)
        await clients.stop()
        result.checked = clients.verifier.deltas + clients.plain.checks
        result.compared = clients.verifier.compared + clients.compared
        result.late = clients.late
        result.behind_s = clients.behind_s
        result.wrong = clients.problems()
        result.wrong += [f"{one.left} books were not back after a kill" for one in result.kills if one.left]
        return result


def _verdict(met: bool) -> str:
    return "pass" if met else "FAIL"


def _line(name: str, times: list[float]) -> str:
    times = sorted(times)
    return f"{name}: {times[0]:.2f} to {times[-1]:.2f} s, median {times[len(times) // 2]:.2f} s"


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=50)
    parser.add_argument("--outcomes", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--venue-kills", type=int, default=5)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--limit", type=float, default=60, help="seconds after which the run gives up")
    chosen = parser.parse_args()
    print(machine())
    found = await run(
        events=chosen.events,
        outcomes=chosen.outcomes,
        kills=chosen.kills,
        venue_kills=chosen.venue_kills,
        rate=chosen.rate,
        seed=chosen.seed,
        limit_s=chosen.limit,
        say=True,
    )
    print(
        f"{found.books} books, {chosen.rate} venue transactions/s; "
        f"all live {found.follow_s:.1f} s after the first stage began"
    )
    for what in dict.fromkeys(one.what for one in found.kills):
        times = [one.recovered_s for one in found.kills if one.what == what]
        print(_line(f"{len(times)} kills of {what}, all exact again, process start included", times))
    print(
        f"{found.checked} digests verified, {found.compared} legs of books compared with the truth, "
        f"{found.late} of them late; the client was up to {found.behind_s:.1f} s behind the venues"
    )
    late = sum(bool(one.missed) for one in found.kills)
    print(
        f"goals: none of {found.books} books wrong: {_verdict(not found.wrong)}; after each kill all flagged "
        f"within {FLAGGED_GOAL_S:g} s, and exact within "
        + " and ".join(f"{goal:g} s ({what})" for what, goal in BACK_GOALS_S.items())
        + f": {_verdict(not late)} ({len(found.kills) - late} of {len(found.kills)} kills)"
    )
    print("\n".join(found.wrong) or "nothing wrong")
    code = 1 if found.wrong else 3 if late else 0
    print(f"exit code {code}")
    return code


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(main()))
