"""How examples/recording came to be: `wup up` against the simulators, with faults, stopped once in between.

    python examples/make_recording.py FOLDER

Run it to get another one: the market is the same (SIM_SEED), the times are not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

FAULTS = (
    {"kind": "skip_seq", "venue": "kalshi"},
    {"kind": "drop", "venue": "polymarket"},
    {"kind": "malformed", "venue": "kalshi"},
    {"kind": "reset", "venue": "polymarket"},
)
PORTS = ("METRICS_PORT", "ORDERBOOK_HTTP_PORT", "EVENTS_HTTP_PORT", "WS_PORT")


def started(*arguments: str, env: dict[str, str]) -> tuple[subprocess.Popen[str], dict[str, object]]:
    """A `wup` command, and the line that it prints when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wup", *arguments, "--json"],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def stop(process: subprocess.Popen[str]) -> None:
    """As Ctrl-C does."""
    process.terminate()
    process.wait(20)


def main(folder: str) -> None:
    """Record about twenty seconds into `folder`."""
    with tempfile.TemporaryDirectory() as scratch:
        mapping = Path(scratch) / "sim.toml"
        sims, said = started(
            "sim", "both", "--mapping", str(mapping), env={"SIM_SEED": "5", "SIM_RATE": "40"}
        )
        where = said["env"]
        assert isinstance(where, dict)
        env = {
            **where,
            **dict.fromkeys(PORTS, "0"),
            "MAPPINGS": str(mapping),
            "RECORD_DIR": folder,
            "RECORD_SEGMENT_SIZE": "64KiB",
        }
        try:
            up, _ = started("up", env=env)
            time.sleep(6)
            for fault in FAULTS:
                request = urllib.request.Request(
                    f"{said['control']}/faults",
                    data=json.dumps(fault).encode(),
                    headers={"Content-Type": "application/json"},
                )
                urllib.request.urlopen(request, timeout=5).close()
                time.sleep(1)
            time.sleep(3)
            stop(up)
            time.sleep(3)
            up, _ = started("up", env=env)
            time.sleep(6)
            stop(up)
        finally:
            stop(sims)


if __name__ == "__main__":
    main(sys.argv[1])
