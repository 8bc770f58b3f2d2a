"""The in-process bus, NATS, and both linked: one behaviour."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from wup import servers
from wup.bus import Bus, LinkedBus, LocalBus, Message, NatsBus
from wup.bus.nats import NEEDED_PAYLOAD
from wup.errors import BusError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KINDS = ["local", "nats", "linked"]


@asynccontextmanager
async def a_bus(kind: str) -> AsyncIterator[Bus]:
    async with AsyncExitStack() as stack:
        if kind == "local":
            bus: Bus = LocalBus()
        else:
            url = await stack.enter_async_context(servers.embedded_nats())
            remote = await NatsBus.connect(url, no_echo=kind == "linked")
            bus = remote if kind == "nats" else LinkedBus(LocalBus(), remote, ("out.",), ("in.",))
        stack.push_async_callback(bus.close)
        yield bus


class Inbox:
    """Collects messages and lets a test await a number of them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._arrived = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self._arrived.set()

    async def wait_for(self, count: int) -> list[Message]:
        async with asyncio.timeout(5):
            while len(self.messages) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.messages


@pytest.mark.parametrize("kind", KINDS)
async def test_payload_headers_and_order_survive(kind: str) -> None:
    """Bytes and headers arrive as published, in the order of publication, only at matching patterns."""
    async with a_bus(kind) as bus:
        inbox, other = Inbox(), Inbox()
        await bus.subscribe("market.*.X", inbox)
        await bus.subscribe("market.>", other)
        payloads = [bytes([i % 256]) * (i % 50) + b"\xff\x00{" for i in range(500)]
        for index, payload in enumerate(payloads):
            bus.publish("market.kalshi.X", payload, {"Wup-N": str(index)})
            bus.publish("market.kalshi.Y", b"y")
        got = await inbox.wait_for(500)
        assert [m.payload for m in got] == payloads
        assert [m.headers["Wup-N"] for m in got if m.headers] == [str(i) for i in range(500)]
        assert len(await other.wait_for(1000)) == 1000


@pytest.mark.parametrize("kind", KINDS)
async def test_stop_ends_delivery(kind: str) -> None:
    """After `stop` returns, the handler is not called again."""
    async with a_bus(kind) as bus:
        inbox, fence = Inbox(), Inbox()
        subscription = await bus.subscribe("a.b", inbox)
        await bus.subscribe("a.fence", fence)
        bus.publish("a.b", b"1")
        await inbox.wait_for(1)
        await subscription.stop()
        bus.publish("a.b", b"2")
        bus.publish("a.fence", b"")
        await fence.wait_for(1)
        assert [m.payload for m in inbox.messages] == [b"1"]


@pytest.mark.parametrize("kind", KINDS)
async def test_request_many_collects_until_the_end(kind: str) -> None:
    """All answers come, in order; an empty payload ends the list."""
    async with a_bus(kind) as bus:

        def answer(message: Message) -> None:
            assert message.reply is not None
            for part in (b"one", b"two", b""):
                bus.publish(message.reply, part)

        await bus.subscribe("ask.me", answer)
        answers = await bus.request_many("ask.me", b"?")
        assert [m.payload for m in answers] == [b"one", b"two"]


@pytest.mark.parametrize("kind", KINDS)
async def test_request_without_answer_is_an_error(kind: str) -> None:
    """A request that nobody ends raises BusError after its timeout."""
    async with a_bus(kind) as bus:
        with pytest.raises(BusError):
            await bus.request_many("nobody.home", b"?", timeout=0.2)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failing_handler_harms_nobody(kind: str) -> None:
    """A handler that raises neither stops the other handlers nor reaches the publisher."""
    async with a_bus(kind) as bus:
        inbox = Inbox()

        def fail(_: Message) -> None:
            raise RuntimeError("broken handler")

        await bus.subscribe("x.y", fail)
        await bus.subscribe("x.y", inbox)
        bus.publish("x.y", b"1")
        bus.publish("x.y", b"2")
        assert [m.payload for m in await inbox.wait_for(2)] == [b"1", b"2"]


