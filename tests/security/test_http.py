"""Rows H1 to H6 of the security check list, on the gateway, the orderbook service and the event service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import Any

import httpx2
import pytest

from gateway.conftest import Starter
from gateway.engine import Engine
from orderbook.feeding import BOOK
from security.conftest import DATA, Surfaces
from security.doors import local_addresses, rest
from wup import runtime
from wup.access import Access
from wup.clock import ManualClock
from wup.config import Settings
from wup.gateway import Limits
from wup.http_guard import HttpGuard, HttpLimits
from wup.http_server import HttpServer

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "BREW")
SAFE = {"x-content-type-options": "nosniff", "cache-control": "no-store", "referrer-policy": "no-referrer"}


def port_of(client: httpx2.AsyncClient) -> int:
    assert client.base_url.port is not None
    return client.base_url.port


def is_problem(answer: httpx2.Response) -> bool:
    """An RFC 9457 document that names its own status."""
    if answer.request.method == "HEAD":
        return answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    return (
        answer.headers["content-type"] == "application/problem+json"
        and body["status"] == answer.status_code
        and body.keys() >= {"type", "title", "status", "detail"}
    )


async def ask(client: httpx2.AsyncClient, request: bytes) -> bytes:
    """Send bytes, read until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(client))
    writer.write(request.replace(b"HOST", f"127.0.0.1:{port_of(client)}".encode()))
    async with asyncio.timeout(10):
        return await rest(reader, writer)


async def test_h1_methods(surfaces: Surfaces) -> None:
    """Only GET and HEAD are answered (the event service also takes POST and DELETE where it tracks)."""
    for name, client in surfaces.items():
        paths = ["/healthz", DATA[name], "/nothing", "/openapi.json"]
        paths += ["/", "/ws", "/wup.js", "/asyncapi.json"] if name == "gateway" else []
        for path in paths:
            for method in METHODS:
                if method == "CONNECT":
                    continue  # its target is no path
                answer = await client.request(method, path)
                assert answer.status_code < 500 or (name == "gateway" and path == DATA[name]), (
                    name,
                    method,
                    path,
                )
                if method not in ("GET", "HEAD"):
                    assert answer.status_code in (404, 405), (name, method, path)
                if answer.status_code >= 400:
                    assert is_problem(answer), (name, method, path)
        allowed = await client.request("PUT", "/healthz")
        assert allowed.headers["allow"] == "GET"


async def test_h1_head_is_get_without_a_body(surfaces: Surfaces) -> None:
    """HEAD gives the status and headers of GET, the length included, and no byte of body."""
    for name, client in surfaces.items():
        for path in ("/healthz", DATA[name], "/openapi.json", "/nothing"):
            get, head = await client.get(path), await client.head(path)
            assert head.status_code == get.status_code, (name, path)
            assert head.content == b""
            assert head.headers.get("content-length") == get.headers.get("content-length")
            assert head.headers["content-type"] == get.headers["content-type"]
        raw = await ask(client, b"HEAD /healthz HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n")
        assert raw.endswith(b"\r\n\r\n")


