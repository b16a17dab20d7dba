"""SASL, the server's side (RFC 4422), as SMTP carries it (RFC 4954): what a client sends in, credentials out.

No I/O, no clock, no chance: the owner sends the challenges, brings the answers, and draws the nonce.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from mta_front.smtp import base64text
from mta_front.smtp.credentials import Credentials
from mta_front.smtp.errors import BadSyntax, LocalError
from mta_front.smtp.oauth import error_challenge, parse_oauthbearer, parse_xoauth2
from mta_front.smtp.replies import (
    AUTH_CANCELLED,
    AUTH_FAILED,
    AUTH_MALFORMED,
    AUTH_NOT_BASE64,
    AUTH_SERVER_FIRST,
    Reply,
)
from mta_front.smtp.saslprep import prepared_name
from mta_front.smtp.scram import Conversation, parse_client_first
from mta_front.smtp.secret import Secret

NAME_MAX_OCTETS = 320
"""Of a name: an e-mail address fits. RFC 4616 §2 asks for 255."""
PASSWORD_MAX_OCTETS = 1024
"""Of a password: hashing what a stranger sends must not cost more than it does to send it."""

_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_CRAM_DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What must be known of a mechanism before it is offered.

    `sends_secret`: who can read the connection gets a password or a token. `needs_tls`: does not exist without TLS.
    `needs_channel_binding`: the channel must export key material (RFC 9266). `needs_certificate`: the client must
    have shown a certificate that was verified.
    """

    name: str
    sends_secret: bool = False
    needs_tls: bool = False
    needs_channel_binding: bool = False
    needs_certificate: bool = False


MECHANISMS: dict[str, Mechanism] = {
    mechanism.name: mechanism
    for mechanism in (
        Mechanism("EXTERNAL", needs_tls=True, needs_certificate=True),
        Mechanism("SCRAM-SHA-256-PLUS", needs_tls=True, needs_channel_binding=True),
        Mechanism("SCRAM-SHA-256"),
        Mechanism("OAUTHBEARER", sends_secret=True),
        Mechanism("XOAUTH2", sends_secret=True),
        Mechanism("CRAM-MD5"),
        Mechanism("PLAIN", sends_secret=True),
        Mechanism("LOGIN", sends_secret=True),
    )
}
"""By name; the strongest first."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send `replies.challenge(data)`, and give the client's next line to `respond`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """The client has said what it has to say: ask `on_auth`."""

    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Refused:
    """The exchange is over; send `reply`."""

    reply: Reply


Outcome = Challenge | Ready | Refused
Steps = Generator[Challenge, bytes, Credentials]


class Exchange(Secret):
    """One AUTH command, until it is Ready or Refused: `begin`, then `respond` after each Challenge.

    Whatever the client sends, both return an outcome. They raise LocalError when called out of turn.
    """

    __slots__ = (
        "_begun",
        "_certificate_identity",
        "_channel_binding",
        "_host",
        "_name",
        "_nonce",
        "_plus_offered",
        "_steps",
    )

    def __init__(
        self,
        mechanism: str,
        *,
        nonce: str,
        host: str,
        channel_binding: bytes | None = None,
        plus_offered: bool = False,
        certificate_identity: str | None = None,
    ) -> None:
        """`mechanism`: a key of MECHANISMS that was offered. `nonce`: 18 random octets or more as printable ASCII, no
        comma, never used before. `host`: our name. `channel_binding`: tls-exporter's 32 octets. `plus_offered`: EHLO
        named SCRAM-SHA-256-PLUS. `certificate_identity`: who the client's verified certificate says it is.
        """
        if mechanism not in MECHANISMS or not _NONCE.fullmatch(nonce):
            raise LocalError("an exchange needs a mechanism of ours and a printable nonce without commas")
        self._name = mechanism
        self._nonce = nonce
        self._host = host
        self._channel_binding = channel_binding
        self._plus_offered = plus_offered
        self._certificate_identity = certificate_identity
        self._begun = False
        self._steps: Steps | None = None  # while a challenge waits for its answer

    def begin(self, initial: str | None) -> Outcome:
        """The argument of AUTH after the mechanism: None or "" for none, "=" for an empty initial response."""
        if self._begun:
            raise LocalError("an exchange begins once")
        self._begun = True
        data: bytes | None = None
        if initial:
            data = b"" if initial == "=" else base64text.decoded(initial)
            if data is None:
                return Refused(AUTH_NOT_BASE64)
        return self._advance(_STEPS[self._name](self, data), None)

    def respond(self, line: str) -> Outcome:
        """The client's answer to a challenge, without its CRLF."""
        steps, self._steps = self._steps, None
        if not steps:
            del line  # the error may be reported with our variables
            raise LocalError("there is no challenge to respond to")
        data = decoded_answer(line)
        return data if isinstance(data, Refused) else self._advance(steps, data)

    def reject(self, reply: Reply, data: Mapping[str, object] | None = None) -> Outcome:
        """After Ready: the hook refused with `reply`, and (`AuthRejected`) with `data` for the client.

        A token that is refused for good is answered with one more challenge, then whatever the client says with
        `reply`: with OAUTHBEARER always (RFC 7628 §3.2.2), with XOAUTH2 where there is `data`. All else is Refused.
        Raises what `error_challenge` does.
        """
        told = self._name == "OAUTHBEARER" or (self._name == "XOAUTH2" and data is not None)
        if not told or reply.code < 500:
            return Refused(reply)
        default = {"status": "invalid_token"} if self._name == "OAUTHBEARER" else {}
        return self._advance(_refusal(error_challenge({**default, **(data or {})}), reply), None)

    def _advance(self, steps: Steps, data: bytes | None) -> Outcome:
        try:
            challenge = next(steps) if data is None else steps.send(data)
        except StopIteration as end:
            return Ready(end.value)
        except BadSyntax as error:
            return Refused(error.reply)
        self._steps = steps
        return challenge

    # -- the mechanisms ----------------------------------------------------------------------------------------------

    def _plain(self, message: bytes | None) -> Steps:
        """RFC 4616 §2: [authzid] NUL authcid NUL passwd."""
        if message is None:
            message = yield Challenge(b"")
        if message.count(b"\0") != 2:
            raise BadSyntax(AUTH_MALFORMED)
        authzid, name, password = message.split(b"\0")
        return Credentials("PLAIN", _name(name), authzid=_authzid(authzid), password=_password(password))

    def _login(self, name: bytes | None) -> Steps:
        """No RFC: what every client that speaks it understands. The name may come with AUTH."""
        if name is None:
            name = yield Challenge(b"Username:")
        username = _name(name)
        password = yield Challenge(b"Password:")
        return Credentials("LOGIN", username, password=_password(password))

    def _cram_md5(self, initial: bytes | None) -> Steps:
        """RFC 2195 §2: the server speaks first; name, space, digest."""
        if initial is not None:
            raise BadSyntax(AUTH_SERVER_FIRST)
        challenge = f"<{self._nonce}@{self._host}>"
        response = yield Challenge(challenge.encode())
        name, _, digest_octets = response.rpartition(b" ")
        digest = _text(digest_octets)
        if not _CRAM_DIGEST.fullmatch(digest):
            raise BadSyntax(AUTH_MALFORMED)
        return Credentials("CRAM-MD5", _name(name), challenge=challenge, challenge_response=digest)

    def _xoauth2(self, message: bytes | None) -> Steps:
        if message is None:
            message = yield Challenge(b"")
        bearer = parse_xoauth2(_text(message))
        return Credentials("XOAUTH2", _name(bearer.username.encode()), access_token=bearer.token)

    def _oauthbearer(self, message: bytes | None) -> Steps:
        if message is None:
            message = yield Challenge(b"")
        bearer = parse_oauthbearer(_text(message))
        if not bearer.token:
            # RFC 7628 §4.3: a client without a token asks where to get one, and takes the answer as a failure
            yield from _refusal(error_challenge({"status": "invalid_token"}), AUTH_FAILED)
        name = _authzid(bearer.username.encode())
        return Credentials("OAUTHBEARER", name, authzid=name, access_token=bearer.token)

    def _scram(self, message: bytes | None) -> Steps:
        """The client's first message; what follows needs the keys, and is played by `Credentials.scram`."""
        if message is None:
            message = yield Challenge(b"")
        plus = self._name == "SCRAM-SHA-256-PLUS"
        if plus and not self._channel_binding:
            raise BadSyntax(AUTH_FAILED)
        first = parse_client_first(_text(message), plus=plus, plus_offered=self._plus_offered)
        bound = self._channel_binding if plus else None
        return Credentials(
            self._name,
            _name(first.username.encode()),
            authzid=_authzid(first.authzid.encode()),
            conversation=Conversation(first, self._nonce, bound or b""),
        )

    def _external(self, message: bytes | None) -> Steps:
        """RFC 4422 appendix A: the client says only as whom it wants to act."""
        if message is None:
            message = yield Challenge(b"")
        authzid = _authzid(message)
        if not self._certificate_identity:
            raise BadSyntax(AUTH_FAILED)
        return Credentials("EXTERNAL", self._certificate_identity, authzid=authzid)


