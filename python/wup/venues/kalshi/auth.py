"""Request signing of this venue: RSA-PSS over timestamp, method and path (venue doc section 1)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

if TYPE_CHECKING:
    from pathlib import Path

_PADDING = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)
_HASH = hashes.SHA256()


class KeyUnusable(ValueError):
    """The key file is not what it must be; the text never shows its content."""


def read_key(pem_path: Path) -> rsa.RSAPrivateKey:
    """The RSA private key in a PEM file.

    Raises:
        KeyUnusable: there is none.
    """
    try:
        key = serialization.load_pem_private_key(pem_path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"no readable private key in {pem_path} ({type(error).__name__})") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise KeyUnusable(f"the key in {pem_path} is not an RSA key")
    return key


class Signer:
    """Signs with one private key.

    Raises:
        KeyUnusable: from the constructor, when the file holds no RSA private key without a passphrase.
    """

    __slots__ = ("_key", "_key_id")

    def __init__(self, key_id: str, pem_path: Path) -> None:
        self._key_id = key_id
        self._key = read_key(pem_path)

    def headers(self, method: str, path: str, now_us: int) -> dict[str, str]:
        """The three headers of one request. `path` is the whole path from the root, without query.

        Costs 1-3 ms: not for the event loop.
        """
        timestamp = str(now_us // 1000)
        signature = self._key.sign(f"{timestamp}{method}{path}".encode(), _PADDING, _HASH)
        return {
            "KALSHI-ACCESS-KEY": self._key_id,
            "KALSHI-ACCESS-TIMESTAMP": timestamp,
            "KALSHI-ACCESS-SIGNATURE": base64.b64encode(signature).decode(),
        }
