"""Who may come in: tokens, scopes, binding, ports."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.exceptions import InvalidStatus

from gateway.conftest import Opener, Starter, ready
from gateway.engine import FED_25, Engine
from wup.bus import LocalBus
from wup.clock import SYSTEM_CLOCK
from wup.config import Settings
from wup.errors import PortInUse, SettingsError
from wup.gateway import BusSource, Gateway, Limits
from wup.gateway.pattern import covers, parse
from wup.gateway.tokens import Tokens

FULL, FED, OLD = "token-for-everything", "token-for-fed-only", "token-that-is-over"
Writer = Callable[..., Path]


def entry(token: str, scopes: list[str], expires: int | None = None) -> dict[str, Any]:
    """One entry of the file."""
    return {"sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": scopes, "expires": expires}


@pytest.fixture
def tokens_file(tmp_path: Path) -> Writer:
    """Write the file, mode 0600."""

    def write(*entries: dict[str, Any], mode: int = 0o600, body: bytes | None = None) -> Path:
        path = tmp_path / "tokens.json"
        path.write_bytes(orjson.dumps({"tokens": list(entries)}) if body is None else body)
        path.chmod(mode)
        return path

    return write


async def guarded(start: Starter, engine: Engine, path: Path, **limits: Any) -> Gateway:
    gateway = await start(Limits(**limits), tokens_file=str(path))
    engine.marks()
    await ready(gateway)
    return gateway


@pytest.fixture
def usual(tokens_file: Writer) -> Path:
    """Three tokens: everything, one aggregate, expired."""
    return tokens_file(entry(FULL, [">"]), entry(FED, ["fed-2026-12.>"]), entry(OLD, [">"], 1))


async def test_auth_by_message(engine: Engine, start: Starter, dial: Opener, usual: Path) -> None:
    """Without a token nothing but `auth` and `ping` is done; with one, what its scopes cover."""
    client = await dial(await guarded(start, engine, usual))
    assert (await client.op("subscribe", books=[">"]))["code"] == "unauthorized"
    assert (await client.op("list"))["code"] == "unauthorized"
    assert (await client.op("ping"))["type"] == "pong"
    answer = await client.op("auth", token=FED)
    assert answer == {
        "type": "authenticated",
        "id": answer["id"],
        "scopes": ["fed-2026-12.>"],
        "expires": None,
    }
    refused = await client.op("subscribe", books=["fed-2026-12.>", ">"])
    assert (refused["code"], refused["at"]) == ("forbidden", 1)
    assert (await client.op("subscribe", books=["kalshi:KXNBA-LAL"]))["code"] == "forbidden"
    assert (await client.op("list", match=">"))["code"] == "forbidden"
    assert (await client.op("subscribe", books=["fed-2026-12.*.no"]))["matched"] == 2


async def test_auth_by_header(engine: Engine, start: Starter, dial: Opener, usual: Path) -> None:
    """A bearer token in the handshake is as good."""
    gateway = await guarded(start, engine, usual)
    client = await dial(gateway, additional_headers={"Authorization": f"Bearer {FULL}"})
    assert (await client.op("subscribe", books=[">"]))["matched"] == 3


@pytest.mark.parametrize("token", ["wrong", OLD])
async def test_bad_tokens(engine: Engine, start: Starter, dial: Opener, usual: Path, token: str) -> None:
    """An unknown or expired token is answered `unauthorized` and closed 4401."""
    client = await dial(await guarded(start, engine, usual))
    assert (await client.op("auth", token=token))["code"] == "unauthorized"
    await client.until(lambda: client.closed is not None)
    assert client.closed is not None
    assert client.closed[0] == 4401


async def test_no_auth_in_time(engine: Engine, start: Starter, dial: Opener, usual: Path) -> None:
    """A connection that does not authenticate in time is closed 4408."""
    client = await dial(await guarded(start, engine, usual, ws_auth_s=0.2))
    await client.until(lambda: client.closed is not None, 3)
    assert client.closed is not None
    assert client.closed[0] == 4408


async def test_revoked_within_five_seconds(
    engine: Engine, start: Starter, dial: Opener, usual: Path, tokens_file: Writer
) -> None:
    """A token taken out of the file closes its connections 4401 within five seconds; others stay."""
    gateway = await guarded(start, engine, usual)
    gone = await dial(gateway, additional_headers={"Authorization": f"Bearer {FULL}"})
    stays = await dial(gateway, additional_headers={"Authorization": f"Bearer {FED}"})
    tokens_file(entry(FED, ["fed-2026-12.>"]))
    await gone.until(lambda: gone.closed is not None, 5)
    assert gone.closed is not None
    assert gone.closed[0] == 4401
    assert (await stays.op("ping"))["type"] == "pong"


async def test_http_needs_the_token_too(engine: Engine, start: Starter, usual: Path) -> None:
    """With tokens configured the data over HTTP needs one as well; health does not."""
    import httpx2

    gateway = await guarded(start, engine, usual)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", trust_env=False) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/v1/books")).status_code == 401
        narrow = {"Authorization": f"Bearer {FED}"}
        assert (await client.get("/v1/books", headers=narrow)).status_code == 401
        full = {"Authorization": f"Bearer {FULL}"}
        assert (await client.get("/v1/books", headers=full)).status_code == 502


@pytest.mark.parametrize(
    ("body", "mode", "word"),
    [
        (None, 0o640, "chmod 600"),
        (None, 0o604, "chmod 600"),
        (b"{", 0o600, "tokens"),
        (b"[]", 0o600, "tokens"),
        (b'{"tokens":[{"sha256":"abc","scopes":[">"]}]}', 0o600, "entry 0"),
        (b'{"tokens":[7]}', 0o600, "entry 0"),
    ],
)
def test_wrong_files(tokens_file: Writer, body: bytes | None, mode: int, word: str) -> None:
    """A tokens file that others can read, or that is wrong, is refused with the reason."""
    path = tokens_file(entry(FULL, [">"]), mode=mode, body=body)
    with pytest.raises(SettingsError, match=word):
        Tokens(str(path))
    with pytest.raises(SettingsError, match="TOKENS_FILE"):
        Tokens(str(path) + ".missing")


def test_file_that_becomes_wrong_revokes(tokens_file: Writer) -> None:
    """When the file becomes unreadable, no token is valid any more (fail closed)."""
    path = tokens_file(entry(FULL, [">"]))
    tokens = Tokens(str(path))
    grant = tokens.find(FULL, 0)
    assert grant is not None
    path.write_bytes(b"{")
    os.utime(path, ns=(1, 1))
    tokens.refresh()
    assert tokens.find(FULL, 0) is None
    assert not tokens.valid(grant, 0)


@pytest.mark.parametrize(
    ("scope", "pattern", "inside"),
    [
        (">", ">", True),
        (">", "kalshi:KX", True),
        ("a.>", "a.>", True),
        ("a.>", "a.b.yes", True),
        ("a.>", "a.*.no", True),
        ("a.>", ">", False),
        ("a.>", "*.b.yes", False),
        ("a.>", "kalshi:KX", False),
        ("a.b.yes", "a.b.no", True),
        ("a.b.yes", "a.>", False),
        ("*.b.>", "a.b.yes", True),
        ("*.b.>", "a.c.yes", False),
        ("*.*.yes", ">", True),
    ],
)
def test_scopes(scope: str, pattern: str, inside: bool) -> None:
    """A pattern is allowed only when everything it could ever match is inside the scope."""
    assert covers(scope, parse(pattern)) is inside


async def test_other_addresses_need_tokens(bus: LocalBus) -> None:
    """Binding beyond this machine without a tokens file refuses to start."""
    with pytest.raises(SettingsError, match="TOKENS_FILE"):
        Gateway(Settings(ws_port=0, bind_host="0.0.0.0"), bus, BusSource(bus), SYSTEM_CLOCK)


async def test_busy_port(engine: Engine, start: Starter) -> None:
    """A port that is taken is a clear error that names WS_PORT."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUse, match="WS_PORT"):
        await start(ws_port=taken.getsockname()[1])


