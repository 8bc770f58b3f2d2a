"""The files of this package as what a server answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page needs and nothing else: its own files, and a WebSocket of its own origin."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: `body` bytes, its `Content-Type`, and a strong `ETag`."""

    body: bytes
    content_type: str
    etag: str


def assets() -> dict[str, Asset]:
    """All files by path: `/` is the page, `/wup.js` the client, and so on."""
    found: dict[str, Asset] = {}
    for file in resources.files("wup.web").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES and file.is_file():
            body = file.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            path = "/" if file.name == "index.html" else f"/{file.name}"
            found[path] = Asset(body, _TYPES[suffix], etag)
    return found
