"""The import law: data flows one way, stages meet at subjects only (architecture.md section 1)."""

from __future__ import annotations

import ast
from pathlib import Path

import wup

ROOT = Path(wup.__file__).parent
STAGES = {"aggregator", "normalizer", "orderbook", "events", "gateway"}
COMPOSERS = {"cli", "demo", "recorder", "playback", "runtime"}
"""Modules that put stages together."""


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "wup" else ""


def modules() -> list[tuple[str, Path]]:
    return [
        ("wup." + ".".join(file.relative_to(ROOT).with_suffix("").parts), file) for file in ROOT.rglob("*.py")
    ]


def test_no_stage_imports_another() -> None:
    """A stage imports shared modules only."""
    broken = [
        f"{module} imports {target}"
        for module, file in modules()
        if room(module) in STAGES
        for target in imports(file)
        if room(target) in (STAGES | COMPOSERS) - {room(module)}
    ]
    assert broken == []


def test_shared_modules_import_no_stage() -> None:
    """What stages share knows none of them."""
    # The package itself names `replay` for programs, imported when it is called.
    own = STAGES | COMPOSERS | {"sim", "client", "__main__", "__init__"}
    broken = [
        f"{module} imports {target}"
        for module, file in modules()
        if room(module) not in own
        for target in imports(file)
        if room(target) in STAGES | COMPOSERS
    ]
    assert broken == []


def test_simulators_know_no_adapter() -> None:
    """A simulator that shared code with the adapters could not prove them wrong."""
    broken = [
        f"{module} imports {target}"
        for module, file in modules()
        if room(module) == "sim"
        for target in imports(file)
        if room(target) in STAGES | COMPOSERS | {"venues", "client"}
    ]
    assert broken == []


def test_venue_names_stay_in_their_rooms() -> None:
    """A venue's name appears in its folder, in the registration and in the simulators, nowhere else."""
    names = ("kalshi", "polymarket")
    allowed = {"venues", "sim"}
    broken: list[str] = []
    for module, file in modules():
        if room(module) in allowed:
            continue
        tree = ast.parse(file.read_text())
        # A string that stands alone is documentation: of a module, a class, a function or an attribute.
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                lowered = node.value.lower()
                broken += [f"{module}:{node.lineno} {name}" for name in names if name in lowered]
    assert broken == []


def test_rust_files_and_python_files_stay_small() -> None:
    """One noun per file: no source file grows beyond 600 lines."""
    repo = ROOT.parent.parent
    files = [*repo.glob("python/**/*.py"), *repo.glob("rust/**/*.rs"), *repo.glob("tests/**/*.py")]
    long = {str(f.relative_to(repo)): n for f in files if (n := len(f.read_text().splitlines())) > 600}
    assert long == {}
