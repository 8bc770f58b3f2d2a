"""What every catalogue needs of HTTP: rate limit, `Retry-After`, retries, and JSON read exactly.

Numbers with a fraction or an exponent come out as `decimal.Decimal`, never as a float, so that a tick of
`0.001` is the text `0.001` again (`number_text`).
"""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import httpx2
import orjson

from wup import backoff
from wup.clock import SYSTEM_CLOCK
from wup.mapping.catalogue import CatalogueError, EventNotFound, EventUnreadable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from wup.clock import Clock

_ATTEMPTS = 3
_PATIENCE_S = 5.0
"""A longer `Retry-After` is the caller's business: it has last good data to serve meanwhile."""
_MAX_BYTES = 32 * 1024 * 1024
_INLINE_BYTES = 32 * 1024
_LONGEST_S = 3600.0
"""However long a venue says to wait: `Retry-After: inf` must not end discovery."""
_MAX_DIGITS = 100
"""Token ids have 78; what is longer is no number of a venue."""
_REFUSED = (401, 403, 407, 451)
"""Answers about who asks, not about what is asked for: the venue as a whole does not serve us."""
_MICROSECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TokenBucket:
    """`rate` requests a second on average, `burst` at once; `pause` holds everybody back."""

    def __init__(self, rate: float, burst: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._clock = clock
        self._at = clock.monotonic()
        self._not_before = 0.0
        self._turn = asyncio.Lock()

    def pause(self, seconds: float) -> None:
        """No request for `seconds` from now."""
        self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    async def take(self) -> None:
        """Wait for one token; first come, first served."""
        async with self._turn:
            while True:
                now = self._clock.monotonic()
                self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
                self._at = now
                held = self._not_before - now
                if held <= 0 and self._tokens >= 1:
                    self._tokens -= 1
                    return
                await asyncio.sleep(max(held, (1 - self._tokens) / self._rate, 0.001))


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    # Reading the certificates takes 50 ms: once is enough for all clients.
    return httpx2.create_ssl_context()


class RestClient:
    """Requests to one venue's REST API.

    Args:
        platform: the venue's short name, for error texts.
        base_url: scheme, host and path prefix.
        rate, burst: the token bucket, requests per second and at once.
    """

    def __init__(
        self,
        platform: str,
        base_url: str,
        *,
        rate: float,
        burst: int,
        clock: Clock = SYSTEM_CLOCK,
        timeout: float = 10.0,
    ) -> None:
        self.platform = platform
        self._base = base_url.rstrip("/")
        self._bucket = TokenBucket(rate, burst, clock)
        self._clock = clock
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(timeout, connect=min(timeout, 5.0)),
            headers={"accept": "application/json", "user-agent": "wup"},
            follow_redirects=False,
            verify=_tls(),
        )

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """The JSON body of a GET.

        Raises:
            EventNotFound: 404.
            EventUnreadable: an answer that cannot be used.
            CatalogueError: no answer after retries; `retry_after` where the venue said when.
        """
        answer, _ = await self.fetch("GET", path, params=tuple((params or {}).items()), read=read_json)
        return answer

    async def fetch(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        sign: Callable[[], Awaitable[dict[str, str]]] | None = None,
        read: Callable[[bytes], Any] = orjson.loads,
    ) -> tuple[Any, Mapping[str, str]]:
        """The JSON body, read by `read`, and the headers of an answer.

        Args:
            sign: headers for one attempt, made anew for each.

        Raises:
            EventNotFound: 404.
            EventUnreadable: an answer that cannot be used.
            CatalogueError: no answer after retries; `retry_after` where the venue said when.
        """
        problem = CatalogueError(f"{self.platform}: no answer")
        for attempt in range(_ATTEMPTS):
            await self._bucket.take()
            try:
                headers = {} if sign is None else await sign()
                return await self._once(method, path, params, body, headers, read)
            except EventNotFound:
                raise
            except _Retry as retry:
                problem = CatalogueError(f"{self.platform}: {retry.detail}", retry.after)
                if retry.after is not None:
                    self._bucket.pause(min(retry.after, _PATIENCE_S))
                    if retry.after > _PATIENCE_S:
                        break
                elif attempt < _ATTEMPTS - 1:
                    await asyncio.sleep(backoff.full_jitter(attempt, random.uniform, cap=2.0))
        raise problem

    async def _once(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, str]],
        content: bytes | None,
        headers: dict[str, str],
        read: Callable[[bytes], Any],
    ) -> tuple[Any, Mapping[str, str]]:
        url = self._base + path
        if content is not None:
            headers = {**headers, "content-type": "application/json"}
        try:
            async with self._client.stream(
                method, url, params=list(params), content=content, headers=headers
            ) as response:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise EventUnreadable(f"{self.platform}: {path}: answer over {_MAX_BYTES} bytes")
                status = response.status_code
                retry_after = response.headers.get("retry-after")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise _Retry(f"{path}: {error!r}", None) from error
        if status == 404:
            raise EventNotFound(f"{self.platform}: {path}: not found")
        if status in (425, 429) or status >= 500:
            raise _Retry(f"{path}: HTTP {status}", self._after(retry_after, bytes(body)))
        if 400 <= status < 500 and status not in _REFUSED:
            raise EventUnreadable(f"{self.platform}: {path}: HTTP {status}")
        if status != 200:
            raise CatalogueError(f"{self.platform}: {path}: HTTP {status}")
        try:
            if len(body) > _INLINE_BYTES:
                # An event of 2 MB takes 50 ms to read; in another thread nobody else waits for more than a
                # switch of threads.
                return await asyncio.to_thread(read, bytes(body)), response.headers
            return read(bytes(body)), response.headers
        except ValueError as error:
            raise EventUnreadable(f"{self.platform}: {path}: not JSON: {error}") from error

    def _after(self, header: str | None, body: bytes) -> float | None:
        """Seconds to wait: the header (seconds or a date), or the body's `retry_after_seconds`."""
        if header is None:
            try:
                said = read_json(body)
            except ValueError:
                return None
            header = number_text(said.get("retry_after_seconds")) if isinstance(said, dict) else None
            if header is None:
                return None
        try:
            return min(max(0.0, float(header)), _LONGEST_S)
        except ValueError:
            pass
        try:
            wait = parsedate_to_datetime(header).timestamp() - self._clock.now_us() / _MICROSECOND
            return min(max(0.0, wait), _LONGEST_S)
        except (ValueError, OverflowError):
            return None

    async def close(self) -> None:
        """Release connections."""
        await self._client.aclose()


