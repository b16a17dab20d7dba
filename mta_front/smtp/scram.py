"""SCRAM-SHA-256, the server's side (RFC 5802, RFC 7677): keys, and the four messages.

The server stores neither the password nor anything that logs in elsewhere; the client proves that it knows the
password, and the server that it knows the keys. With -PLUS both proofs also cover the TLS channel (RFC 9266), so
nobody in the middle can pass them on.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from mta_front.smtp import base64text
from mta_front.smtp.errors import BadSyntax
from mta_front.smtp.replies import AUTH_FAILED, AUTH_MALFORMED
from mta_front.smtp.saslprep import prepared_password
from mta_front.smtp.secret import Secret, octets

MIN_ITERATIONS = 4096
"""RFC 7677 §4; clients refuse less."""
DEFAULT_ITERATIONS = 15_000
"""For new keys. Each login costs its client so many hashes, and the server only where it gets the password itself."""
SALT_BYTES = 16
MIN_SALT_BYTES = 8
KEY_BYTES = 32

_TEXT = re.compile(r"SCRAM-SHA-256\$([1-9]\d{3,8}):([^$:]+)\$([^$:]+):([^$:]+)")
_GS2_HEADER = re.compile(r"(n|y|p=[A-Za-z0-9.-]+),(?:a=([^,]+))?,")
_SASLNAME = re.compile(r"(?:[^=,]|=2C|=3D)+")
_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,512}")
_EXTENSIONS = re.compile(r"(?:,[A-Za-ln-z]=[^,\0]+)*")
"""Optional extensions, which whoever does not know them passes over; "m=" is the mandatory kind, and refused."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ScramKeys(Secret):
    """What the server keeps of a password: `salt`, `iterations`, and two keys of 32 octets.

    As text it is what PostgreSQL stores and RFC 5803 describes: SCRAM-SHA-256$iterations:salt$stored_key:server_key.
    Raises ValueError for fewer than 4,096 iterations, a salt under 8 octets, keys of another length.
    """

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    def __post_init__(self) -> None:
        if self.iterations < MIN_ITERATIONS:
            raise ValueError(f"SCRAM keys need {MIN_ITERATIONS} iterations or more, not {self.iterations}")
        if len(self.salt) < MIN_SALT_BYTES:
            raise ValueError(f"SCRAM keys need a salt of {MIN_SALT_BYTES} octets or more")
        if len(self.stored_key) != KEY_BYTES or len(self.server_key) != KEY_BYTES:
            raise ValueError(f"SCRAM-SHA-256 keys have {KEY_BYTES} octets")

    @classmethod
    def of_password(cls, password: str, salt: bytes, iterations: int = DEFAULT_ITERATIONS) -> ScramKeys:
        """The keys of a password (RFC 5802 §3), prepared. `salt`: random octets, fresh for each user.

        Hashes `iterations` times, some 5 ms for 15,000: not for a thread that serves others.
        """
        salted = hashlib.pbkdf2_hmac("sha256", octets(prepared_password(password)), salt, iterations)
        return cls(
            salt, iterations, hashlib.sha256(_hmac(salted, b"Client Key")).digest(), _hmac(salted, b"Server Key")
        )

    @classmethod
    def parse(cls, text: str) -> ScramKeys:
        """The keys from their text. Raises ValueError, without the text in it."""
        match = _TEXT.fullmatch(text)
        parts = [base64text.decoded(part) for part in match.groups()[1:]] if match else []
        if match is None or None in parts:
            raise ValueError("SCRAM keys look like SCRAM-SHA-256$iterations:salt$stored_key:server_key, in Base64")
        salt, stored_key, server_key = (part or b"" for part in parts)
        return cls(salt, int(match[1]), stored_key, server_key)

    def text(self) -> str:
        """As `parse` reads it. Whoever has it can pretend to be this server, and guess passwords at leisure."""
        salt, stored_key, server_key = (base64text.encoded(k) for k in (self.salt, self.stored_key, self.server_key))
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored_key}:{server_key}"

    def matches(self, password: str) -> bool:
        """True if the keys are this password's. Costs what `of_password` does."""
        keys = ScramKeys.of_password(password, self.salt, self.iterations)
        return hmac.compare_digest(keys.stored_key, self.stored_key)


def decoy_keys(secret: bytes, username: str, iterations: int = DEFAULT_ITERATIONS) -> ScramKeys:
    """Keys for a user who is not there, so that a stranger cannot tell by the salt (RFC 5802 §9, DECISIONS W9).

    The same name gets the same salt from every server that shares `secret`; no password fits. `iterations` must be
    what real users have.
    """
    salt, stored_key, server_key = (_hmac(secret, use + octets(username)) for use in (b"salt:", b"stored:", b"server:"))
    return ScramKeys(salt[:SALT_BYTES], iterations, stored_key, server_key)


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """The client's first message. `username` and `authzid` unescaped, not prepared; `authzid` is "" for none."""

    header: str
    bare: str
    username: str
    authzid: str
    nonce: str


