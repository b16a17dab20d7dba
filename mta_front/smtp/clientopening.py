"""How a connection to a next hop begins: greeting, hello, STARTTLS, hello again, login. Without I/O.

    220 ──> EHLO ──> 250 ──> STARTTLS ──> 220 ──> [handshake] ──> EHLO ──> 250 ──> AUTH ──> 334… ──> 235 ──> ready
                      └────── TLS not wanted, or there already ──────────────────┘

What a server said in clear is forgotten with the handshake (RFC 3207 §4.2): whoever stands in between could have said
it, an AUTH PLAIN above all. A failure here concerns the next hop and never a message: it is tried again later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mta_front.smtp import base64text
from mta_front.smtp.offer import Offer, Security
from mta_front.smtp.replyreader import RemoteReply
from mta_front.smtp.saslclient import Login, Mechanism, SaslError, choose

StartTls: TypeAlias = Literal["none", "may", "must"]

FIRST_LINE_MAX_OCTETS = 512
"""AUTH with what is said first; a longer one is said when asked for (RFC 4954 §4, RFC 5321 §4.5.3.1.4)."""
MAX_CHALLENGES = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen before mail. `nonce`: printable ASCII without commas, of one connection alone, for SCRAM."""

    starttls: StartTls = "none"
    login: Login | None = None
    nonce: str = ""


class Opening:
    """`answer` gives the next command for each reply; then one of `ready`, `tls_wanted` and `failure` says why not."""

    def __init__(self, helo_name: str, lmtp: bool, plan: Plan) -> None:
        self.offer = Offer()
        self.ready = False
        self.tls_wanted = False
        """The next hop waits for the handshake."""
        self.failure = ""
        """Why it came to nothing; `failure_code`: the reply's, 0 if it was none."""
        self.failure_code = 0
        self._helo_name = helo_name
        self._lmtp = lmtp
        self._plan = plan
        self._security: Security = "clear"
        self._binding: bytes | None = None
        self._mechanism: Mechanism | None = None
        self._challenges = 0
        self._next = self._on_greeting

    def answer(self, reply: RemoteReply) -> str:
        """Take a reply; the next command with its line end, "" if there is none."""
        return self._next(reply)

    def secured(self, security: Security, binding: bytes | None) -> str:
        """The connection is over TLS now: the next command. `binding`: tls-exporter of the channel, if it has one."""
        self._security, self._binding = security, binding
        if not self.tls_wanted:
            return ""  # TLS from the first octet: the greeting comes
        self.tls_wanted = False
        self.offer = Offer()
        return self._hello()

    # -- hello -----------------------------------------------------------------------------------------------------

    def _on_greeting(self, reply: RemoteReply) -> str:
        if reply.code // 100 != 2:
            # 554: no mail service here (RFC 5321 §3.1). It concerns the host, not the message: another may take it.
            return self._failed(reply.text, reply.code)
        return self._hello()

    def _hello(self) -> str:
        self._next = self._on_hello
        return f"{'LHLO' if self._lmtp else 'EHLO'} {self._helo_name}\r\n"

    def _on_hello(self, reply: RemoteReply) -> str:
        if reply.code // 100 == 2:
            self.offer = Offer(reply.lines[1:])
            return self._after_hello()
        if reply.code // 100 == 5 and not self._lmtp:
            self._next = self._on_helo
            return f"HELO {self._helo_name}\r\n"
        return self._failed(reply.text, reply.code)

    def _on_helo(self, reply: RemoteReply) -> str:
        return self._after_hello() if reply.code // 100 == 2 else self._failed(reply.text, reply.code)

    def _after_hello(self) -> str:
        wanted = self._plan.starttls
        if self._security == "clear" and wanted != "none":
            if "STARTTLS" in self.offer.extensions:
                self._next = self._on_starttls
                return "STARTTLS\r\n"
            if wanted == "must":
                return self._failed("4.7.4 TLS is required, and the next hop does not offer STARTTLS")
        return self._log_in()

    def _on_starttls(self, reply: RemoteReply) -> str:
        if reply.code // 100 == 2:
            self.tls_wanted = True
            return ""
        if self._plan.starttls == "must":
            return self._failed(f"4.7.4 TLS is required, and STARTTLS was refused: {reply.code} {reply.text}")
        return self._log_in()

    # -- login -----------------------------------------------------------------------------------------------------

    def _log_in(self) -> str:
        login = self._plan.login
        if login is None:
            self.ready = True
            return ""
        offered = self.offer.extensions.get("AUTH", "").split()
        secure = self._security != "clear"
        try:
            mechanism = choose(login, offered, secure=secure, binding=self._binding, nonce=self._plan.nonce)
        except SaslError as error:
            return self._failed(f"4.7.0 Cannot log in: the next hop {error}")
        self._mechanism = mechanism
        self._next = self._on_challenge
        first = mechanism.first()
        if first is not None:
            # "=" stands for nothing at all (RFC 4954 §4)
            line = f"AUTH {mechanism.name} {base64text.encoded(first) or '='}\r\n"
            if len(line) <= FIRST_LINE_MAX_OCTETS:
                return line
            self._next = self._on_invitation
        return f"AUTH {mechanism.name}\r\n"

    def _on_invitation(self, reply: RemoteReply) -> str:
        """The server asks for what was too long for the first line."""
        assert self._mechanism is not None
        if reply.code != 334:
            return self._on_challenge(reply)
        self._next = self._on_challenge
        return base64text.encoded(self._mechanism.first() or b"") + "\r\n"

    def _on_challenge(self, reply: RemoteReply) -> str:
        mechanism = self._mechanism
        assert mechanism is not None
        if reply.code // 100 == 2:
            if not mechanism.proven:
                return self._failed("4.7.0 Cannot log in: the next hop did not prove that it knows the password")
            self.ready = True
            return ""
        if reply.code != 334:
            # Wrong credentials are our operator's mistake, and no reason to bounce anybody's mail
            return self._failed(f"4.7.8 Cannot log in: {reply.code} {reply.text}", reply.code)
        self._challenges += 1
        challenge = base64text.decoded(reply.lines[0].decode("ascii", "replace")) if len(reply.lines) == 1 else None
        if challenge is None or self._challenges > MAX_CHALLENGES:
            # Some write words where Base64 belongs ("334 ok"); LOGIN takes any question
            if mechanism.name != "LOGIN" or self._challenges > MAX_CHALLENGES:
                return self._failed("4.7.0 Cannot log in: a challenge that cannot be read")
            challenge = b""
        try:
            return base64text.encoded(mechanism.answer(challenge)) + "\r\n"
        except SaslError as error:
            return self._failed(f"4.7.0 Cannot log in: {error}")

    def _failed(self, reason: str, code: int = 0) -> str:
        self.failure, self.failure_code = reason, code
        return ""
