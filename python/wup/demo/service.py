"""The demo: children for simulators, verifier and ladder, all stages here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from wup import processes, runtime
from wup.cli import running
from wup.cli.everything import Everything
from wup.errors import WupError

if TYPE_CHECKING:
    from wup.config import Settings

_CHILD_READY_S = 30.0


class DemoError(WupError):
    """A part of the demo did not start, or died."""


class Demo:
    """One run.

    Args:
        settings: ports and servers; `MAPPINGS` from the environment replaces the simulated events' mapping.
        seed: of the simulated market.
        json: JSON lines instead of the ladder.
    """

    def __init__(self, settings: Settings, *, seed: int, json: bool) -> None:
        self._settings = settings
        self._seed = seed
        self._json = json
        self._began_us = int(float(os.environ.get("WUP_STARTED") or time.time()) * 1_000_000)

    async def run(self, stop: asyncio.Event, duration: float | None) -> int:
        """Run until `stop` or for `duration` seconds; exit code 0 unless something was wrong.

        Raises:
            DemoError: a child did not start. PortInUse: names the setting.
        """
        if not self._json:
            sys.stdout.write("starting simulators, servers and stages\n")
            sys.stdout.flush()
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wup-demo-")))
            mapping = folder / "mapping.toml"
            simulators = await self._child(
                stack,
                ["-m", "wup", "sim", "both", "--seed", str(self._seed), "--json", "--mapping", str(mapping)],
            )
            ready = await self._line(simulators, "ready")
            os.environ.update(ready["env"])
            settings, venues = runtime.load_settings(
                publish_changes=True, mappings=os.environ.get("MAPPINGS") or str(mapping)
            )
            everything = await stack.enter_async_context(Everything(settings, venues))
            await everything.start()
            everything.announce(json=self._json)
            verifier = await self._child(
                stack, ["-m", "wup.demo.verify", self._verifier_options(everything.ready, ready)]
            )
            first = asyncio.create_task(self._first_book(verifier))
            stack.callback(first.cancel)
            if not self._json and sys.stdout.isatty():
                await self._child(
                    stack, ["-m", "wup", "watch", ">", "--url", str(everything.ready["ws"])], stdout=None
                )
            running.started()
            await self._wait(stop, duration, {"simulators": simulators, "verifier": verifier})
            await first
            await processes.stop(verifier, grace_s=15)
            summary = await self._line(verifier, "summary")
        self._report(summary)
        return 0 if self._good(summary) else 1

    async def _child(
        self,
        stack: contextlib.AsyncExitStack,
        arguments: list[str],
        stdout: int | None = asyncio.subprocess.PIPE,
    ) -> asyncio.subprocess.Process:
        process = await processes.start([sys.executable, *arguments], stdout=stdout)
        stack.push_async_callback(processes.stop, process)
        return process

    async def _line(self, process: asyncio.subprocess.Process, kind: str) -> dict[str, Any]:
        assert process.stdout is not None
        while True:
            try:
                line = await asyncio.wait_for(process.stdout.readline(), _CHILD_READY_S)
            except TimeoutError:
                raise DemoError(f"a child of the demo said no {kind!r} in {_CHILD_READY_S:.0f} s") from None
            if not line:
                raise DemoError(f"a child of the demo ended (code {process.returncode}) before {kind!r}")
            with contextlib.suppress(orjson.JSONDecodeError):
                message: dict[str, Any] = orjson.loads(line)
                if message.get("type") == kind:
                    return message

    async def _first_book(self, verifier: asyncio.subprocess.Process) -> None:
        seen = await self._line(verifier, "first_book")
        after = (seen["ts"] - self._began_us) / 1_000_000
        if self._json:
            running.say({"type": "first_book", "book": seen["book"], "after_s": round(after, 1)})
        else:
            sys.stdout.write(f"first live book {after:.1f} s after the start\n")
            sys.stdout.flush()

    def _verifier_options(self, up: dict[str, object], sim: dict[str, Any]) -> str:
        return orjson.dumps({"ws": up["ws"], "pairs": sim["pairs"], "control": sim["control"]}).decode()

    async def _wait(
        self, stop: asyncio.Event, duration: float | None, children: dict[str, asyncio.subprocess.Process]
    ) -> None:
        waits: dict[asyncio.Task[Any], str] = {asyncio.create_task(stop.wait()): "stop"}
        for name, child in children.items():
            waits[asyncio.create_task(child.wait())] = name
        try:
            done, _ = await asyncio.wait(waits, timeout=duration, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        for task in done:
            if waits[task] != "stop":
                raise DemoError(f"the demo's {waits[task]} ended early (code {task.result()})")

    def _good(self, summary: dict[str, Any]) -> bool:
        return bool(
            summary["digest_mismatches"] == 0
            and summary["gaps"] == 0
            and summary["truth"]["different"] == 0
            and summary["heartbeat_mismatches"] == 0
        )

    def _report(self, summary: dict[str, Any]) -> None:
        if self._json:
            running.say(summary)
            return
        truth, latency = summary["truth"], summary["latency_us"]
        compared = (
            f"{truth['compared']} compared, {truth['different']} different"
            if truth["compared"]
            else "no time"
        )
        taken = (
            "not measured" if latency["p50"] is None else f"p50 {latency['p50']} us, p99 {latency['p99']} us"
        )
        sys.stdout.write(
            f"books {summary['books']}, levels with several legs {summary['levels_with_several_legs']}, "
            f"deltas/s {summary['deltas_per_s']}\n"
            f"digest mismatches {summary['digest_mismatches']}; against the simulators' truth: {compared}; "
            f"venue to client: {taken}\n"
        )
        sys.stdout.flush()
