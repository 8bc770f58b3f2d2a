"""Who may ask what: `ALLOWED_HOSTS`, `ALLOWED_ORIGINS`, `TOKENS_FILE` and `TRUSTED_PROXIES`.

The tokens file is JSON, mode 0600, and holds only hashes, so that reading it gives nobody access:

    {"tokens": [{"sha256": "<64 hex digits of SHA-256 of the token>", "scopes": [">"],
                 "expires": 1795357200000000}]}

`scopes` are patterns; `expires` is microseconds since 1970 or absent. It is read again when it changes.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

import orjson

from wup import logs, problem
from wup.clock import SYSTEM_CLOCK
from wup.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi import Response

    from wup.clock import Clock
    from wup.config import Settings

_MAX_FILE = 4 * 1024 * 1024
_REFRESH_S = 2.0
_DEFAULT_PORTS = {"http": 80, "https": 443}
_OPEN = frozenset({"/healthz", "/readyz"})
_EVERYTHING = re.compile(r">|\*\.>|\*\.\*\.(?:>|\*|yes|no)")


# --- tokens ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grant:
    """What one token allows."""

    digest: str
    scopes: tuple[str, ...]
    expires: int | None

    def everything(self) -> bool:
        """Are all books inside one of the scopes?"""
        return any(_EVERYTHING.fullmatch(scope) for scope in self.scopes)

    def over(self, now_us: int) -> bool:
        """Is it expired?"""
        return self.expires is not None and now_us >= self.expires


G = TypeVar("G", bound=Grant)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TokensFile(Generic[G]):
    """The tokens of one file.

    Args:
        make: a grant of a digest, scopes and an expiry; a `ValueError` says what is wrong with them.

    Raises:
        SettingsError: the file is missing, readable by others, or wrong.
    """

    def __init__(self, path: str, make: Callable[[str, tuple[str, ...], int | None], G]) -> None:
        self._path = path
        self._make = make
        self._stamp = (0, 0, 0)
        self._grants: dict[str, G] = {}
        self._load()

    def find(self, token: str, now_us: int) -> G | None:
        """The grant of a token that is known and not expired."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        found: G | None = None
        # Every entry is compared, each in constant time: how long this takes tells nothing about the tokens.
        for known, grant in self._grants.items():
            if hmac.compare_digest(known, digest):
                found = grant
        return None if found is None or found.over(now_us) else found

    def valid(self, grant: G, now_us: int) -> bool:
        """Is a grant given out earlier still in the file, unchanged, and not expired?"""
        return self._grants.get(grant.digest) == grant and not grant.over(now_us)

    def renewed(self, grant: G, now_us: int) -> G | None:
        """What the file now says of the token behind a grant given out earlier; None when it is over."""
        found = self._grants.get(grant.digest)
        return None if found is None or found.over(now_us) else found

    def refresh(self) -> None:
        """Read the file again if it changed. A file that has become wrong revokes everything."""
        try:
            found = os.stat(self._path)
            if (found.st_mtime_ns, found.st_size, found.st_ino) == self._stamp:
                return
            self._load()
        except (OSError, SettingsError) as error:
            if self._grants:
                logs.log("access").error("tokens file unusable, all tokens revoked", error=str(error))
            self._grants = {}
            self._stamp = (0, 0, 0)

    def _load(self) -> None:
        body, found = _private(self._path, "TOKENS_FILE")
        self._grants = self._read(body)
        self._stamp = (found.st_mtime_ns, found.st_size, found.st_ino)

    def _read(self, body: bytes) -> dict[str, G]:
        try:
            entries = orjson.loads(body)["tokens"]
            if not isinstance(entries, list):
                raise TypeError
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise SettingsError([f'TOKENS_FILE: {self._path} is not {{"tokens": [...]}}']) from None
        problems: list[str] = []
        grants: dict[str, G] = {}
        for index, entry in enumerate(entries):
            try:
                grant = self._make(*_entry(entry))
                grants[grant.digest] = grant
            except ValueError as error:
                problems.append(f"TOKENS_FILE: {self._path}: entry {index}: {error}")
        if problems:
            raise SettingsError(problems)
        return grants


def _entry(entry: Any) -> tuple[str, tuple[str, ...], int | None]:
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    digest = entry.get("sha256")
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ValueError("sha256 is 64 lower-case hex digits")
    scopes = entry.get("scopes", [">"])
    if not isinstance(scopes, list) or not scopes or not all(isinstance(scope, str) for scope in scopes):
        raise ValueError("scopes is a list of patterns")
    expires = entry.get("expires")
    if expires is not None and type(expires) is not int:
        raise ValueError("expires is microseconds since 1970")
    return digest, tuple(scopes), expires


