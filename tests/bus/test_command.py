"""Messages as NATS's bytes: what nats-py would write, and nothing that could end a command early."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.protocol import command as theirs

from wup.bus.command import publish_command
from wup.errors import BusError

LIMIT = 1_000_000
TOKEN = st.text("abcXYZ019_-=", min_size=1, max_size=12)
SUBJECT = st.lists(TOKEN, min_size=1, max_size=4).map(".".join)
WORD = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20)


@given(SUBJECT, st.binary(max_size=300), st.none() | SUBJECT)
def test_without_headers_it_is_what_nats_py_writes(subject: str, payload: bytes, reply: str | None) -> None:
    """Byte for byte, up to the spaces that nats-py puts where there is no reply."""
    ours = b"".join(publish_command(subject, payload, None, reply, LIMIT))
    assert ours == theirs.pub_cmd(subject, reply or "", payload).replace(b"  ", b" ", 1)


@given(SUBJECT, st.binary(max_size=300), st.dictionaries(TOKEN, WORD, max_size=5))
def test_with_headers_the_lengths_fit(subject: str, payload: bytes, headers: dict[str, str]) -> None:
    """The sizes in the first line are those of what follows, and each header has a line."""
    line, _, rest = b"".join(publish_command(subject, payload, headers, None, LIMIT)).partition(b"\r\n")
    verb, to, header_size, size = line.decode().split(" ")
    assert (verb, to) == ("HPUB", subject)
    block, body = rest[: int(header_size)], rest[int(header_size) :]
    assert body == payload + b"\r\n"
    assert int(size) == len(block) + len(payload)
    wanted = "NATS/1.0\r\n" + "".join(f"{key}: {value}\r\n" for key, value in headers.items()) + "\r\n"
    assert block.decode() == wanted


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB evil 0", "a\tb", "é", "a\x00"])
def test_a_subject_cannot_end_the_command(subject: str) -> None:
    """White space, control characters and what is not ASCII are refused, in the reply too."""
    for to, reply in ((subject, None), ("a", subject or " ")):
        with pytest.raises(BusError):
            publish_command(to, b"", None, reply, LIMIT)


@pytest.mark.parametrize("value", ["x\r\nWup-N: 7", "x\n", "\r"])
def test_a_header_cannot_add_another(value: str) -> None:
    """Line ends in names or values are refused."""
    for headers in ({"Wup-Conn": value}, {f"Wup{value}": "x"}):
        with pytest.raises(BusError):
            publish_command("a", b"", headers, None, LIMIT)


def test_what_the_server_would_refuse_is_refused_here() -> None:
    """A larger message than the server takes would cost the connection."""
    publish_command("a", b"x" * 100, None, None, 100)
    with pytest.raises(BusError):
        publish_command("a", b"x" * 101, None, None, 100)
    with pytest.raises(BusError):
        publish_command("a", b"x" * 90, {"a": "b"}, None, 100)
