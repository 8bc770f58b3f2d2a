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
QUEUE_MESSAGES = Gauge("wup_bus_queue_messages", "Messages that wait.", ["queue"], registry=REGISTRY)
QUEUE_BYTES = Gauge("wup_bus_queue_bytes", "Bytes that wait.", ["queue"], registry=REGISTRY)
QUEUE_AGE = Gauge(
    "wup_bus_queue_age_seconds", "How long the oldest message has waited.", ["queue"], registry=REGISTRY
)
MARKS_LATE = Gauge(
    "wup_marks_late_seconds",
    "Time since the marks of the normalizer that has been silent longest.",
    ["platform"],
    registry=REGISTRY,
)
UNANSWERED = Gauge(
    "wup_unanswered_resyncs", "Legs that wait for a snapshot they asked for.", registry=REGISTRY
)
DISAGREEMENTS = Gauge(
    "wup_mapping_disagreements",
    "Merged books whose venues have disagreed for a minute (docs/mapping.md).",
    ["kind"],
    registry=REGISTRY,
)
DISAGREEMENTS_RAISED = Counter(
    "wup_mapping_disagreements_raised",
    "Disagreements of confirmed legs that have lasted a minute.",
    ["kind"],
    registry=REGISTRY,
)
STORE = Counter(
    "wup_store_messages_total",
    "What the book store counted: messages in, changes out, and messages ignored or bad, holes, panics.",
    ["what"],
    registry=REGISTRY,
)
FOREIGN = Counter(
    "wup_foreign_messages_total",
    "Normalised messages of assets that this shard does not serve, dropped by their subject.",
    registry=REGISTRY,
)
BOOKS = Gauge("wup_books", "Books by state.", ["state"], registry=REGISTRY)
CHANGES = Counter("wup_changes_total", "Consolidated messages published.", ["kind"], registry=REGISTRY)
CLIENTS = Gauge("wup_ws_clients", "Connected WebSocket clients.", registry=REGISTRY)
CLOSED = Counter("wup_ws_closed_total", "WebSocket closes by code.", ["code"], registry=REGISTRY)
REFUSED = Counter("wup_ws_refused_total", "Handshakes refused, by status.", ["status"], registry=REGISTRY)
FAULTS = Counter(
    "wup_ws_errors_total", "Client messages answered with an error, by its code.", ["code"], registry=REGISTRY
)
MIRROR_BROKEN = Counter(
    "wup_mirror_broken_total", "Messages a mirror could not verify.", ["why"], registry=REGISTRY
)
HASH_CHECKS = Counter(
    "wup_hash_checks_total", "Venue book hashes compared.", ["platform", "verdict"], registry=REGISTRY
)

MARKETS_LISTED = Counter(
    "wup_venue_markets_listed_total",
    "Announcements of new markets in the venues' streams, of followed events or not, on every connection.",
    ["platform"],
    registry=REGISTRY,
)


class NativeLatency(Collector):
    """Native histograms of one metric, one per value of its label."""

    def __init__(self, name: str, what: str, label: str) -> None:
        self._name = name
        self._what = what
        self._label = label
        self._histograms: dict[str, Histogram] = {}

    def stage(self, name: str) -> Histogram:
        """The histogram of one label value, in microseconds; made on first use."""
        histogram = self._histograms.get(name)
        if histogram is None:
            histogram = self._histograms[name] = Histogram()
        return histogram

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._what, labels=[self._label])
        for name, histogram in self._histograms.items():
            total = 0
            buckets: list[tuple[str, float]] = []
            for upper_us, count in histogram.buckets():
                total += count
                buckets.append((str(upper_us / 1_000_000), float(total)))
            buckets.append(("+Inf", float(histogram.count())))
            family.add_metric([name], buckets, sum_value=histogram.sum() / 1_000_000)
        yield family


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


LATENCY = NativeLatency("wup_stage_latency_seconds", "Time from input to output of a stage.", "stage")
LOOP_LAG = NativeLatency("wup_loop_lag_seconds", "How late the event loop runs what is due.", "loop")
RESYNC_TIME = NativeLatency(
    "wup_resync_seconds", "From the wish for a snapshot to its arrival, by platform.", "platform"
)
for _latency in (LATENCY, LOOP_LAG, RESYNC_TIME):
    REGISTRY.register(_latency)
