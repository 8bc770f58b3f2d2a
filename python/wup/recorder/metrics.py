"""What an operator must see of a recorder."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from wup.metrics import REGISTRY

RECORDING = Gauge(
    "wup_recording", "1 while the recorder writes, 0 while its disk refuses.", registry=REGISTRY
)
RECORDED = Counter("wup_recorded_records_total", "Records written to disk.", registry=REGISTRY)
RECORDED_BYTES = Counter("wup_recorded_bytes_total", "Packed bytes written to disk.", registry=REGISTRY)
RECORD_ERRORS = Counter(
    "wup_record_errors_total", "Times that recording had to stop, by reason.", ["why"], registry=REGISTRY
)
DROPPED_QUEUE = "recorder"
"""Label of `wup_dropped_total` for records that never reached the disk."""
