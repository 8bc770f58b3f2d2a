"""The JavaScript client in a random run: a real Node, driven in lock step on the virtual clock and network.

`puppet.mjs` holds the feed; its sockets and its timers are here. Every event that it tells a program of is
judged there for holes, and here against what was published.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING, Any

import orjson

from gateway.judge import LightClient, Truth
from javascript.node import HERE, bundled
from wup._core import MirrorBook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gateway.virtual import VirtualNet

_LATENCY_S = 0.001


class Puppet:
    """One Node for many worlds; use it with `with`. `script`: `puppet.mjs`, or a wrong one."""

    def __init__(self, script: Path = HERE / "puppet.mjs") -> None:
        self._process = subprocess.Popen(
            [bundled(), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Puppet:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def exchange(self, now_ms: float, actions: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """One line there, one back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps({"now": now_ms, "do": actions}) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the puppet ended"
        answer: dict[str, Any] = json.loads(line)
        assert answer["faults"] == [], f"JavaScript: {answer['faults'][0]}"
        return answer


class _Socket(LightClient):
    """One WebSocket of the feed: the frames of a light client, their texts for the puppet."""

    def __init__(self, owner: NodeFeed, number: int) -> None:
        super().__init__(owner.truth, lambda _: owner.closed(self))
        self.owner = owner
        self.number = number
        self._heard: list[tuple[str, int, str]] = []

    def data_received(self, data: bytes) -> None:
        shaken = self._shaken
        super().data_received(data)
        opened = [("open", self.number)] if self._shaken and not shaken else []
        heard, self._heard = self._heard, []
        if opened or heard:
            self.owner.act(*opened, *heard)

    def _text(self, payload: bytes) -> None:
        self._heard.append(("message", self.number, payload.decode()))

    def say(self, text: str) -> None:
        """Send one message of the feed."""
        self._send(1, text.encode())


class NodeFeed:
    """The feed of one world. `lost` is called for each book that it lost."""

    def __init__(
        self, puppet: Puppet, net: VirtualNet, port: int, truth: Truth, seed: int, lost: Callable[[], None]
    ) -> None:
        self.truth = truth
        self.checks = 0
        self.whole_checks = 0
        self._puppet = puppet
        self._net = net
        self._port = port
        self._lost = lost
        self._began = net.time()
        self._sockets: dict[int, _Socket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self.exchanges = 0
        self.act(("world", seed))

    def act(self, *actions: Sequence[Any]) -> dict[str, Any]:
        """Let the feed live up to now and do these; then do what it wants, and judge what it says."""
        self.exchanges += 1
        answer = self._puppet.exchange(self._now_ms(), actions)
        for book, depth, every_ms, epoch, seq, digest, whole in answer["seen"]:
            self._judge((book, depth, every_ms), epoch, seq, digest, whole)
        for _ in range(answer["lost"]):
            self._lost()
        for number in answer["connect"]:
            self._net.call_later(_LATENCY_S, self._dial, number)
        for number, text in answer["sent"]:
            if number in self._sockets:
                self._sockets[number].say(text)
        for number, _ in answer["closed"]:
            if number in self._sockets:
                self._sockets.pop(number).transport.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if answer["next"] is not None and not self._ended:
            # A little late: by the rounding of two clocks it might come too early, again and again.
            self._timer = self._net.call_later(max(0.0, answer["next"]) / 1000 + 1e-6, self.act)
        return answer

    def _now_ms(self) -> float:
        return (self._net.time() - self._began) * 1000

    def _judge(
        self, key: tuple[str, int | None, int | None], epoch: int, seq: int, digest: int, whole: Any
    ) -> None:
        mirror = MirrorBook()
        if whole is not None:
            # What it would show adds up to its digest, by another's reckoning.
            assert mirror.apply(orjson.dumps(whole)) == "exact", f"JavaScript shows a wrong book: {whole}"
            assert (mirror.epoch, mirror.seq, mirror.digest) == (epoch, seq, digest), whole
            self.whole_checks += 1
        self.truth.check(key, epoch, seq, digest, mirror if whole is not None else None)
        self.checks += 1

    # --- the sockets ------------------------------------------------------------------------------

    def _dial(self, number: int) -> None:
        if self._ended:
            return
        socket = _Socket(self, number)
        try:
            self._net.dial(socket, self._port)
        except ConnectionRefusedError:
            self.act(("close", number, 1006))
            return
        self._sockets[number] = socket

    def closed(self, socket: _Socket) -> None:
        """A connection ended from the other side, or broke."""
        if self._sockets.pop(socket.number, None) is not None and not self._ended:
            self._net.call_soon(self.act, ("close", socket.number, socket.closed))

    @property
    def transports(self) -> list[asyncio.Transport]:
        """Its connections, for who would disturb them."""
        return [socket.transport for socket in self._sockets.values()]

    # --- what it holds ----------------------------------------------------------------------------

    def held(self) -> dict[str, tuple[bool, int, int, int]]:
        """Books of the full streams: exact, epoch, seq, digest."""
        rows = self.act(("report",))["report"]["books"]
        return {key[0]: tuple(place) for key, *place in rows if key[1:] == [None, None]}

    def end(self) -> None:
        """Close it; nothing may have gone wrong with what it was sent."""
        stats = self.act(("report",))["report"]["stats"]
        assert (stats["mismatches"], stats["gaps"], stats["countMismatches"]) == (0, 0, 0), stats
        self.act(("end",))
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