def _private(path: str, setting: str) -> tuple[bytes, os.stat_result]:
    """A regular file that only its owner can read."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise SettingsError([f"{setting}: {path} is not a regular file"])
            if found.st_mode & 0o077:
                raise SettingsError([f"{setting}: {path} can be read by others; chmod 600 it"])
            body = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise SettingsError([f"{setting}: {error}"]) from None
    if len(body) > _MAX_FILE:
        raise SettingsError([f"{setting}: {path} is larger than 4 MiB"])
    return body, found


def _without_waiting(path: str, flags: int) -> int:
    """Opening a named pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def read_token(path: str, setting: str) -> str:
    """The one token of a file, mode 0600.

    Raises:
        SettingsError: the file is missing, readable by others, or holds no token; it names `setting`.
    """
    token = _private(path, setting)[0].strip()
    if not re.fullmatch(rb"[!-~]{1,4096}", token):
        raise SettingsError([f"{setting}: {path} is not one token of printable characters"])
    return token.decode("ascii")


# --- requests -------------------------------------------------------------------------------------


class Access:
    """Host and Origin lists, and tokens if there are any.

    Names are compared exactly, without prefix or suffix logic (DNS rebinding, hijacking). `open_paths` need
    no token; `proxies` are believed when they say whom they ask for.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        origins: Sequence[str],
        tokens: TokensFile[Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        *,
        proxies: Sequence[str] = (),
        open_paths: Callable[[str], bool] = _OPEN.__contains__,
    ) -> None:
        self.proxies = tuple(ipaddress.ip_network(proxy, strict=False) for proxy in proxies)
        self._open = open_paths
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(_origin(origin) for origin in origins) - {None}
        self._tokens = tokens
        self._clock = clock
        self._looked = clock.monotonic()

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """What the settings allow.

        Raises:
            SettingsError: TOKENS_FILE cannot be used.
        """
        tokens = None if settings.tokens_file is None else TokensFile(settings.tokens_file, Grant)
        return cls(
            (*settings.allowed_hosts, settings.bind_host),
            settings.allowed_origins,
            tokens,
            proxies=settings.trusted_proxies,
        )

    def host(self, value: str) -> bool:
        """Is this `Host` header one of ours, with or without its port?"""
        wanted = value.strip().lower()
        return wanted in self._hosts or _without_port(wanted) in self._hosts

    def origin(self, value: str, host: str) -> bool:
        """Is this `Origin` the server's own (that of the `Host` asked) or in the list?"""
        wanted = _origin(value)
        if wanted is None:
            return False
        return wanted in self._origins or wanted in (_origin(f"http://{host}"), _origin(f"https://{host}"))

    def listed(self, value: str) -> bool:
        """Is this `Origin` in the list (for CORS, where the own origin needs no permission)?"""
        wanted = _origin(value)
        return wanted is not None and wanted in self._origins

    def refusal(
        self, path: str, headers: Sequence[tuple[bytes, bytes]], *, preflight: bool = False
    ) -> Response | None:
        """Why a request is not answered; None if it is. A browser's `preflight` carries no token."""
        hosts = values(headers, b"host")
        if len(hosts) != 1 or not self.host(hosts[0]):
            return problem.problem(421, "this server is not known by that name; see ALLOWED_HOSTS")
        origins = values(headers, b"origin")
        if origins and (len(origins) > 1 or not self.origin(origins[0], hosts[0])):
            return problem.problem(403, "this origin is not allowed; see ALLOWED_ORIGINS")
        if not preflight and not self._open(path) and not self._known(values(headers, b"authorization")):
            return problem.problem(
                401,
                "a bearer token for everything is needed; see TOKENS_FILE",
                headers={"WWW-Authenticate": "Bearer"},
                title="Unauthorized",
            )
        return None

    def _known(self, values: list[str]) -> bool:
        if self._tokens is None:
            return True
        now = self._clock.monotonic()
        if now - self._looked >= _REFRESH_S:
            self._looked = now
            self._tokens.refresh()
        if len(values) != 1:
            return False
        scheme, _, token = values[0].partition(" ")
        if scheme.lower() != "bearer":
            return False
        grant = self._tokens.find(token.strip(), self._clock.now_us())
        # HTTP answers are not cut to a scope, so only a token for everything may ask.
        return grant is not None and grant.everything()


def client_address(peer: str, forwarded: Sequence[str], proxies: Sequence[Network]) -> str:
    """Whose request this is: the peer's, or what a trusted proxy says, read from the nearest hop back.

    What a client writes into `X-Forwarded-For` by itself stands left of what the first trusted proxy adds,
    so it is never reached.
    """
    address = peer
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    while hops and _within(address, proxies):
        hop = hops.pop()
        try:
            address = str(ipaddress.ip_address(hop))
        except ValueError:
            break
    return address


def _within(address: str, networks: Sequence[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def group(address: str) -> str:
    """What limits per address count by: one IPv6 customer has 2^64 addresses, so those go by their /64."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def values(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """Every value of a header (in lower case), in order."""
    return [value.decode("latin-1") for header, value in headers if header == name]


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and (":" not in name or name.endswith("]")) else host


def _origin(text: str) -> tuple[str, str, int] | None:
    """(scheme, host, port) of an origin, or None when it is not one."""
    try:
        parts = urlsplit(text.strip().lower())
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path or parts.query:
        return None
    if parts.username is not None or parts.fragment:
        return None
    return (parts.scheme, parts.hostname, port)
