"""The orderbook service in a random world, against a brute-force model (seeds in CI; more by make soak)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from orderbook.model import World, play
from wup import servers
from wup.bus import NatsBus
from wup.orderbook import OrderbookService

if TYPE_CHECKING:
    from collections.abc import Callable

    from wup._core import BookStore, Change

SEEDS = int(os.environ.get("WUP_MODEL_SEEDS", "200"))
NATS_SEEDS = int(os.environ.get("WUP_MODEL_NATS_SEEDS", "10"))
CHUNK = 20


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
async def test_every_published_book_equals_the_model(first: int) -> None:
    """Through losses, repeats, restarts of either side, deaths of normalizers and mapping changes each
    published book equals the brute-force merge, no leg that is not live or whose normalizer is dead
    contributes, and every loss is found within 2 s."""
    compared = losses = deaths = 0
    for seed in range(first, min(first + CHUNK, SEEDS)):
        world = await play(World(seed), 150)
        assert world.problems == [], f"seed {seed}"
        compared += world.compared
        losses += world.losses
        deaths += world.deaths
    assert compared > 1000
    assert losses > 10
    assert deaths > 5


async def test_the_same_over_nats() -> None:
    """The same worlds with a real NATS server between normalizers, service and client."""
    for seed in range(NATS_SEEDS):
        async with servers.embedded_nats() as url:
            outside, inside = await NatsBus.connect(url), await NatsBus.connect(url)
            try:
                world = await play(World(seed, buses=(outside, inside)), 150)
            finally:
                await outside.close()
                await inside.close()
        assert world.problems == [], f"seed {seed}"
        assert world.compared > 100


def _deaf_to_marks(service: OrderbookService) -> None:
    service._on_marks = lambda *_: None  # type: ignore[method-assign]


def _asks_for_nothing(service: OrderbookService) -> None:
    service._ask = lambda *_: None  # type: ignore[method-assign]


def _sends_nothing_on_mapping(service: OrderbookService) -> None:
    original = service.set_table

    async def quiet(table: object) -> None:
        send, service._send = service._send, lambda _: None  # type: ignore[method-assign,assignment]
        await original(table)  # type: ignore[arg-type]
        service._send = send  # type: ignore[method-assign]

    service.set_table = quiet  # type: ignore[method-assign]


def _blind_to_silence(service: OrderbookService) -> None:
    service._silent = list  # type: ignore[method-assign]


def _misses_no_mark_after_an_answer(service: OrderbookService) -> None:
    service._upstream.snapshot = lambda *_: None  # type: ignore[method-assign]


class _NoHoles:
    """A store that takes whatever number comes for the next one."""

    def __init__(self, store: BookStore) -> None:
        self._store = store
        self._last: dict[tuple[str, str], tuple[int, int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def apply(self, payload: bytes, now_us: int, platform: str, asset: str) -> list[Change]:
        message = orjson.loads(payload)
        epoch, n = self._last.get((platform, asset), (0, 0))
        if message["type"] != "snapshot" and message["epoch"] == epoch and message["n"] > n:
            message["n"] = n + 1
        self._last[platform, asset] = max((message["epoch"], message["n"]), (epoch, n))
        return self._store.apply(orjson.dumps(message), now_us, platform, asset)


def _ignores_holes(service: OrderbookService) -> None:
    service.store = _NoHoles(service.store)  # type: ignore[assignment]


@pytest.mark.parametrize(
    "broken",
    [
        _deaf_to_marks,
        _asks_for_nothing,
        _ignores_holes,
        _blind_to_silence,
        _misses_no_mark_after_an_answer,
        _sends_nothing_on_mapping,
    ],
)
async def test_a_service_with_one_check_removed_fails(broken: Callable[[OrderbookService], None]) -> None:
    """The same run finds a service that ignores marks, holes or silence, asks nobody, or does not publish."""
    for seed in range(40):
        if (await play(World(seed, broken), 150)).problems:
            return
    pytest.fail("forty worlds, and nothing was wrong")
