"""Where the gateway's mirrors get whole books from (wire.md section 3 rule 9 and section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import httpx2
import orjson

from wup import subjects
from wup.errors import BusError, WupError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from wup.bus import Bus

_TIMEOUT_S = 10.0


class SourceError(WupError):
    """No, or not all, snapshots could be had."""


class SnapshotSource(Protocol):
    """Gives `snapshot` messages of all YES books that match a pattern."""

    def stream(self, pattern: str) -> AsyncIterator[bytes]:
        """One message per book, in any order.

        Raises:
            SourceError: the end was not reached; what came before is good.
        """
        ...


class HttpSource:
    """`GET {url}/v1/snapshots?match=`, one JSON line per book, one address per shard.

    `token` is shown to the orderbook service if it asks for one (ORDERBOOK_TOKEN_FILE).
    """

    def __init__(self, urls: Sequence[str], token: str | None = None) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def stream(self, pattern: str) -> AsyncIterator[bytes]:
        problems: list[str] = []
        timeout = httpx2.Timeout(_TIMEOUT_S)
        # Proxy settings of the environment are for the outside world, not for a service next door.
        async with httpx2.AsyncClient(timeout=timeout, trust_env=False, headers=self._headers) as client:
            for url in self._urls:
                try:
                    async for line in self._lines(client, url, pattern):
                        yield line
                except (httpx2.HTTPError, SourceError) as error:
                    problems.append(f"{url}: {error!r}")
        if problems:
            raise SourceError("; ".join(problems))

    async def _lines(self, client: httpx2.AsyncClient, url: str, pattern: str) -> AsyncIterator[bytes]:
        async with client.stream("GET", f"{url}/v1/snapshots", params={"match": pattern}) as answer:
            if answer.status_code != httpx2.codes.OK:
                raise SourceError(f"status {answer.status_code}")
            rest = b""
            async for chunk in answer.aiter_bytes():
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    if line:
                        yield line
            if rest.strip():
                yield rest


class BusSource:
    """A request to every orderbook shard on the bus; with the in-process bus, a call into the store."""

    def __init__(self, bus: Bus, shards: int = 1, timeout: float = _TIMEOUT_S) -> None:
        self._bus = bus
        self._shards = shards
        self._timeout = timeout

    async def stream(self, pattern: str) -> AsyncIterator[bytes]:
        problems: list[str] = []
        body = orjson.dumps({"match": pattern})
        for shard in range(self._shards):
            subject = subjects.orderbook_snapshot(str(shard))
            try:
                answers = await self._bus.request_many(subject, body, timeout=self._timeout)
            except BusError as error:
                problems.append(str(error))
                continue
            for answer in answers:
                yield answer.payload
        if problems:
            raise SourceError("; ".join(problems))
