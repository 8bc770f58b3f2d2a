"""What a feed raises.

WupError
└── FeedError          the feed ended, and trying again would not help
    └── Refused        the gateway answered an operation with an error
"""

from __future__ import annotations

from wup.errors import WupError


class FeedError(WupError):
    """The feed ended, and trying again would not help."""


class Refused(FeedError):
    """The gateway answered an operation with an error of wire.md section 4 rule 7."""

    def __init__(self, code: str, message: str, at: int | None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.at = at