class _Retry(Exception):
    """Try again, after `after` seconds where the venue said so."""

    def __init__(self, detail: str, after: float | None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.after = after


# --- exact JSON -----------------------------------------------------------------------------------


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _integer(digits: str) -> int | Decimal:
    # orjson writes integers of 64 bits only; longer ones (token ids sent as numbers) travel as decimals.
    return int(digits) if len(digits) <= 18 else Decimal(digits)


def read_json(text: str | bytes) -> Any:
    """JSON with fractions as `Decimal`; `NaN` and `Infinity` are refused.

    Raises:
        ValueError: not JSON, not UTF-8, or nested too deep.
    """
    try:
        return json.loads(text, parse_float=Decimal, parse_int=_integer, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None


def write_json(value: object) -> bytes:
    """The inverse of `read_json`: decimals are written as the numbers they were, digit by digit."""
    return orjson.dumps(value, default=_decimal)


def _decimal(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} has no JSON form")


def number_text(value: object) -> str | None:
    """A JSON number, or a string that holds one, as shortest exact decimal text; else None.

    `0.0010` and `1e-3` give `"0.001"`; booleans, `""`, None and text that is no number give None.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    if not number.is_finite() or len(number.as_tuple().digits) > _MAX_DIGITS:
        return None
    if abs(number.adjusted()) > _MAX_DIGITS:
        return None
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def listed(value: object) -> list[Any] | None:
    """A list, or a string that holds a JSON list (some venues send both); else None."""
    if isinstance(value, str):
        try:
            value = read_json(value)
        except ValueError:
            return None
    return value if isinstance(value, list) else None


def text(value: object) -> str:
    """A string as it is, everything else as the empty string."""
    return value if isinstance(value, str) else ""


def time_us(value: object) -> int | None:
    """An ISO 8601 time as microseconds since 1970 UTC; None when absent or not a time."""
    if not isinstance(value, str) or not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * _MICROSECOND + since.microseconds