async def test_listens_on_loopback_only(engine: Engine, start: Starter) -> None:
    """The default address is this machine's only."""
    gateway = await start()
    assert gateway._server.addresses == ["127.0.0.1"]


async def test_draining_refuses(engine: Engine, start: Starter, dial: Opener) -> None:
    """While the gateway stops, new clients get 503."""
    gateway = await start()
    gateway._core.draining = True
    assert "going_away" in gateway.problems()
    with pytest.raises(InvalidStatus) as refused:
        await dial(gateway)
    assert refused.value.response.status_code == 503
    assert int(refused.value.response.headers["Retry-After"]) >= 1


async def test_tokens_never_reach_the_log(
    engine: Engine, start: Starter, dial: Opener, usual: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither tokens nor what clients send appear in the log."""
    gateway = await guarded(start, engine, usual)
    client = await dial(gateway, additional_headers={"Authorization": f"Bearer {FULL}"})
    await client.op("auth", token=FED)
    await client.op("subscribe", books=[FED_25])
    other = await dial(gateway)
    await other.op("auth", token="canary-token-wrong")
    await asyncio.sleep(0)
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert "connected" in text
    for secret in (FULL, FED, "canary-token-wrong", hashlib.sha256(FULL.encode()).hexdigest()):
        assert secret not in text