async def test_linked_bus_reaches_outside_once() -> None:
    """Forwarded subjects reach NATS and local readers once each; what is not listened to stays outside."""
    async with servers.embedded_nats() as url:
        inner = await NatsBus.connect(url, no_echo=True)
        bus = LinkedBus(LocalBus(), inner, ("out.",), ("in.",))
        outside = await NatsBus.connect(url)
        local, remote, asked = Inbox(), Inbox(), Inbox()
        await bus.subscribe("out.>", local)
        await outside.subscribe("out.>", remote)
        await bus.subscribe("in.>", asked)
        bus.publish("out.a", b"1")
        bus.publish("kept.a", b"2")
        outside.publish("out.b", b"from outside")
        outside.publish("in.a", b"3")
        await asked.wait_for(1)
        await remote.wait_for(2)
        assert [m.payload for m in local.messages] == [b"1"]
        assert sorted(m.payload for m in remote.messages) == [b"1", b"from outside"]
        await outside.close()
        await bus.close()


async def test_nats_gone_is_told_and_survived() -> None:
    """While the server is away publishing drops and tells; after its return messages flow again."""
    port = servers.free_port()
    losses: list[str] = []
    async with servers.embedded_nats(port=port) as url:
        bus = await NatsBus.connect(url)
        inbox = Inbox()
        await bus.subscribe("a", inbox)
        bus.on_loss(losses.append)
        bus.publish("a", b"before")
        await inbox.wait_for(1)
    async with asyncio.timeout(10):
        while bus.connected:
            await asyncio.sleep(0.01)
    bus.publish("a", b"while away")
    assert "disconnected" in losses
    async with servers.embedded_nats(port=port):
        async with asyncio.timeout(10):
            while "reconnected" not in losses:
                await asyncio.sleep(0.01)
        bus.publish("a", b"after")
        assert [m.payload for m in await inbox.wait_for(2)] == [b"before", b"after"]
        await bus.close()


async def test_a_server_that_takes_too_little_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with the usual bound of 1 MB is refused in words that name the setting; one that takes the
    needed bytes carries a message of that size less its headers."""
    plain = servers._NATS_CONF
    monkeypatch.setattr(servers, "_NATS_CONF", plain.replace("8MB", "1MB"))
    async with servers.embedded_nats() as url:
        with pytest.raises(BusError, match=r"max_payload is 1048576 bytes, set it to 4194304 or more"):
            await NatsBus.connect(url)
    monkeypatch.setattr(servers, "_NATS_CONF", plain.replace("8MB", "4MB"))
    async with servers.embedded_nats() as url:
        bus = await NatsBus.connect(url)
        inbox = Inbox()
        await bus.subscribe("a", inbox)
        bus.publish("a", b"x" * (NEEDED_PAYLOAD - 100), {"Wup-N": "1"})
        assert len((await inbox.wait_for(1))[0].payload) == NEEDED_PAYLOAD - 100
        await bus.close()


async def test_a_server_that_came_back_with_less_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a reconnect to a server with a smaller bound the bus goes on, and says so."""
    port = servers.free_port()
    losses: list[str] = []
    async with servers.embedded_nats(port=port) as url:
        bus = await NatsBus.connect(url)
        bus.on_loss(losses.append)
    monkeypatch.setattr(servers, "_NATS_CONF", servers._NATS_CONF.replace("8MB", "1MB"))
    async with servers.embedded_nats(port=port):
        async with asyncio.timeout(10):
            while "reconnected" not in losses:
                await asyncio.sleep(0.01)
        assert "max_payload is 1048576" in capsys.readouterr().out
        await bus.close()


async def test_order_holds_whichever_way_messages_take() -> None:
    """Of a thousand messages that come at once the first are handled as they are read and the rest by way of
    the queue: every one is handled, in the order of publication, and one that raises costs only itself."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(servers.embedded_nats())
        reader, writer = await NatsBus.connect(url), await NatsBus.connect(url)
        stack.push_async_callback(reader.close)
        stack.push_async_callback(writer.close)
        seen: list[int] = []
        waiting: list[int] = []
        done = asyncio.Event()

        def handle(message: Message) -> None:
            seen.append(int(message.payload))
            waiting.append(reader.queues()[0].messages)
            if len(seen) == 1_000:
                done.set()
            if seen[-1] == 3:
                raise ValueError("as a handler never should")

        await reader.subscribe("numbers", handle)
        for number in range(1_000):
            writer.publish("numbers", b"%d" % number, {"N": "1"} if number % 7 == 0 else None)
        async with asyncio.timeout(5):
            await done.wait()
        assert seen == list(range(1_000))
        assert waiting[0] == 0, "the first one was handled before anything waited"
        assert max(waiting) > 0, "a burst takes the queue"