async def test_h1_bodies(surfaces: Surfaces) -> None:
    """A body where none belongs is 400; over 4 KiB, by its length or its chunks, 413; 4 KiB is read."""
    for name, client in surfaces.items():
        for method in ("GET", "HEAD", "DELETE"):
            answer = await client.request(method, DATA[name], content=b"x")
            assert answer.status_code == 400, (name, method)
        assert (await client.post("/v1/track", content=b"x" * 4_097)).status_code == 413
        chunked = b"POST /v1/track HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n"
        chunked += b"Transfer-Encoding: chunked\r\n\r\n"
        said = await ask(client, chunked + b"1000\r\n" + b"x" * 4_096 + b"\r\n1\r\ny\r\n0\r\n\r\n")
        assert said.split()[1] == b"413", name
    events = surfaces["events"]
    assert (await events.post("/v1/track", content=b" " * 4_096)).status_code == 400
    for body in (b"", b"{", b"[]", b'{"platform":"kalshi"}', b'{"platform":"kalshi","slug":"x","more":1}'):
        answer = await events.post("/v1/track", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, body
        assert is_problem(answer)


async def test_h1_paths_and_queries(surfaces: Surfaces) -> None:
    """What is wrong in a path or query is a 4xx problem document, never a 5xx, whatever it is."""
    queries = [
        "limit=0", "limit=1001", "limit=-1", "limit=x", "limit=1e3", "limit=" + "9" * 400, "match=a..b",
        "match=", "match=%00", "match=" + "a" * 3_000, "after=%ff%fe", "asset=x",
        "asset=%0d%0aset-cookie:a=b",
        "%", "&&&=",
    ]  # fmt: skip
    paths = [
        "/v1/books/x", "/v1/books/..%2f..%2fetc%2fpasswd", "/v1/books/" + "a" * 3_000, "/v1/books/%00",
        "//v1//books", "/v1/books/a.b.no", "/v1/aggregates/%2e%2e", "/v1/bbo/x", "/v1/events/x/y",
        "/v1/mappings/" + "m" * 65, "/%ff",
    ]  # fmt: skip
    for name in ("orderbook", "events"):
        client = surfaces[name]
        for path in [*(f"{DATA[name]}?{query}" for query in queries), *paths]:
            answer = await client.get(path)
            assert answer.status_code < 500, (name, path)
            if answer.status_code >= 400:
                assert is_problem(answer), (name, path)
                assert "set-cookie" not in answer.headers
    orderbook = surfaces["orderbook"]
    assert (await orderbook.get("/v1/books?limit=1001")).status_code == 400
    assert (await orderbook.get(f"/v1/books/{BOOK}?depth=0")).status_code == 400
    for path in paths:
        assert (await surfaces["gateway"].get(path)).status_code in (200, 400, 404, 502), path


async def test_h1_served_documents_are_obeyed(surfaces: Surfaces) -> None:
    """Every GET of each OpenAPI document answers, and its parameters refuse what the document refuses."""
    for name, client in surfaces.items():
        document = (await client.get("/openapi.json")).json()
        assert document["openapi"].startswith("3.")
        tried = 0
        for path, operations in document["paths"].items():
            for parameter in operations.get("get", {}).get("parameters", []):
                schema: dict[str, Any] = parameter["schema"]
                for bound in [schema, *schema.get("anyOf", [])]:
                    wrong = {"maximum": 1, "minimum": -1}
                    for limit, step in wrong.items():
                        if limit in bound and parameter["in"] == "query" and "{" not in path:
                            value = bound[limit] + step
                            answer = await client.get(path, params={parameter["name"]: value})
                            assert answer.status_code == 400, (name, path, parameter["name"], value)
                            tried += 1
            address = re.sub(r"{\w+(:path)?}", "x", path)
            if "get" in operations:
                answer = await client.get(address)
                assert answer.status_code in (200, 400, 404, 426, 502, 503), (name, address)
        assert tried >= (0 if name == "gateway" else 2)


async def test_h1_large_heads(surfaces: Surfaces, caplog: pytest.LogCaptureFixture) -> None:
    """A request head over 16 KiB is refused, as are heads that are no HTTP, without a line in the log."""
    for name, client in surfaces.items():
        for head in (
            b"GET / HTTP/1.1\r\nConnection: close\r\nHost: HOST\r\nX: " + b"x" * 17_000 + b"\r\n\r\n",
            b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nConnection: close\r\nHost: HOST\r\n\r\n",
            b"GET / HTTP/1.1\r\nConnection: close\r\nHost: HOST\r\n" + b"A: b\r\n" * 4_000 + b"\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
        ):
            said = await ask(client, head)
            assert said[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"HTTP/1.1 421"), (
                name,
                head[:40],
                said[:60],
            )
            assert b"nosniff" in said
            assert b"application/problem+json" in said
        upgrade = b"GET /healthz HTTP/1.1\r\nHost: HOST\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n"
        assert (await ask(client, upgrade)).split()[1] == b"200"
    assert caplog.records == []


async def test_h2_deadlines_and_concurrency() -> None:
    """A slow head, body or application, and too many requests at once: each is cut, the rest goes on."""
    inside = 0
    let_go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal inside
        inside += 1
        if scope["path"] == "/wait":
            await let_go.wait()
        elif scope["path"] == "/never":
            await asyncio.Event().wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    access = Access(("127.0.0.1",), ())
    guard = HttpGuard(app, access, deadline_s=0.5, limits=HttpLimits(http_concurrency=3))
    server = HttpServer(guard, "127.0.0.1", 0, "PORT", receive_s=0.5)
    await server.start()
    client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False)
    host = b" HTTP/1.1\r\nHost: HOST\r\n"
    assert await ask(client, b"GET /x" + host) == b""  # the head never ends
    cut = await ask(client, b"POST /x" + host + b"Content-Length: 10\r\n\r\nab")
    assert cut == b"" or cut.split()[1] == b"504"
    late = await client.get("/never")
    assert (late.status_code, is_problem(late)) == (504, True)
    waiting = [asyncio.create_task(client.get("/wait")) for _ in range(3)]
    before = inside
    while inside < before + 3:
        await asyncio.sleep(0.005)
    over = await client.get("/x")
    assert (over.status_code, is_problem(over)) == (503, True)
    assert int(over.headers["retry-after"]) >= 1
    let_go.set()
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * 3
    assert (await client.get("/x")).status_code == 200
    await client.aclose()
    await server.stop()


