"""Stored passwords: `{SCHEME}text`, in the words of Dovecot where Dovecot has one, and of passlib for scrypt.

| scheme | text | cost of one check |
|---|---|---|
| ARGON2ID | `$argon2id$v=19$m=19456,t=2,p=1$salt$hash` (RFC 9106) | some 25 ms and 19 MiB |
| SCRYPT | `$scrypt$ln=15,r=8,p=1$salt$hash` (RFC 7914) | some 90 ms and 32 MiB |
| BLF-CRYPT | `$2b$12$…`, `$2a$…`, `$2y$…` (bcrypt; only 72 octets of a password count) | some 200 ms |
| SCRAM-SHA-256 | `iterations,salt,stored key,server key`, or as RFC 5803 writes it | some 5 ms |
| PLAIN | the password | nothing |

Passwords are prepared with SASLprep first (RFC 4616 §2), here and when they are made. Checks are slow by intent and let
go of the interpreter lock meanwhile: they belong into threads (`offload`). Nothing in here prints or raises a password
or a hash. A stored password may cost only so much: whoever can write one must not be able to fill the memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from abc import ABC, abstractmethod
from typing import ClassVar

import bcrypt
from argon2.exceptions import Argon2Error, VerifyMismatchError
from argon2.low_level import Type, hash_secret, verify_secret

from mta_front.smtp import base64text
from mta_front.smtp.saslprep import prepared_password
from mta_front.smtp.scram import SALT_BYTES, ScramKeys
from mta_front.smtp.secret import Secret, octets, same

MAX_MEMORY_BYTES = 1 << 30  # of one check
MAX_ROUNDS = 1 << 6  # argon2's passes and lanes, scrypt's p
MAX_BCRYPT_COST = 16  # 3 s
MAX_ITERATIONS = 1 << 21
ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, ARGON2_HASH_BYTES = 19_456, 2, 1, 32
BCRYPT_COST = 12
BCRYPT_OCTETS = 72
SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P = 15, 8, 1

_SCHEME = re.compile(r"\{([A-Za-z0-9.-]{1,32})\}")


class CheckFailed(Exception):
    """A password could not be checked."""


class Password(Secret, ABC):
    """One stored password."""

    __slots__ = ("_text",)

    scheme: ClassVar[str]
    slow: ClassVar[bool] = True

    def __init__(self, text: str) -> None:
        """`text` without its `{SCHEME}`. Raises ValueError, without the text in it."""
        self._check(text)
        self._text = text

    def __str__(self) -> str:
        return repr(self)

    def stored(self) -> str:
        """As `parse` reads it. A secret."""
        return f"{{{self.scheme}}}{self._text}"

    @classmethod
    @abstractmethod
    def of(cls, password: str) -> Password:
        """A new one, with the parameters of this module. Slow."""

    @staticmethod
    @abstractmethod
    def _check(text: str) -> None:
        """Raise ValueError unless the text is one of this scheme."""

    @abstractmethod
    def matches(self, password: str) -> bool:
        """Whether it is this password. Takes its time, whatever the answer. Raises `CheckFailed`, MemoryError."""

    @abstractmethod
    def decoy(self) -> Password:
        """One that costs the same and that nothing matches, for users who are not there."""

    @property
    def keys(self) -> ScramKeys | None:
        """The SCRAM keys, where it consists of them."""
        return None

    @property
    def plain(self) -> str:
        """The password itself where it is stored; else ""."""
        return ""


class Argon2id(Password):
    """ARGON2ID."""

    __slots__ = ()
    scheme = "ARGON2ID"
    _FORM = re.compile(
        r"\$argon2id\$v=19\$m=([1-9]\d{0,7}),t=([1-9]\d{0,2}),p=([1-9]\d{0,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{16,86})"
    )

    @classmethod
    def of(cls, password: str) -> Argon2id:
        """19 MiB, two passes, one lane, as OWASP recommends: mail programs log in again and again."""
        encoded = hash_secret(
            octets(prepared_password(password)),
            secrets.token_bytes(SALT_BYTES),
            ARGON2_PASSES,
            ARGON2_MEMORY_KIB,
            ARGON2_LANES,
            ARGON2_HASH_BYTES,
            Type.ID,
        )
        return cls(encoded.decode("ascii"))

    @staticmethod
    def _check(text: str) -> None:
        match = Argon2id._FORM.fullmatch(text)
        if not match:
            raise ValueError("must look like {ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$salt$hash")
        memory_kib, passes, lanes = map(int, match.groups()[:3])
        if memory_kib * 1024 > MAX_MEMORY_BYTES or passes > MAX_ROUNDS or lanes > MAX_ROUNDS or memory_kib < 8 * lanes:
            raise ValueError(f"has m, t or p out of bounds: m=8·p to {MAX_MEMORY_BYTES >> 10}, t and p to {MAX_ROUNDS}")

    def matches(self, password: str) -> bool:
        """By argon2-cffi."""
        try:
            return verify_secret(self._text.encode("ascii"), octets(prepared_password(password)), Type.ID)
        except VerifyMismatchError:
            return False
        except Argon2Error as error:  # no memory, above all; it does not mean that the password is wrong
            raise CheckFailed(type(error).__name__) from None

    def decoy(self) -> Argon2id:
        """The parameters and salt, another hash."""
        head, _, hashed = self._text.rpartition("$")
        random = base64.b64encode(secrets.token_bytes(len(hashed) * 3 // 4)).decode("ascii").rstrip("=")
        return Argon2id(f"{head}${random}")


class Bcrypt(Password):
    """BLF-CRYPT."""

    __slots__ = ()
    scheme = "BLF-CRYPT"
    _FORM = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
    _HEAD = len("$2b$12$") + 22

    @classmethod
    def of(cls, password: str) -> Bcrypt:
        """Raises ValueError for a password whose end would not count."""
        secret = octets(prepared_password(password))
        if len(secret) > BCRYPT_OCTETS or b"\0" in secret:
            raise ValueError(f"bcrypt takes passwords of up to {BCRYPT_OCTETS} octets, without NUL")
        return cls(bcrypt.hashpw(secret, bcrypt.gensalt(BCRYPT_COST)).decode("ascii"))

    @staticmethod
    def _check(text: str) -> None:
        match = Bcrypt._FORM.fullmatch(text)
        if not match:
            raise ValueError("must look like {BLF-CRYPT}$2b$12$ and 53 letters, digits, dots and slashes")
        if not 4 <= int(match[1]) <= MAX_BCRYPT_COST:
            raise ValueError(f"has its cost out of bounds: 04 to {MAX_BCRYPT_COST}")

    def matches(self, password: str) -> bool:
        """By bcrypt, with as much of the password as every other implementation takes."""
        secret = octets(prepared_password(password))[:BCRYPT_OCTETS]
        try:
            return bcrypt.checkpw(secret, self._text.encode("ascii"))
        except ValueError:  # a salt with stray bits at its end
            return False

    def decoy(self) -> Bcrypt:
        """The cost and salt, a hash that is nobody's."""
        return Bcrypt(self._text[: self._HEAD] + "." * 31)


