"""Metrics and health beside each other on one port."""

from __future__ import annotations

import urllib.error
import urllib.request

import orjson
import pytest
from prometheus_client import CollectorRegistry, Counter

from wup.metrics_server import MetricsServer


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_metrics_health_and_readiness(host: str) -> None:
    """`/metrics` renders the registry, `/healthz` is always 200 with the state, `/readyz` is 503 with the
    reasons as long as there are any."""
    registry = CollectorRegistry()
    Counter("made", "Made.", registry=registry).inc()
    reasons = ["bus_disconnected"]
    venues = {"toy": {"breaker": "open"}}
    server = MetricsServer(host, 0, registry, lambda: {"venues": venues}, lambda: reasons)
    base = f"http://{f'[{host}]' if ':' in host else host}:{server.port}"
    try:
        with urllib.request.urlopen(f"{base}/metrics") as answer:
            assert b"made_total 1.0" in answer.read()
        with urllib.request.urlopen(f"{base}/healthz") as answer:
            assert orjson.loads(answer.read()) == {"status": "ok", "reasons": [], "venues": venues}
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{base}/readyz")
        with refused.value as answer:
            assert answer.code == 503
            assert orjson.loads(answer.read())["reasons"] == reasons
        reasons.clear()
        with urllib.request.urlopen(f"{base}/readyz") as answer:
            assert orjson.loads(answer.read())["status"] == "ok"
    finally:
        server.stop()
