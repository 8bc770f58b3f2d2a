"""Where in a TOML file a value stands: `tomllib` tells no lines, and an error without one costs minutes."""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*(\]\]?)\s*(#.*)?$")
_KEY = re.compile(r"""^\s*([A-Za-z0-9_-]+|"[^"]*"|'[^']*')\s*(?:\.[^=]*)?=""")


def lines_of(text: str) -> dict[Path, int]:
    """Line numbers (from 1) of every table header and key, by the path that a reader of the data walks.

    `("aggregate", 0, "market", 2, "label")` is the label of the third market of the first aggregate. Inline
    tables and arrays are found at the line of their key.
    """
    found: dict[Path, int] = {(): 1}
    counts: dict[Path, int] = {}
    here: Path = ()
    fence: str | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if fence is not None:
            if fence in line:
                fence = None
            continue
        header = _HEADER.match(line)
        if header is not None:
            here = _enter(
                [part.strip().strip("\"'") for part in header[2].split(".")], header[1] == "[[", counts
            )
            found.setdefault(here, number)
            continue
        key = _KEY.match(line)
        if key is not None:
            found.setdefault((*here, key[1].strip("\"'")), number)
        for quotes in ('"""', "'''"):
            if line.count(quotes) % 2 == 1:
                # A text over several lines may hold anything that looks like a header.
                fence = quotes
                break
    return found


def _enter(names: list[str], is_array: bool, counts: dict[Path, int]) -> Path:
    path: Path = ()
    for depth, name in enumerate(names):
        path = (*path, name)
        last = depth == len(names) - 1
        if last and is_array:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def line_at(found: dict[Path, int], path: Path) -> int:
    """The line of the value at `path`, or of the nearest table around it."""
    while path not in found:
        path = path[:-1]
    return found[path]
