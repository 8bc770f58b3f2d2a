"""Every Prometheus metric, declared once.

Cold counters are prometheus_client's; hot counters and latency histograms live in Rust
(`wup._core.Histogram`) and join here through a collector. No book, asset or client ids as labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from wup._core import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

REGISTRY = CollectorRegistry(auto_describe=True)

FRAMES = Counter("wup_frames_total", "Venue frames received.", ["platform"], registry=REGISTRY)
BAD_INPUT = Counter(
    "wup_bad_input_total",
    "Input that could not be used, by stage, platform and kind.",
    ["stage", "platform", "kind"],
    registry=REGISTRY,
)
RESYNCS = Counter(
    "wup_resyncs_total",
    "Legs sent to resync, by hop and reason.",
    ["hop", "platform", "why"],
    registry=REGISTRY,
)
CONNECTIONS = Gauge("wup_venue_connections", "Open venue connections.", ["platform"], registry=REGISTRY)
RECONNECTS = Counter(
    "wup_venue_reconnects_total", "Venue connections opened anew.", ["platform", "why"], registry=REGISTRY
)
BREAKER = Gauge(
    "wup_venue_breaker",
    "Circuit breaker of a venue: 0 closed, 1 half open, 2 open.",
    ["platform"],
    registry=REGISTRY,
)
VERDICTS = Counter(
    "wup_venue_verdicts_total",
    "Decisions of the aggregator about legs, by state and reason.",
    ["platform", "state", "why"],
    registry=REGISTRY,
)
UNPLACED = Gauge(
    "wup_assets_unplaced",
    "Followed assets beyond what the venue's limits allow.",
    ["platform"],
    registry=REGISTRY,
)
AUDITS = Counter(
    "wup_audits_total",
    "Books compared with the venue's REST answer, by verdict.",
    ["platform", "verdict"],
    registry=REGISTRY,
)
DROPPED = Counter("wup_dropped_total", "Messages dropped by a full queue.", ["queue"], registry=REGISTRY)
BOOKS = Gauge("wup_books", "Books by state.", ["state"], registry=REGISTRY)
CHANGES = Counter("wup_changes_total", "Consolidated messages published.", ["kind"], registry=REGISTRY)
CLIENTS = Gauge("wup_ws_clients", "Connected WebSocket clients.", registry=REGISTRY)
CLOSED = Counter("wup_ws_closed_total", "WebSocket closes by code.", ["code"], registry=REGISTRY)
REFUSED = Counter("wup_ws_refused_total", "Handshakes refused, by status.", ["status"], registry=REGISTRY)
MIRROR_BROKEN = Counter(
    "wup_mirror_broken_total", "Messages a mirror could not verify.", ["why"], registry=REGISTRY
)
HASH_CHECKS = Counter(
    "wup_hash_checks_total", "Venue book hashes compared.", ["platform", "verdict"], registry=REGISTRY
)


class StageLatency(Collector):
    """Native latency histograms, one per stage."""

    def __init__(self) -> None:
        self._stages: dict[str, Histogram] = {}

    def stage(self, name: str) -> Histogram:
        """The histogram of one stage, made on first use."""
        histogram = self._stages.get(name)
        if histogram is None:
            histogram = self._stages[name] = Histogram()
        return histogram

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "wup_stage_latency_seconds", "Time from input to output of a stage.", labels=["stage"]
        )
        for name, histogram in self._stages.items():
            total = 0
            buckets: list[tuple[str, float]] = []
            for upper_us, count in histogram.buckets():
                total += count
                buckets.append((str(upper_us / 1_000_000), float(total)))
            buckets.append(("+Inf", float(histogram.count())))
            family.add_metric([name], buckets, sum_value=histogram.sum() / 1_000_000)
        yield family


LATENCY = StageLatency()
REGISTRY.register(LATENCY)


class FanOut(Collector):
    """What the gateway has written: plain integers, because a counter's `inc` costs more than a frame may."""

    def __init__(self) -> None:
        self.frames = 0
        """Book messages, to all clients together."""
        self.writes = 0
        """Transport writes that carried them, and answers."""

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "wup_ws_frames", "Book messages written to WebSocket clients.", value=self.frames
        )
        yield CounterMetricFamily("wup_ws_writes", "Writes to WebSocket clients.", value=self.writes)


FAN_OUT = FanOut()
REGISTRY.register(FAN_OUT)
