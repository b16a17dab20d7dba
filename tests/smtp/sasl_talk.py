"""A client's side of SASL, written from the RFCs and from nothing of ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any

from mta_front.smtp import sasl
from mta_front.smtp.credentials import Credentials
from mta_front.smtp.replies import Reply

NONCE = "fyko+d2lbbFgONRv9qkxdawL"
HOST = "mx.example"
CHANNEL = bytes(range(32))
"""What both ends of one TLS session export."""
SALT = b"0123456789abcdef"


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def exchange(mechanism: str, **facts: Any) -> sasl.Exchange:
    """One AUTH command. -PLUS has its channel binding, and EXTERNAL its certificate, unless said otherwise."""
    plus = mechanism.endswith("-PLUS")
    identity = "client.example" if mechanism == "EXTERNAL" else None
    known: dict[str, Any] = {"nonce": NONCE, "host": HOST, "plus_offered": plus, "certificate_identity": identity}
    known["channel_binding"] = CHANNEL if plus else None
    return sasl.Exchange(mechanism, **{**known, **facts})


def after(mechanism: str, *answers: bytes | str | None, **facts: Any) -> sasl.Outcome:
    """The outcome when the client sends these, the first with AUTH (None: nothing with it). Each is sent in Base64."""
    ours = exchange(mechanism, **facts)
    first, *rest = answers
    outcome = ours.begin(None if first is None else b64(first) or "=")
    for answer in rest:
        assert isinstance(outcome, sasl.Challenge), outcome
        assert answer is not None
        outcome = ours.respond(b64(answer))
    return outcome


def credentials(mechanism: str, *answers: bytes | str | None, **facts: Any) -> Credentials:
    outcome = after(mechanism, *answers, **facts)
    assert isinstance(outcome, sasl.Ready), outcome
    return outcome.credentials


def refusal(mechanism: str, *answers: bytes | str | None, **facts: Any) -> Reply:
    outcome = after(mechanism, *answers, **facts)
    assert isinstance(outcome, sasl.Refused), outcome
    return outcome.reply


class ScramClient:
    """RFC 5802 §3 and §7, in one place and plainly."""

    def __init__(self, password: str, *, header: str = "n,,", name: str = "user", channel: bytes = b"") -> None:
        self.password = password
        self.header = header
        self.channel = channel
        self.nonce = "rOprNGfwEbeRWgbNEkqO"
        escaped = name.replace("=", "=3D").replace(",", "=2C")
        self.bare = f"n={escaped},r={self.nonce}"
        self.extensions = ""
        """After the nonce of the final message, with its comma; signed."""
        self.server_signature = b""
        self.heard: list[bytes] = []

    def first(self) -> str:
        return self.header + self.bare

    def final(self, server_first: bytes) -> bytes:
        fields: Mapping[str, str] = dict(field.split("=", 1) for field in server_first.decode().split(","))
        assert fields["r"].startswith(self.nonce)
        assert len(fields["r"]) > len(self.nonce)
        salt = base64.b64decode(fields["s"])
        block = accumulated = hmac.new(self.password.encode(), salt + b"\0\0\0\1", "sha256").digest()
        for _ in range(int(fields["i"]) - 1):  # Hi(), by hand
            block = hmac.new(self.password.encode(), block, "sha256").digest()
            accumulated = _xor(accumulated, block)
        client_key = hmac.new(accumulated, b"Client Key", "sha256").digest()
        without_proof = f"c={b64(self.header.encode() + self.channel)},r={fields['r']}{self.extensions}"
        message = f"{self.bare},{server_first.decode()},{without_proof}".encode()
        signature = hmac.new(hashlib.sha256(client_key).digest(), message, "sha256").digest()
        server_key = hmac.new(accumulated, b"Server Key", "sha256").digest()
        self.server_signature = hmac.new(server_key, message, "sha256").digest()
        return f"{without_proof},p={b64(_xor(client_key, signature))}".encode()

    def ask(self, challenge: bytes) -> bytes:
        """As `Credentials.ask`: its final message first, then "" to a server that has proved itself."""
        self.heard.append(challenge)
        if len(self.heard) == 1:
            return self.final(challenge)
        assert challenge == b"v=" + b64(self.server_signature).encode()
        return b""


def answering(*answers: bytes) -> Callable[[bytes], bytes]:
    """An `ask` that knows beforehand."""
    left = list(answers)
    return lambda _challenge: left.pop(0)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
