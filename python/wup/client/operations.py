"""Operations of one feed: numbered, answered, in order, and never faster than the gateway allows."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

import orjson
from websockets.exceptions import ConnectionClosed

from wup.client.errors import FeedError, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.asyncio.client import ClientConnection

    Answered = Callable[[dict[str, Any] | Refused], None]

_BURST = 30
_INTERVAL_S = 1 / 15
"""The contract allows 20 a second, 40 at once; a gateway may be set to less, then it says `rate_limited`."""
_AGAIN_S = 1.0


class Operations:
    """What is asked on the connection there is; what a lost connection left unanswered is forgotten."""

    def __init__(self) -> None:
        self._ws: ClientConnection | None = None
        self._next_id = 0
        self._queue: deque[tuple[dict[str, Any], Answered]] = deque()
        self._open: dict[str, tuple[dict[str, Any], Answered]] = {}
        self._wake = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._again: set[asyncio.TimerHandle] = set()
        self._waiting: set[asyncio.Future[dict[str, Any]]] = set()

    def attach(self, ws: ClientConnection) -> None:
        """Operations go to this connection from now on."""
        self._ws = ws
        self._sender = asyncio.create_task(self._send_all(ws), name="wup-feed-operations")

    def detach(self) -> None:
        """The connection is gone, and with it every question."""
        self._ws = None
        self._queue.clear()
        self._open.clear()
        for timer in self._again:
            timer.cancel()
        self._again.clear()
        for future in self._waiting:
            if not future.done():
                future.set_exception(FeedError("the connection went before the answer"))
        if self._sender is not None:
            self._sender.cancel()
            self._sender = None

    def ask(self, body: dict[str, Any], answered: Answered) -> None:
        """Send `body` with an id of its own; `answered` gets the answer, or why it was refused.

        An error that may pass (`retry`) is asked again. Without a connection nothing happens.
        """
        if self._ws is not None:
            self._queue.append((body, answered))
            self._wake.set()

    async def asked(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to `body`.

        Raises:
            Refused: the gateway answered with an error.
            FeedError: there is no connection, or it went before the answer.
        """
        if self._ws is None:
            raise FeedError("not connected")
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def answered(message: dict[str, Any] | Refused) -> None:
            if answer.done():
                return
            if isinstance(message, Refused):
                answer.set_exception(message)
            else:
                answer.set_result(message)

        self._waiting.add(answer)
        try:
            self.ask(body, answered)
            return await answer
        finally:
            self._waiting.discard(answer)

    async def books(self, match: str) -> list[dict[str, Any]]:
        """The rows of `list`, all pages.

        Raises:
            Refused, FeedError: as `asked`.
        """
        rows: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            page = await self.asked({"op": "list", "match": match, "after": after})
            rows += page["books"]
            after = page.get("next")
            if after is None:
                return rows

    def answer(self, message: dict[str, Any]) -> None:
        """One answer of the gateway; others than to our questions are ignored."""
        op_id = message.get("id")
        asked = self._open.pop(op_id, None) if isinstance(op_id, str) else None
        if asked is None:
            return
        body, answered = asked
        if message.get("type") != "error":
            answered(message)
        elif message.get("retry") is True:
            loop = asyncio.get_running_loop()
            self._again = {timer for timer in self._again if timer.when() > loop.time()}
            self._again.add(loop.call_later(_AGAIN_S, self.ask, body, answered))
        else:
            answered(Refused(str(message.get("code")), str(message.get("message")), message.get("at")))

    async def _send_all(self, ws: ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        free_at = loop.time()  # when the burst will be whole again
        # A connection that is gone is noticed, and told, by the reader.
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    body, answered = self._queue.popleft()
                    self._next_id += 1
                    op_id = str(self._next_id)
                    self._open[op_id] = (body, answered)
                    await ws.send(orjson.dumps({**body, "id": op_id}), text=True)
                    free_at = max(free_at, loop.time()) + _INTERVAL_S
                    ahead = free_at - loop.time() - _BURST * _INTERVAL_S
                    if ahead > 0:
                        await asyncio.sleep(ahead)
