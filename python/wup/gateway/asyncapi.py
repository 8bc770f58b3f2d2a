"""The AsyncAPI document of the WebSocket: what is served at `/asyncapi.json` (wire.md section 4)."""

from __future__ import annotations

from typing import Any

from wup import __version__
from wup.gateway.asyncapi_messages import CLIENT, MESSAGES, SERVER
from wup.gateway.asyncapi_schemas import SCHEMAS

_DESCRIPTION = """\
Verified order books of prediction markets, live. One JSON object per text frame; unknown fields and unknown
`type` values must be ignored. Sub-protocol `wup.v1` (optional), no compression.

A client is exact when it follows the rules of the wire contract: a `snapshot` replaces a book, `delta` and
`status` apply when `prev` fits, the digest is compared after each, and a gap is answered with `resync`.

Close codes: 1002, 1003, 1007, 1009 fix the client; 1011 server fault; 1012 restart; 1013 overloaded; 4400 too
many bad messages; 4401 token missing, bad, expired or revoked; 4403 not allowed any more; 4408 no `auth` or
no `subscribe` in time; 4429 over the message rate; 4490 slow reader; 4491 no pong.
"""

_ANSWERS = {
    "subscribe": ["subscribed", "error"],
    "unsubscribe": ["unsubscribed", "error"],
    "resync": ["resynced", "error"],
    "auth": ["authenticated", "error"],
    "list": ["books", "error"],
    "ping": ["pong", "error"],
}
_CHANNEL = "#/channels/stream"


def document(host: str) -> dict[str, Any]:
    """The whole document; `host` is the name and port under which the gateway was asked."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "WUP gateway",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": host,
                "protocol": "ws",
                "description": "Behind a proxy with TLS the protocol is wss.",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            }
        },
        "channels": {"stream": _channel()},
        "operations": _operations(),
        "components": {
            "messages": MESSAGES,
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Where tokens are asked for: `Authorization: Bearer`, or the `auth` "
                    "message. Never in the address.",
                }
            },
        },
    }


def _channel() -> dict[str, Any]:
    return {
        "address": "/ws",
        "title": "The one stream",
        "servers": [{"$ref": "#/servers/gateway"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in MESSAGES},
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {
                        "Sec-WebSocket-Protocol": {"type": "string", "const": "wup.v1"},
                        "Authorization": {"type": "string", "pattern": "^Bearer .+$"},
                    },
                },
                "bindingVersion": "0.1.0",
            }
        },
    }


def _messages(names: list[str] | tuple[str, ...]) -> list[dict[str, str]]:
    return [{"$ref": f"{_CHANNEL}/messages/{name}"} for name in names]


def _operations() -> dict[str, Any]:
    operations: dict[str, Any] = {
        name: {
            "action": "receive",
            "summary": MESSAGES[name]["summary"],
            "channel": {"$ref": _CHANNEL},
            "messages": _messages([name]),
            "reply": {"channel": {"$ref": _CHANNEL}, "messages": _messages(_ANSWERS[name])},
        }
        for name in CLIENT
    }
    answers = {answer for answers in _ANSWERS.values() for answer in answers}
    operations["stream"] = {
        "action": "send",
        "summary": "What the gateway sends of its own accord.",
        "channel": {"$ref": _CHANNEL},
        "messages": _messages([name for name in SERVER if name not in answers or name == "error"]),
    }
    return operations
