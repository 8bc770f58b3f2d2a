"""The orderbook service in a random world, against a brute-force model (seeds in CI; more by make soak)."""

from __future__ import annotations

import os

import pytest

from orderbook.model import World, play
from wup import servers
from wup.bus import NatsBus
from wup.orderbook import OrderbookService

SEEDS = int(os.environ.get("WUP_MODEL_SEEDS", "200"))
NATS_SEEDS = int(os.environ.get("WUP_MODEL_NATS_SEEDS", "10"))
CHUNK = 20


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
async def test_every_published_book_equals_the_model(first: int) -> None:
    """Through losses, repeats, restarts of either side and mapping changes each published book equals the
    brute-force merge, no leg that is not live contributes, and every loss is found within 2 s."""
    compared = losses = 0
    for seed in range(first, min(first + CHUNK, SEEDS)):
        world = await play(World(seed), 150)
        assert world.problems == [], f"seed {seed}"
        compared += world.compared
        losses += world.losses
    assert compared > 1000
    assert losses > 10


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


def _deaf_to_holes(service: OrderbookService) -> None:
    service._ask = lambda *_: None  # type: ignore[method-assign]


def _sends_nothing_on_mapping(service: OrderbookService) -> None:
    original = service.set_table

    async def quiet(table: object) -> None:
        send, service._send = service._send, lambda _: None  # type: ignore[method-assign,assignment]
        await original(table)  # type: ignore[arg-type]
        service._send = send  # type: ignore[method-assign]

    service.set_table = quiet  # type: ignore[method-assign]


@pytest.mark.parametrize("broken", [_deaf_to_marks, _deaf_to_holes, _sends_nothing_on_mapping])
async def test_a_service_with_one_check_removed_fails(broken: object) -> None:
    """The same run finds a service that ignores marks, never asks again, or forgets to publish."""
    failed = 0
    for seed in range(10):
        world = World(seed, broken)  # type: ignore[arg-type]
        try:
            await play(world, 150)
        except KeyError:
            failed += 1
            continue
        failed += bool(world.problems)
    assert failed > 0