class Scrypt(Password):
    """SCRYPT."""

    __slots__ = ()
    scheme = "SCRYPT"
    _FORM = re.compile(
        r"\$scrypt\$ln=([1-9]\d?),r=([1-9]\d?),p=([1-9]\d?)\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
    )

    @classmethod
    def of(cls, password: str) -> Scrypt:
        """N = 2¹⁵, r = 8, p = 1: 32 MiB."""
        salt = secrets.token_bytes(SALT_BYTES)
        made = _scrypt(password, salt, SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P, 32)
        return cls(f"$scrypt$ln={SCRYPT_LOG_N},r={SCRYPT_R},p={SCRYPT_P}${_unpadded(salt)}${_unpadded(made)}")

    @staticmethod
    def _check(text: str) -> None:
        match = Scrypt._FORM.fullmatch(text)
        if not match:
            raise ValueError("must look like {SCRYPT}$scrypt$ln=15,r=8,p=1$salt$hash")
        log_n, r, p = map(int, match.groups()[:3])
        if 128 * r * (1 << log_n) > MAX_MEMORY_BYTES or p > MAX_ROUNDS:
            raise ValueError(f"has ln, r or p out of bounds: {MAX_MEMORY_BYTES >> 20} MiB, p to {MAX_ROUNDS}")
        _padded(match[4])
        _padded(match[5])

    def matches(self, password: str) -> bool:
        """By OpenSSL."""
        match = self._FORM.fullmatch(self._text)
        assert match is not None
        log_n, r, p = map(int, match.groups()[:3])
        hashed = _padded(match[5])
        return same(_scrypt(password, _padded(match[4]), log_n, r, p, len(hashed)), hashed)

    def decoy(self) -> Scrypt:
        """The parameters and salt, another hash."""
        head, _, hashed = self._text.rpartition("$")
        return Scrypt(f"{head}${_unpadded(secrets.token_bytes(len(_padded(hashed))))}")