_STEPS: dict[str, Callable[[Exchange, bytes | None], Steps]] = {
    "EXTERNAL": Exchange._external,
    "SCRAM-SHA-256-PLUS": Exchange._scram,
    "SCRAM-SHA-256": Exchange._scram,
    "OAUTHBEARER": Exchange._oauthbearer,
    "XOAUTH2": Exchange._xoauth2,
    "CRAM-MD5": Exchange._cram_md5,
    "PLAIN": Exchange._plain,
    "LOGIN": Exchange._login,
}


def decoded_answer(line: str) -> bytes | Refused:
    """The octets of a client's answer; Refused for "*", by which it cancels, and for what is no Base64 (RFC 4954 §4).

    For the owner of `Credentials.ask`, which returns the one and raises something of its own for the other.
    """
    if line == "*":
        return Refused(AUTH_CANCELLED)
    data = base64text.decoded(line)
    return Refused(AUTH_NOT_BASE64) if data is None else data


def _refusal(error: bytes, reply: Reply) -> Generator[Challenge, bytes, NoReturn]:
    """RFC 7628 §3.2.3: the answer to an error is a dummy, and does not matter."""
    yield Challenge(error)
    raise BadSyntax(reply)


def _text(octets: bytes) -> str:
    """UTF-8 without NUL."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # raised here, so that the decoder's error, which carries the octets, is no part of this one
        raise BadSyntax(AUTH_MALFORMED)
    return text


def _name(octets: bytes) -> str:
    """RFC 4954 §4, RFC 4616 §2: what cannot be prepared, or comes to nothing, fails."""
    if not octets or len(octets) > NAME_MAX_OCTETS:
        raise BadSyntax(AUTH_MALFORMED)
    name = prepared_name(_text(octets))
    if name is None:
        raise BadSyntax(AUTH_FAILED)
    return name


def _authzid(octets: bytes) -> str:
    return _name(octets) if octets else ""


def _password(octets: bytes) -> str:
    """Never empty: a directory takes a login with an empty password for an anonymous one, and says yes."""
    if not octets or len(octets) > PASSWORD_MAX_OCTETS:
        raise BadSyntax(AUTH_MALFORMED)
    return _text(octets)
