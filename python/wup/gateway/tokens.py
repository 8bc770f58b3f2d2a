"""Which token may read which books: `TOKENS_FILE` (see `wup.access`) with its scopes as patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wup import access
from wup.gateway import pattern as patterns

if TYPE_CHECKING:
    from wup.gateway.pattern import Pattern


@dataclass(frozen=True, slots=True)
class Grant(access.Grant):
    """What one token allows."""

    def allows(self, pattern: Pattern) -> bool:
        """Is the pattern inside one of the scopes?"""
        return any(patterns.covers(scope, pattern) for scope in self.scopes)


def _grant(digest: str, scopes: tuple[str, ...], expires: int | None) -> Grant:
    for scope in scopes:
        patterns.parse(scope)
    return Grant(digest, scopes, expires)


class Tokens(access.TokensFile[Grant]):
    """The tokens of one file.

    Raises:
        SettingsError: the file is missing, readable by others, or wrong.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, _grant)
        self._held: dict[str, int] = {}

    def hold(self, grant: Grant, most: int) -> bool:
        """Count one more connection of this token; False when it has `most` already."""
        held = self._held.get(grant.digest, 0)
        if held >= most:
            return False
        self._held[grant.digest] = held + 1
        return True

    def let_go(self, grant: Grant) -> None:
        """One connection of this token fewer."""
        left = self._held.get(grant.digest, 0) - 1
        if left > 0:
            self._held[grant.digest] = left
        else:
            self._held.pop(grant.digest, None)
