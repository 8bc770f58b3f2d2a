"""Settings of the venues: wrong ones are named, all at once, and never show a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from wup.config import load, load_all
from wup.errors import SettingsError
from wup.venues.base import VenueUnavailable
from wup.venues.kalshi.session import KalshiSession
from wup.venues.kalshi.settings import KalshiSettings
from wup.venues.polymarket.settings import PolymarketSettings
from wup.venues.registry import VENUES

if TYPE_CHECKING:
    from pathlib import Path


def test_every_venue_has_working_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing set each venue's settings load, with its production hosts."""
    for name in ("KALSHI_API_KEY_ID", "KALSHI_PRIVATE_KEY_PATH", "KALSHI_WS_URL", "POLYMARKET_WS_URL"):
        monkeypatch.delenv(name, raising=False)
    loaded = load_all({name: venue.settings for name, venue in VENUES.items()})
    assert set(loaded) == {"kalshi", "polymarket"}


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The private key must be a regular file of mode 0600, or nothing starts."""
    pem = tmp_path / "key.pem"
    pem.write_text("secret-content")
    pem.chmod(0o644)
    with pytest.raises(SettingsError, match=r"KALSHI_PRIVATE_KEY_PATH.*chmod 600.*0644") as refused:
        load(KalshiSettings, kalshi_private_key_path=pem)
    assert "secret-content" not in str(refused.value)
    for path, word in ((tmp_path, "regular file"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(SettingsError, match=word):
            load(KalshiSettings, kalshi_private_key_path=path)


def rsa_pem() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("kind", ["text", "ed25519"])
def test_a_file_without_an_rsa_key_is_refused_and_not_shown(tmp_path: Path, kind: str) -> None:
    """What is no RSA private key is a settings error that names the file and not its content."""
    pem = tmp_path / "key.pem"
    if kind == "text":
        pem.write_text("secret-content")
    else:
        pem.write_bytes(
            ed25519.Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    pem.chmod(0o600)
    with pytest.raises(SettingsError, match=r"KALSHI_PRIVATE_KEY_PATH.*key\.pem") as refused:
        load(KalshiSettings, kalshi_api_key_id="id", kalshi_private_key_path=pem)
    assert "secret-content" not in str(refused.value)


async def test_a_key_that_goes_bad_while_running_is_missing_credentials(tmp_path: Path) -> None:
    """A key file that changes under us makes this venue unavailable, and nothing else."""
    pem = tmp_path / "key.pem"
    pem.write_bytes(rsa_pem())
    pem.chmod(0o600)
    session = KalshiSession(load(KalshiSettings, kalshi_api_key_id="id", kalshi_private_key_path=pem))
    pem.write_text("secret-content")
    with pytest.raises(VenueUnavailable) as unavailable:
        await session.handshake()
    assert unavailable.value.why == "no_credentials"
    assert "secret-content" not in str(unavailable.value)


def test_wrong_addresses_and_modes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wrong variable is in the error by its name."""
    monkeypatch.setenv("POLYMARKET_WS_URL", "http://nowhere")
    monkeypatch.setenv("HASH_CHECK", "maybe")
    monkeypatch.setenv("KALSHI_API_URL", "ftp://nowhere")
    with pytest.raises(SettingsError) as refused:
        load_all({"kalshi": KalshiSettings, "polymarket": PolymarketSettings})
    named = "\n".join(refused.value.problems)
    for name in ("POLYMARKET_WS_URL", "HASH_CHECK", "KALSHI_API_URL"):
        assert name in named
