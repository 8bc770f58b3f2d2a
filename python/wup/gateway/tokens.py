"""Who may read what: `TOKENS_FILE`.

The file is JSON, mode 0600, and holds only hashes, so that reading it gives nobody access:

    {"tokens": [{"sha256": "<64 hex digits of SHA-256 of the token>", "scopes": [">"],
                 "expires": 1795357200000000}]}

`scopes` are patterns; `expires` is microseconds since 1970 or absent. It is read again when it changes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from wup import logs
from wup.errors import SettingsError
from wup.gateway import pattern as patterns

if TYPE_CHECKING:
    from wup.gateway.pattern import Pattern

_MAX_FILE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Grant:
    """What one token allows."""

    digest: str
    scopes: tuple[str, ...]
    expires: int | None

    def allows(self, pattern: Pattern) -> bool:
        """Is the pattern inside one of the scopes?"""
        return any(patterns.covers(scope, pattern) for scope in self.scopes)

    def over(self, now_us: int) -> bool:
        """Is it expired?"""
        return self.expires is not None and now_us >= self.expires


class Tokens:
    """The tokens of one file.

    Raises:
        SettingsError: the file is missing, readable by others, or wrong.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp = (0, 0, 0)
        self._grants: dict[str, Grant] = {}
        self._load()

    def find(self, token: str, now_us: int) -> Grant | None:
        """The grant of a token that is known and not expired."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        found: Grant | None = None
        # Every entry is compared, each in constant time: how long this takes tells nothing about the tokens.
        for known, grant in self._grants.items():
            if hmac.compare_digest(known, digest):
                found = grant
        return None if found is None or found.over(now_us) else found

    def valid(self, grant: Grant, now_us: int) -> bool:
        """Is a grant given out earlier still in the file, unchanged, and not expired?"""
        return self._grants.get(grant.digest) == grant and not grant.over(now_us)

    def refresh(self) -> None:
        """Read the file again if it changed. A file that has become wrong revokes everything."""
        try:
            if self._stat() == self._stamp:
                return
            self._load()
        except (OSError, SettingsError) as error:
            if self._grants:
                logs.log("gateway").error("tokens file unusable, all tokens revoked", error=str(error))
            self._grants = {}
            self._stamp = (0, 0, 0)

    def _stat(self) -> tuple[int, int, int]:
        found = os.stat(self._path)
        return (found.st_mtime_ns, found.st_size, found.st_ino)

    def _load(self) -> None:
        try:
            with open(self._path, "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise SettingsError([f"TOKENS_FILE: {self._path} is not a regular file"])
                if found.st_mode & 0o077:
                    raise SettingsError([f"TOKENS_FILE: {self._path} can be read by others; chmod 600 it"])
                body = file.read(_MAX_FILE + 1)
        except OSError as error:
            raise SettingsError([f"TOKENS_FILE: {error}"]) from None
        if len(body) > _MAX_FILE:
            raise SettingsError([f"TOKENS_FILE: {self._path} is larger than 4 MiB"])
        self._grants = _read(body, self._path)
        self._stamp = (found.st_mtime_ns, found.st_size, found.st_ino)


def _read(body: bytes, path: str) -> dict[str, Grant]:
    try:
        entries = orjson.loads(body)["tokens"]
        if not isinstance(entries, list):
            raise TypeError
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise SettingsError([f'TOKENS_FILE: {path} is not {{"tokens": [...]}}']) from None
    problems: list[str] = []
    grants: dict[str, Grant] = {}
    for index, entry in enumerate(entries):
        try:
            grant = _grant(entry)
            grants[grant.digest] = grant
        except ValueError as error:
            problems.append(f"TOKENS_FILE: {path}: entry {index}: {error}")
    if problems:
        raise SettingsError(problems)
    return grants


def _grant(entry: Any) -> Grant:
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    digest = entry.get("sha256")
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ValueError("sha256 is 64 lower-case hex digits")
    scopes = entry.get("scopes", [">"])
    if not isinstance(scopes, list) or not scopes or not all(isinstance(scope, str) for scope in scopes):
        raise ValueError("scopes is a list of patterns")
    for scope in scopes:
        patterns.parse(scope)
    expires = entry.get("expires")
    if expires is not None and type(expires) is not int:
        raise ValueError("expires is microseconds since 1970")
    return Grant(digest, tuple(scopes), expires)