async def test_h2_a_reader_that_stops_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not read a long answer loses the connection, and the answer is given up."""
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(2_000):
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
                if (await asyncio.wait_for(receive(), 0.001) if ended.is_set() else {}).get("type"):
                    break
                await asyncio.sleep(0)
        finally:
            ended.set()

    monkeypatch.setattr("wup.http_server.Http.stuck_s", 0.3)
    server = HttpServer(HttpGuard(app, Access(("127.0.0.1",), ())), "127.0.0.1", 0, "PORT")
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1_024)
    writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await reader.readline()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(8):
        await ended.wait()
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    await server.stop()


async def test_h3_headers(surfaces: Surfaces) -> None:
    """Every answer, errors included, has the safe headers and an exact type; no CORS unless configured."""
    for name, client in surfaces.items():
        for path in ("/healthz", "/readyz", DATA[name], "/nothing", "/openapi.json"):
            answer = await client.get(path)
            for header, value in SAFE.items():
                assert answer.headers[header] == value, (name, path, header)
            assert answer.headers["content-type"] in ("application/json", "application/problem+json"), (
                name,
                path,
            )
            assert "server" not in answer.headers
            for origin in ("https://evil.example", "null"):
                refused = await client.get(path, headers={"Origin": origin})
                assert refused.status_code == 403
                assert not any("access-control" in header for header in refused.headers)
                ask_first = {"Origin": origin, "Access-Control-Request-Method": "GET"}
                assert (await client.options(path, headers=ask_first)).status_code == 403
            assert (await client.get(path, headers={"Host": "evil.example"})).status_code == 421


async def test_h3_cors_for_listed_origins(engine: Engine, start: Starter, tmp_path: Any) -> None:
    """A listed origin may read, also with a token: the browser's question beforehand needs none."""
    path = tmp_path / "tokens"
    path.write_text('{"tokens":[]}')
    path.chmod(0o600)
    gateway = await start(Limits(), allowed_origins=("https://app.example",), tokens_file=str(path))
    base = f"http://127.0.0.1:{gateway.port}"
    async with httpx2.AsyncClient(base_url=base, trust_env=False) as client:
        origin = {"Origin": "https://app.example"}
        before = await client.options("/v1/books", headers={**origin, "Access-Control-Request-Method": "GET"})
        assert before.status_code == 204
        assert before.headers["access-control-allow-origin"] == "https://app.example"
        assert before.headers["access-control-allow-methods"] == "GET, HEAD"
        assert "authorization" in before.headers["access-control-allow-headers"]
        refused = await client.get("/v1/books", headers=origin)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://app.example"
        assert refused.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in refused.headers


