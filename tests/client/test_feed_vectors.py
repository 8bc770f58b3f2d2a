"""The conversations of tests/vectors/feeds.json, which the JavaScript client goes through too."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from client.peer import Peer
from gateway.virtual import VirtualNet
from vectors import make
from wup.client import Feed, Subscription, connect

CASES = json.loads((make.HERE / "feeds.json").read_text())["cases"]
PORT = 8082


def _name(event: str) -> str:
    return event.partition(" ")[0]


class Conversation:
    """One feed, its subscriptions, and the gateway's side of it."""

    def __init__(self, peers: list[Peer], feed: Feed) -> None:
        self.peers = peers
        self.feed = feed
        self.events: list[str] = []
        self.sent = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.subscriptions: dict[str, Subscription] = {}

    async def settle(self, seconds: float = 0.01) -> None:
        """Let messages arrive, both ways."""
        await asyncio.sleep(seconds)

    async def follow(self, name: str, events: Subscription) -> None:
        async for event in events:
            silent = event.why is None or event.type in ("connected", "disconnected")
            words = [name, event.type if silent else f"{event.type}:{event.why}"]
            if event.book is not None:
                words.append(event.book.id)
                held = self.feed.book(event.book.id) is event.book  # by another subscription
                assert event.type != "removed" or held or not event.book.exact
            self.events.append(" ".join(words))

    async def act(self, step: dict[str, Any]) -> None:
        if "subscribe" in step:
            name, patterns, options = step["subscribe"]
            self.subscriptions[name] = self.feed.subscribe(*patterns, **options)
            self.tasks.append(asyncio.create_task(self.follow(name, self.subscriptions[name])))
        elif "unsubscribe" in step:
            await self.subscriptions[step["unsubscribe"]].close()
        elif "say" in step:
            self.peers[-1].say(step["say"])
        elif "answer" in step:
            asked = self.peers[-1].ops[-1]
            answer = {"books": asked.get("books"), **step["answer"], "id": asked["id"]}
            of = answer.pop("of", None)
            self.peers[-1].say(answer if of is None else {**answer, "at": asked["books"].index(of)})
        elif "end" in step:
            self.peers[-1].end(step["end"])
        for _ in range(step.get("pass_ms", 0) // 1_000):
            await asyncio.sleep(1)
            self.peers[-1].say({"type": "heartbeat", "count": self.peers[-1].count, "ts": 1})
        await self.settle()

    def check(self, then: dict[str, Any], place: int) -> None:
        assert sorted(self.events, key=_name) == sorted(then["events"], key=_name), place
        self.events.clear()
        if "books" in then:
            assert {book.id: book.exact for book in self.feed.books.values()} == then["books"], place
        if "ops" in then:
            sent = [op for peer in self.peers for op in peer.ops]
            fresh, self.sent = sent[self.sent :], len(sent)
            assert len(fresh) == len(then["ops"]), (place, fresh)
            for op, wanted in zip(fresh, then["ops"], strict=True):
                unordered = wanted.pop("unordered", None)
                assert {name: op[name] for name in wanted} == wanted, place
                assert unordered is None or sorted(op["books"]) == sorted(unordered), place


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_feed(case: dict[str, Any]) -> None:
    """What is over is removed and said, with its reason; what is not stays, and is asked for."""
    net = VirtualNet()
    peers: list[Peer] = []

    def accept() -> Peer:
        peers.append(Peer())
        return peers[-1]

    async def talk() -> None:
        net.servers[PORT] = accept
        async with contextlib.AsyncExitStack() as stack:
            feed = connect(f"ws://localhost:{PORT}/ws", uniform=lambda low, high: 0.0)
            conversation = Conversation(peers, await stack.enter_async_context(feed))
            for place, step in enumerate(case["steps"]):
                await conversation.act(step)
                if "then" in step:
                    conversation.check(step["then"], place)
        await asyncio.gather(*conversation.tasks)

    asyncio.set_event_loop(net)
    try:
        net.run_until_complete(talk())
    finally:
        asyncio.set_event_loop(None)
        net.close()
