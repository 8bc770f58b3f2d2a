"""The standalone normalizer says what the inline one says: same code, same records, same results."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from aggregator.system import System, running
from aggregator.test_bus_away import eventually
from wup import subjects
from wup.bus import LinkedBus, LocalBus, Message, NatsBus
from wup.clock import SYSTEM_CLOCK
from wup.normalizer.service import NormalizerService

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest


class Apart:
    """A bus that reads from NATS and keeps what is said on it."""

    def __init__(self, bus: NatsBus, keep: Any) -> None:
        self._bus = bus
        self._keep = keep

    def publish(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None, reply: str | None = None
    ) -> bool:
        self._keep(Message(subject, payload, headers, reply))
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)


class Said:
    """Everything about each asset but the counter, the epoch and our own time."""

    def __init__(self) -> None:
        self.by_asset: dict[str, list[Any]] = defaultdict(list)

    def __call__(self, message: Message) -> None:
        if not message.subject.startswith("normalized.") or "._marks." in message.subject:
            return
        fields = orjson.loads(message.payload)
        fields.pop("epoch"), fields.pop("n"), fields.get("ts", {}).pop("norm", None)
        self.by_asset[fields["asset_id"]].append(fields)


async def test_inline_and_standalone_say_the_same(monkeypatch: pytest.MonkeyPatch, nats_url: str) -> None:
    """One aggregator, its inline normalizer in the process and another one behind NATS: message by message
    the same snapshots, updates, states and trades, faults of the venues included."""
    remote = await NatsBus.connect(nats_url, no_echo=True)
    linked: list[LinkedBus] = []

    def bus() -> LinkedBus:
        linked.append(LinkedBus(LocalBus(), remote, ("market.",), ()))
        return linked[-1]

    monkeypatch.setattr("aggregator.system.LocalBus", bus)
    inline, standalone = Said(), Said()
    reading = await NatsBus.connect(nats_url)
    service = NormalizerService(Apart(reading, standalone), SYSTEM_CLOCK, "standalone")  # type: ignore[arg-type]
    await service.start()

    # The other normalizer has its table before the first record.
    plain = NormalizerService.set_table

    def both(self: NormalizerService, table: Any) -> None:
        plain(self, table)
        if self is not service:
            plain(service, table)

    monkeypatch.setattr(NormalizerService, "set_table", both)
    async with running(monkeypatch, limits={"audit_s": 3600.0}) as system:
        await linked[0].subscribe(subjects.NORMALIZED_ALL, inline)
        await system.all_live()
        await faults(system)
        await system.all_live()
    await remote.flush()
    await eventually(lambda: counts(inline) == counts(standalone), 10)
    assert sum(counts(inline).values()) > 500
    assert {"snapshot", "update", "state", "trade"} == {
        message["type"] for messages in inline.by_asset.values() for message in messages
    }
    assert dict(inline.by_asset) == dict(standalone.by_asset)
    await service.stop()
    await reading.close()
    await remote.close()


def counts(said: Said) -> dict[str, int]:
    return {asset: len(messages) for asset, messages in said.by_asset.items()}


async def faults(system: System) -> None:
    """Lost, doubled and broken frames, and a reset."""
    for kind in ("drop", "duplicate", "malformed"):
        system.fault(kind, count=2, every=7)
        await asyncio.sleep(0.7)
    system.fault("reset")
    await asyncio.sleep(1.0)
