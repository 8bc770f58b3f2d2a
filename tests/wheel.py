"""What must be in a built wheel: `python tests/wheel.py WHEEL` (`make wheel` runs it).

Every file of the package, the native core, nothing else; and it works from there, without this checkout.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "python"
BUILT = (".so", ".pyd", ".pyc")

PROBE = """
import sys, wup
from wup.web import assets
from wup.gateway import Gateway
book = wup.OrderBook()
book.set("bid", "0.52", "500", leg="kalshi")
assert str(book.view().best_bid.price) == "0.52", book.view().best_bid
print(wup.__file__)
"""


def problems(wheel: Path) -> list[str]:
    """What is wrong with its list of files."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    core = {name for name in held if name.startswith("wup/_core.") and name.endswith((".so", ".pyd"))}
    wanted = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in BUILT
    }
    found = [f"missing: {name}" for name in sorted(wanted - held)]
    found += [f"does not belong there: {name}" for name in sorted(held - wanted - core)]
    if len(core) != 1:
        found.append(f"one native core, not {sorted(core)}")
    return found


def works(wheel: Path) -> str | None:
    """None, or what goes wrong when it is used from an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        ended = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r})\n{PROBE}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode != 0 or not ended.stdout.startswith(folder):
            return ended.stderr or f"wup came from {ended.stdout}"
    return None


def main(wheel: Path) -> int:
    """Exit code; says what is wrong, or how much is right."""
    found = problems(wheel)
    if not found and (wrong := works(wheel)) is not None:
        found = [wrong]
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        print(f"{wheel.name}: every file of the package and the native core, and it works")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