class Scram(Password):
    """SCRAM-SHA-256: keys that also verify a password, by deriving them from it."""

    __slots__ = ("_keys",)
    scheme = "SCRAM-SHA-256"

    def __init__(self, text: str) -> None:
        self._keys = _scram_keys(text)  # which checks it; once, since a file may hold thousands
        self._text = text

    @classmethod
    def of(cls, password: str) -> Scram:
        """With a new salt."""
        return cls.of_keys(ScramKeys.of_password(password, secrets.token_bytes(SALT_BYTES)))

    @classmethod
    def of_keys(cls, keys: ScramKeys) -> Scram:
        """In Dovecot's words, which have no colon in them."""
        parts = (base64text.encoded(part) for part in (keys.salt, keys.stored_key, keys.server_key))
        return cls(f"{keys.iterations},{','.join(parts)}")

    @staticmethod
    def _check(text: str) -> None:
        _scram_keys(text)

    def matches(self, password: str) -> bool:
        """By deriving."""
        return self._keys.matches(password)

    def decoy(self) -> Scram:
        """The same salt and iterations, keys that nobody has."""
        keys = self._keys
        return self.of_keys(
            ScramKeys(keys.salt, keys.iterations, *(secrets.token_bytes(len(keys.stored_key)) for _ in range(2)))
        )

    @property
    def keys(self) -> ScramKeys:
        """The keys."""
        return self._keys


class Plain(Password):
    """PLAIN: the password itself, for CRAM-MD5, which cannot do with less."""

    __slots__ = ()
    scheme = "PLAIN"
    slow = False

    @classmethod
    def of(cls, password: str) -> Plain:
        """As it is."""
        return cls(password)

    @staticmethod
    def _check(text: str) -> None:
        if not text:
            raise ValueError("must have a password after {PLAIN}")

    def matches(self, password: str) -> bool:
        """In constant time."""
        return same(prepared_password(password), prepared_password(self._text))

    def decoy(self) -> Plain:
        """A random one."""
        return Plain(secrets.token_hex(32))

    @property
    def plain(self) -> str:
        """The password."""
        return self._text


SCHEMES: dict[str, type[Password]] = {kind.scheme: kind for kind in (Argon2id, Scrypt, Bcrypt, Scram, Plain)}


def parse(stored: str) -> Password:
    """A stored password from its text. Raises ValueError that says what is wrong without showing it."""
    match = _SCHEME.match(stored)
    if not match:
        raise ValueError(f"must begin with its scheme, such as {{{Argon2id.scheme}}}")
    kind = SCHEMES.get(match[1].upper())
    if kind is None:
        raise ValueError(f"has the unknown scheme {{{match[1]}}}; known are {', '.join(SCHEMES)}")
    return kind(stored[match.end() :])


def _scram_keys(text: str) -> ScramKeys:
    if text.startswith("SCRAM-SHA-256$"):  # as RFC 5803 and PostgreSQL write it
        return _bounded(ScramKeys.parse(text))
    iterations, *parts = text.split(",")
    if len(iterations) > 9 or not iterations.isdecimal() or len(parts) != 3:
        raise ValueError("must look like {SCRAM-SHA-256}15000,salt,storedkey,serverkey")
    return _bounded(ScramKeys.parse("SCRAM-SHA-256${}:{}${}:{}".format(iterations, *parts)))


def _bounded(keys: ScramKeys) -> ScramKeys:
    if keys.iterations > MAX_ITERATIONS:
        raise ValueError(f"has more than {MAX_ITERATIONS} iterations")
    return keys


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int, size_bytes: int) -> bytes:
    secret = octets(prepared_password(password))
    return hashlib.scrypt(secret, salt=salt, n=1 << log_n, r=r, p=p, maxmem=2 * MAX_MEMORY_BYTES - 1, dklen=size_bytes)


def _unpadded(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii").rstrip("=")


def _padded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("has a salt or hash that is no Base64") from None