def parse_client_first(message: str, *, plus: bool, plus_offered: bool) -> ClientFirst:
    """RFC 5802 §7, client-first-message; `plus`: the mechanism is -PLUS.

    Raises BadSyntax: 501 for what does not parse, 535 for what may not be.
    """
    header, authzid, at = parse_gs2_header(message, plus=plus, plus_offered=plus_offered)
    bare = message[at:]
    attributes = bare.split(",", 2)
    if attributes[0].startswith("m="):  # §5.1: a mandatory extension; we have none
        raise BadSyntax(AUTH_FAILED)
    if len(attributes) < 2 or not attributes[0].startswith("n=") or not attributes[1].startswith("r="):
        raise BadSyntax(AUTH_MALFORMED)
    nonce = attributes[1][2:]
    extensions = "".join(f",{rest}" for rest in attributes[2:])
    if not _NONCE.fullmatch(nonce) or not _EXTENSIONS.fullmatch(extensions):
        raise BadSyntax(AUTH_MALFORMED)
    return ClientFirst(header, bare, _saslname(attributes[0][2:]), authzid, nonce)


def parse_gs2_header(message: str, *, plus: bool = False, plus_offered: bool = False) -> tuple[str, str, int]:
    """RFC 5801 §4: the header, the authzid ("" for none), and where the rest begins. Raises BadSyntax."""
    match = _GS2_HEADER.match(message)
    if not match:
        raise BadSyntax(AUTH_MALFORMED)
    # RFC 5802 §6: "p" belongs to -PLUS and to nothing else, with the one binding that we have; "y" is a client that
    # could bind and saw no -PLUS: if we offered it, somebody in the middle took it away.
    if (match[1] != "p=tls-exporter") if plus else (match[1][0] == "p" or (match[1] == "y" and plus_offered)):
        raise BadSyntax(AUTH_FAILED)
    return match[0], _saslname(match[2]) if match[2] else "", match.end()


class Conversation(Secret):
    """The rest of one exchange, as the server: its two messages, in answer to one client-first message."""

    __slots__ = ("_bare", "_bound", "_nonce", "_server_first")

    def __init__(self, first: ClientFirst, nonce: str, channel_binding: bytes) -> None:
        """`nonce`: ours, random printable ASCII without commas; `channel_binding`: b"" without -PLUS."""
        self._bare = first.bare.encode()
        self._nonce = (first.nonce + nonce).encode("ascii")
        self._bound = base64text.encoded(first.header.encode() + channel_binding).encode("ascii")
        self._server_first = b""

    def invented_salt(self) -> bytes:
        """A salt for a password that is stored with none; as good as our nonce, and new each time."""
        return hashlib.sha256(b"salt:" + self._nonce).digest()[:SALT_BYTES]

    def server_first(self, keys: ScramKeys) -> bytes:
        """RFC 5802 §7, server-first-message."""
        salt = base64text.encoded(keys.salt).encode("ascii")
        self._server_first = b"r=%b,s=%b,i=%d" % (self._nonce, salt, keys.iterations)
        return self._server_first

    def server_final(self, client_final: bytes, keys: ScramKeys) -> bytes | None:
        """server-final-message, in answer to client-final-message: our own proof. None if the client's is none:
        malformed, of another nonce or channel, or of another password.
        """
        without_proof, _, proof_text = client_final.rpartition(b",p=")
        proof = base64text.decoded(proof_text.decode("ascii", "replace"))
        expected = b"c=%b,r=%b" % (self._bound, self._nonce)
        bound = hmac.compare_digest(without_proof[: len(expected)], expected)
        extensions = without_proof[len(expected) :].decode("utf-8", "replace")
        if proof is None or len(proof) != KEY_BYTES or not bound or not _EXTENSIONS.fullmatch(extensions):
            return None
        signed = b",".join((self._bare, self._server_first, without_proof))
        mask = _hmac(keys.stored_key, signed)
        client_key = bytes(one ^ other for one, other in zip(proof, mask, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key):
            return None
        return b"v=" + base64text.encoded(_hmac(keys.server_key, signed)).encode("ascii")


def _saslname(text: str) -> str:
    """RFC 5802 §5.1: "=2C" is a comma, "=3D" an equals sign, and "=" is nothing else."""
    if not _SASLNAME.fullmatch(text):
        raise BadSyntax(AUTH_MALFORMED)
    return text.replace("=2C", ",").replace("=3D", "=")


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