async def test_h4_rate_per_address() -> None:
    """Beyond 2,000 at once and 1,000 a second an address gets 429 with `Retry-After`; others go on."""
    assert (HttpLimits().http_rate, HttpLimits().http_burst) == (1_000, 2_000)
    clock = ManualClock()
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guard = HttpGuard(app, Access(("h",), (), proxies=("10.9.0.1",)), clock=clock)

    async def get(peer: str, *forwarded: str) -> int:
        statuses: list[int] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                if message["status"] == 429:
                    assert int(dict(message["headers"])[b"retry-after"]) >= 1

        headers = [(b"host", b"h"), *((b"x-forwarded-for", hop.encode()) for hop in forwarded)]
        scope = {"type": "http", "method": "GET", "path": "/healthz", "headers": headers, "client": (peer, 1)}
        await guard(scope, None, send)  # type: ignore[arg-type]
        return statuses[0]

    assert {await get("10.0.0.1") for _ in range(2_000)} == {200}
    assert await get("10.0.0.1") == 429
    assert await get("10.0.0.1", "10.0.0.7") == 429  # who he says he is does not matter
    assert await get("10.0.0.2") == 200
    assert await get("10.9.0.1", "10.0.0.1") == 429  # the proxy is believed
    assert await get("10.9.0.1", "10.0.0.3") == 200
    assert seen[-1] == "10.0.0.3"
    clock.advance(0.5)
    assert {await get("10.0.0.1") for _ in range(500)} == {200}
    assert await get("10.0.0.1") == 429


async def test_h4_rate_at_the_socket(monkeypatch: pytest.MonkeyPatch, engine: Engine, start: Starter) -> None:
    """The settings are what the interface obeys."""
    monkeypatch.setenv("HTTP_RATE", "1")
    monkeypatch.setenv("HTTP_BURST", "3")
    gateway = await start()
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", trust_env=False) as client:
        answers = [await client.get("/healthz") for _ in range(5)]
    assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
    assert answers[4].status_code == 429
    assert is_problem(answers[4])
    assert int(answers[4].headers["retry-after"]) >= 1


async def test_h5_metrics_are_apart_and_local(surfaces: Surfaces) -> None:
    """Metrics have a listener of their own, on this machine whatever BIND_HOST says, without secrets or
    labels that grow; no interface serves them or anything for debugging."""
    for client in surfaces.values():
        for path in ("/metrics", "/debug", "/debug/pprof/", "/config", "/.env", "/server-status"):
            assert (await client.get(path)).status_code == 404, path
    settings = Settings(metrics_port=0, bind_host="0.0.0.0")
    async with runtime.Process(settings, {}) as process:
        port = process.metrics(9090)
        assert local_addresses(port) == ["0100007F"]
        async with httpx2.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    assert "wup_ws_clients" in text
    names = set(re.findall(r'[{,](\w+)="', text))
    grows = {"book", "asset", "client", "connection", "address", "peer", "token", "id", "path", "pattern"}
    assert names & grows == set()
    assert len(text.splitlines()) < 2_000
    assert not re.search(r"KXFED|fed-2026|BEGIN|Bearer|[0-9a-f]{64}", text)


async def test_h6_health_says_only_ok(surfaces: Surfaces) -> None:
    """`/healthz` is one word, and `/readyz` reasons are codes, not texts."""
    for name, client in surfaces.items():
        assert json.loads((await client.get("/healthz")).content) == {"status": "ok"}, name
        ready = await client.get("/readyz")
        reasons = ready.json().get("reasons", [])
        assert all(re.fullmatch(r"[a-z_]+", reason) for reason in reasons), (name, reasons)
