"""The conversation on one connection (venue doc section 2): no I/O.

Acknowledgements come in any order and are matched by command id (rule 12). A second subscribe merges into
the subscription that exists (rule 8), so adding never needs the sid; removing and repairing do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from wup.clock import SYSTEM_CLOCK
from wup.errors import VenueMessageError
from wup.venues.base import VenueUnavailable
from wup.venues.kalshi.adapter import BOOK_CHANNEL, PLATFORM, load, sequence_of
from wup.venues.kalshi.auth import KeyUnusable, Signer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wup.clock import Clock
    from wup.venues.kalshi.settings import KalshiSettings

SUBSCRIBE_CHUNK = 500
SNAPSHOT_CHUNK = 250
_QUIET_ACK_FROM = 100
"""Each `ok` lists every ticker of the subscription: left out when that would grow large."""
_TRADES = "trade"
_LIFECYCLE = "market_lifecycle_v2"
_HEAD = 64
"""Market data says its type within this many bytes; only the rest is parsed here."""
# With the key, for `subscribed` names channels within its first bytes too.
_MARKET_DATA = (b'"type":"orderbook_', b'"type":"trade"', b'"type":"market_lifecycle', b'"type":"ticker"')
_TICKER = b'"market_ticker":"'
_SNAPSHOT = b'"type":"orderbook_snapshot"'
_REMEMBERED = 4096

_TERMINAL = (10, 25)
_UNKNOWN_SID = 7
_TIMEOUT = 18
_TOO_MANY_MARKETS = 26
_TOO_MANY_REQUESTS = 27


@dataclass(frozen=True, slots=True)
class _Command:
    command: str
    params: dict[str, Any]


class KalshiSession:
    """Which frames to send, and when."""

    platform = PLATFORM
    heartbeat_s: float | None = 1.0
    """The venue has no application heartbeat; each second one command that it asked to delay may go out."""

    def __init__(self, settings: KalshiSettings, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._clock = clock
        self._signer: Signer | None = None
        self._assets: dict[str, None] = {}
        self._followed: dict[bytes, str] = {}
        self._next_id = 1
        self._pending: dict[int, _Command] = {}
        self._sids: dict[str, int] = {}
        # Markets whose subscription to the books was acknowledged.
        self._confirmed: set[str] = set()
        self._chunk = SUBSCRIBE_CHUNK
        self._removed: dict[str, None] = {}
        self._delayed: deque[_Command] = deque()
        # Markets whose snapshots the venue asked to delay: each once, however often it is repaired meanwhile.
        self._late: dict[str, None] = {}

    async def handshake(self) -> tuple[str, dict[str, str]]:
        """URL and signed headers; also public channels need the signature (rule 1)."""
        settings = self._settings
        if settings.kalshi_api_key_id is None or settings.kalshi_private_key_path is None:
            raise VenueUnavailable(
                "no_credentials", "KALSHI_API_KEY_ID and KALSHI_PRIVATE_KEY_PATH are not both set"
            )
        url = settings.kalshi_ws_url
        if self._signer is None:
            try:
                self._signer = await asyncio.to_thread(
                    Signer, settings.kalshi_api_key_id, settings.kalshi_private_key_path
                )
            except KeyUnusable as error:
                raise VenueUnavailable("no_credentials", str(error)) from None
        # Signing takes milliseconds, which the event loop of all connections does not have.
        headers = await asyncio.to_thread(
            self._signer.headers, "GET", urlsplit(url).path, self._clock.now_us()
        )
        return url, headers

    def open_info(self) -> dict[str, Any]:
        """No frame tells the price mode, so the recording must (rule 6)."""
        return {"use_yes_price": True}

    def opened(self, assets: Sequence[str]) -> list[str]:
        """Subscribe books and trades of `assets`, and the lifecycle of everything."""
        self._assets = {}
        self._followed = {}
        self._next_id = 1
        self._pending = {}
        self._sids = {}
        self._confirmed = set()
        self._removed = {}
        self._delayed.clear()
        self._late = {}
        frames = self._subscribe(assets)
        frames.append(self._frame(_Command("subscribe", {"channels": [_LIFECYCLE]})))
        return frames

    def want(self, assets: Sequence[str]) -> list[str]:
        """Remove what is no longer wanted, add what is new."""
        wanted = dict.fromkeys(assets)
        new = [asset for asset in wanted if asset not in self._assets]
        for asset in [asset for asset in self._assets if asset not in wanted]:
            del self._assets[asset]
            self._confirmed.discard(asset)
            self._followed.pop(asset.encode(), None)
            self._removed[asset] = None
        for asset in new:
            self._removed.pop(asset, None)
        return [*self._remove(), *self._subscribe(new)]

    def repair(self, assets: Sequence[str]) -> list[str]:
        """Ask for snapshots of `assets` within the subscription.

        A market that is not in the subscription would get a snapshot too, and no change after it: such a one
        is subscribed, unless a command on its way does so already.
        """
        mine = [asset for asset in assets if asset in self._assets]
        sid = self._sids.get(BOOK_CHANNEL)
        inside = [asset for asset in mine if sid is not None and asset in self._confirmed]
        frames = [self._frame(_snapshots(sid, chunk)) for chunk in _chunks(inside, SNAPSHOT_CHUNK)]
        known = self._confirmed if sid is not None else set()
        coming = {
            ticker
            for command in (*self._pending.values(), *self._delayed)
            if _subscribes_books(command)
            for ticker in command.params["market_tickers"]
        }
        outside = [asset for asset in mine if asset not in known and asset not in coming]
        return [*frames, *self._subscribe(outside, (BOOK_CHANNEL,))]

    def received(self, raw: bytes) -> list[str]:
        """Acknowledgements and errors; market data is let through unread."""
        head = raw[:_HEAD]
        if any(mark in head for mark in _MARKET_DATA):
            return []
        try:
            frame = load(raw)
        except VenueMessageError:
            return []
        kind, number = frame.get("type"), frame.get("id")
        message = frame.get("msg")
        if kind == "subscribed" and isinstance(message, dict):
            channel, sid = message.get("channel"), message.get("sid")
            if isinstance(channel, str) and type(sid) is int:
                self._sids[channel] = sid
            self._confirm(number)
            return self._remove() if channel in (BOOK_CHANNEL, _TRADES) else []
        if kind == "ok":
            self._confirm(number)
        elif kind == "unsubscribed":
            return self._again(self._forget(sequence_of(frame)[0]))
        elif kind == "error" and isinstance(message, dict):
            command = self._pending.pop(number, None) if type(number) is int else None
            return self._failed(message.get("code"), sequence_of(frame)[0], command)
        return []

    def heartbeat(self) -> str | None:
        """One delayed command, if there is one."""
        if self._delayed:
            return self._frame(self._delayed.popleft())
        sid = self._sids.get(BOOK_CHANNEL)
        late = [asset for asset in self._late if asset in self._confirmed]
        self._late = dict.fromkeys(late[SNAPSHOT_CHUNK:])
        return self._frame(_snapshots(sid, late[:SNAPSHOT_CHUNK])) if late else None

    def asset_of(self, raw: bytes) -> str | None:
        """The followed market of a frame about one market. Answers to commands are about none: they must
        come to `received`."""
        at = raw.find(_TICKER)
        if at < 0 or b'"error"' in raw[:_HEAD]:
            return None
        start = at + len(_TICKER)
        end = raw.find(b'"', start)
        return self._followed.get(raw[start:end]) if end > 0 else None

    def books_of(self, raw: bytes) -> tuple[str, ...]:
        """The market of a snapshot."""
        asset = self.asset_of(raw) if _SNAPSHOT in raw[:_HEAD] else None
        return () if asset is None else (asset,)

    # ----------------------------------------------------------------------------------------------

    def _confirm(self, number: object) -> None:
        command = self._pending.pop(number, None) if type(number) is int else None
        if command is not None and _subscribes_books(command):
            self._confirmed.update(command.params["market_tickers"])

    def _failed(self, code: object, sid: int | None, command: _Command | None) -> list[str]:
        if code in _TERMINAL or code == _UNKNOWN_SID:
            # The subscription is dead (rule 16): all of its channel is subscribed again, with a new sid.
            channel = self._forget(sid) if sid is not None else None
            if channel is None and command is not None:
                named = command.params.get("sids")
                channel = self._forget(named[0]) if isinstance(named, list) and named else None
            if channel is None and code == _UNKNOWN_SID:
                return []
            return self._again(channel) if channel is not None else self._subscribe(list(self._assets))
        if command is None:
            return []
        if code == _TOO_MANY_MARKETS:
            return self._halved(command)
        if code in (_TOO_MANY_REQUESTS, _TIMEOUT):
            if command.params.get("action") == "get_snapshot":
                self._late.update(dict.fromkeys(command.params["market_tickers"]))
            else:
                self._delayed.append(command)
        return []

    def _again(self, channel: str | None) -> list[str]:
        """Subscribe the whole of a channel that the venue ended; None: it was none of ours."""
        if channel is None:
            return []
        if channel == _LIFECYCLE:
            return [self._frame(_Command("subscribe", {"channels": [_LIFECYCLE]}))]
        return self._subscribe(list(self._assets), (channel,))

    def _halved(self, command: _Command) -> list[str]:
        tickers = command.params.get("market_tickers")
        # One market that is refused has no smaller half: it stays without a book, which its deadline shows.
        if not isinstance(tickers, list) or len(tickers) < 2:
            return []
        half = (len(tickers) + 1) // 2
        self._chunk = max(1, min(self._chunk, half))
        return [
            self._frame(_Command(command.command, {**command.params, "market_tickers": part}))
            for part in (tickers[:half], tickers[half:])
        ]

    def _forget(self, sid: int | None) -> str | None:
        for channel, known in self._sids.items():
            if known == sid:
                del self._sids[channel]
                if channel == BOOK_CHANNEL:
                    # The next subscription brings all books by itself.
                    self._confirmed.clear()
                    self._late.clear()
                return channel
        return None

    def _subscribe(
        self, assets: Sequence[str], channels: Sequence[str] = (BOOK_CHANNEL, _TRADES)
    ) -> list[str]:
        self._assets.update(dict.fromkeys(assets))
        self._followed.update((asset.encode(), asset) for asset in assets)
        frames: list[str] = []
        for channel in channels:
            for chunk in _chunks(assets, self._chunk):
                params: dict[str, Any] = {"channels": [channel], "market_tickers": chunk}
                if channel == BOOK_CHANNEL:
                    # Always said: the default is about to change (rule 6).
                    params["use_yes_price"] = True
                if len(self._assets) > _QUIET_ACK_FROM:
                    params["skip_ticker_ack"] = True
                frames.append(self._frame(_Command("subscribe", params)))
        return frames

    def _remove(self) -> list[str]:
        """Delete what is no longer wanted from each channel whose sid is known; else once it is."""
        frames: list[str] = []
        if not self._removed:
            return frames
        channels = (BOOK_CHANNEL, _TRADES)
        if any(channel not in self._sids for channel in channels):
            return frames
        for channel in channels:
            frames.extend(
                self._frame(
                    _Command(
                        "update_subscription",
                        {
                            "action": "delete_markets",
                            "sids": [self._sids[channel]],
                            "market_tickers": chunk,
                        },
                    )
                )
                for chunk in _chunks(list(self._removed), self._chunk)
            )
        self._removed = {}
        return frames

    def _frame(self, command: _Command) -> str:
        number = self._next_id
        self._next_id += 1
        self._pending[number] = command
        if len(self._pending) > _REMEMBERED:
            # Snapshots may be answered without an acknowledgement: what is oldest is forgotten.
            del self._pending[next(iter(self._pending))]
        return orjson.dumps({"id": number, "cmd": command.command, "params": command.params}).decode()


def _snapshots(sid: int | None, assets: list[str]) -> _Command:
    return _Command(
        "update_subscription", {"action": "get_snapshot", "sids": [sid], "market_tickers": assets}
    )


def _subscribes_books(command: _Command) -> bool:
    return command.command == "subscribe" and command.params["channels"] == [BOOK_CHANNEL]


def _chunks(assets: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(assets), size):
        yield list(assets[start : start + size])
