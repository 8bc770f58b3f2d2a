"""Signed requests, the venue's side: RSA-PSS over timestamp + method + path (venue note, section 1)."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

if TYPE_CHECKING:
    from collections.abc import Mapping

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.AUTO)
KEY_ID = "5f0c6d4e-51b0-4a53-9d2a-77e3a6c1f0de"


class KeyPair:
    """A key made at start: the public half stays here, the private half goes to whoever connects."""

    def __init__(self, *, pem: bytes | None = None, key_id: str = KEY_ID, window_ms: int = 5_000) -> None:
        """A fresh key, or the one of `pem`.

        Raises:
            ValueError: `pem` holds no RSA private key.
        """
        self.key_id = key_id
        self.window_ms = window_ms
        """How far a timestamp may be from now."""
        if pem is None:
            self._private = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        else:
            private = serialization.load_pem_private_key(pem, password=None)
            if not isinstance(private, rsa.RSAPrivateKey):
                raise ValueError("not an RSA key")
            self._private = private
        self._public = self._private.public_key()

    def private_pem(self) -> bytes:
        """The private key as PEM (PKCS#1, as the venue hands it out)."""
        return self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )

    def problem(self, headers: Mapping[str, str], method: str, path: str, now_us: int) -> str | None:
        """Why a request is not authenticated, or None when it is. `headers` has lower-case names."""
        key_id = headers.get("kalshi-access-key", "")
        stamp = headers.get("kalshi-access-timestamp", "")
        signature = headers.get("kalshi-access-signature", "")
        if not key_id or not stamp or not signature:
            return "missing authentication headers"
        if not hmac.compare_digest(key_id.encode(), self.key_id.encode()):
            return "unknown key"
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
            return "bad timestamp"
        if abs(int(stamp) - now_us // 1000) > self.window_ms:
            return "timestamp out of range"
        try:
            raw = base64.b64decode(signature, validate=True)
            self._public.verify(raw, f"{stamp}{method}{path}".encode(), _PSS, hashes.SHA256())
        except (binascii.Error, ValueError, InvalidSignature):
            return "bad signature"
        return None
