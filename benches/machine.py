"""The machine a figure was measured on, in one line."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path


def machine() -> str:
    """Processor, cores, kernel, Python."""
    model = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    load = os.getloadavg()[0]
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {python}, load {load:.1f}"


def wakes(seconds: float = 2.0) -> str:
    """How late a sleeper is woken that wants to be every half millisecond, on each core: what no latency that
    is measured here can be better than, the kernel's slack of 50 us and other guests of the host included."""
    mine = os.sched_getaffinity(0)
    found = []
    try:
        for core in sorted(mine):
            os.sched_setaffinity(0, {core})
            found.append(f"core {core} " + _late(seconds / len(mine)))
    finally:
        os.sched_setaffinity(0, mine)
    return "a sleeper wakes late by (p50/p99/p99.9/max, us): " + "; ".join(found)


def _late(seconds: float) -> str:
    late = []
    due = time.perf_counter()
    for _ in range(max(1, round(seconds / 0.0005))):
        due = max(due + 0.0005, time.perf_counter())
        time.sleep(max(0.0, due - time.perf_counter()))
        late.append(time.perf_counter() - due)
    late.sort()
    at = [late[min(len(late) - 1, int(len(late) * share))] for share in (0.5, 0.99, 0.999, 1.0)]
    return "/".join(f"{1e6 * value:.0f}" for value in at)
