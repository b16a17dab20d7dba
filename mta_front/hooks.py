"""The hooks: where a developer's policy meets a session. This file is the contract.

A hook is called in the session's own greenlet and may block on gevent's sockets; while it runs, only its own session
waits. It returns to accept. To refuse it raises `Reject` (5xx, for good) or `Defer` (4xx, for now), whose code,
enhanced code and text go to the client. Any other exception is a bug: the client hears 451 4.3.0, and the error is
reported.

`mta-front serve` wraps the class named in `[hooks] class`: relay control comes first and the spool last, so a
hook can refuse more, never less (DECISIONS W1).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mta_front.smtp.address import Address
from mta_front.smtp.credentials import Credentials
from mta_front.smtp.params import MailDsn
from mta_front.smtp.replies import OK, Reply, derived_enhanced

if TYPE_CHECKING:
    from mta_front.proxytlv import Ssl
    from mta_front.tls.facts import PeerCertificate

__all__ = [
    "HOOKS",
    "Accept",
    "Address",
    "AuthRejected",
    "Credentials",
    "Defer",
    "Envelope",
    "Hooks",
    "Message",
    "Proxy",
    "Reject",
    "Reply",
    "Session",
    "TlsFacts",
    "is_overridden",
    "load_hooks",
    "refusal_of",
    "refusing",
    "reply_of",
]


class Refusal(Exception):
    """What a hook raises to refuse; use `Reject` or `Defer`.

    `Reject(550, "5.1.1", "No such user")`, `Reject(550, "No such user")`, `Reject("No such user")`, `Reject(554)`.
    Without a code the hook's own is used (DECISIONS W3); without an enhanced code it is derived: 554 → 5.0.0.
    Raises ValueError when the code is of another class than the exception's, or the enhanced code does not fit it.
    """

    classes: tuple[int, ...] = (4, 5)

    def __init__(self, *what: int | str) -> None:
        rest = list(what)
        code = rest.pop(0) if rest and isinstance(rest[0], int) else None
        if code is not None and (not isinstance(code, int) or code // 100 not in self.classes):
            raise ValueError(f"{type(self).__name__} takes a code of class {self.classes[0]}xx, not {code}")
        if len(rest) > 2 or not all(isinstance(part, str) for part in rest):
            raise ValueError(f"{type(self).__name__} takes (code, enhanced code, text), not {what!r}")
        texts = [str(part) for part in rest]
        self.code = code
        self.text = texts.pop() if texts else ""
        self.enhanced = texts.pop() if texts else ""
        if code is not None:
            Reply(
                code, self.enhanced, self.text
            )  # refuses what no client would understand, here and not in the session
        super().__init__(*what)

    def reply(self, default: Reply) -> Reply:
        """The reply to send; `default` is the hook's own."""
        if self.code is None:
            return Reply(default.code, self.enhanced or default.enhanced, self.text or default.text)
        return Reply(self.code, self.enhanced or derived_enhanced(self.code), self.text or default.text)


class Reject(Refusal):
    """Refuse for good (5xx): the client should not try again."""

    classes = (5,)


class Defer(Refusal):
    """Refuse for now (4xx): the client keeps the message and tries again."""

    classes = (4,)

    def reply(self, default: Reply) -> Reply:
        """As Refusal.reply; without a code 450 4.7.1 (policy for now), or that of a `default` that is for now, too."""
        if self.code is None and default.code >= 500:
            return Reply(450, self.enhanced or "4.7.1", self.text or "Try again later")
        return Refusal.reply(self, default)


class AuthRejected(Reject):
    """Refuse a login (default 535 5.7.8), and tell a client that came with a token why: `data`, as JSON, is the error
    challenge of XOAUTH2 and OAUTHBEARER (RFC 7628 §3.2.2), such as {"status": "401", "schemes": "bearer"}.
    """

    def __init__(self, *what: int | str, data: Mapping[str, object] | None = None) -> None:
        super().__init__(*what)
        self.data = data


@dataclass(slots=True, frozen=True)
class TlsFacts:
    """What a TLS handshake agreed on: `name` of the cipher as OpenSSL has it, `standard_name` as IANA has it, and
    `version`, such as "TLSv1.3".
    """

    name: str
    standard_name: str
    version: str


@dataclass(slots=True, frozen=True, kw_only=True)
class Proxy:
    """The proxy between the client and us, and what its PROXY header said.

    `address`, `port`: the proxy's; `version`: of the header; `local`: it speaks for itself, or does not know for whom,
    and there is no client. `authority`: the host that the client asked for; `unique_id`: the proxy's name for the
    connection; `ssl`: the TLS between client and proxy; `others`: TLVs for applications, (type, value) in order.
    """

    address: str
    port: int
    version: int
    local: bool = False
    alpn: str | None = None
    authority: str | None = None
    unique_id: str = ""
    ssl: Ssl | None = None
    netns: str | None = None
    aws_vpce_id: str | None = None
    azure_link_id: int | None = None
    others: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)


@dataclass(slots=True, frozen=True)
class Accept:
    """What `on_rcpt_to` may return. `relay=True` takes a recipient that relay control would refuse (DECISIONS W1)."""

    relay: bool = False


@dataclass(slots=True)
class Envelope:
    """The transaction so far: `mail_from` (None before MAIL), `rcpt_to`, `body_type` "7bit" | "8bitmime" |
    "binarymime", `dsn` (what the sender wants reported), and `id`, the message's in the queue ("" before it is one).
    """

    mail_from: Address | None = None
    rcpt_to: list[Address] = field(default_factory=list)
    body_type: str = "7bit"
    smtp_utf8: bool = False
    require_tls: bool = False
    dsn: MailDsn = field(default_factory=MailDsn)
    id: str = ""


@dataclass(slots=True, eq=False)
class Session:
    """One client's visit, as the hooks see it.

    `id`: unique in the fleet; `listener`: the name of the listener it came to; `remote_address`, `remote_port`: the
    client ("" and 0 on a Unix socket); `client_hostname`: the name that the DNS gives it, unchecked, or "[address]";
    `host_name_appears_as`: the name it gave in EHLO or HELO ("" before);
    `opening_command`: "EHLO", "HELO", "LHLO" or ""; `transmission_type`: "SMTP", "ESMTP", "ESMTPS", "ESMTPSA" …
    (RFC 3848); `secure`: over TLS; `tls_options`, `servername` (the name it asked for by SNI) and `peer_certificate`:
    of that TLS, None or "" without; `proxy`: what the PROXY protocol said, None without; `trust_address`: the address
    that networks in settings are compared with ("": it is in none of them); `x_client`, `x_forward`: what XCLIENT said,
    and XFORWARD for the present or next transaction; `user`: whatever `on_auth` returned; `transaction`: number of the
    current transaction, from 1; `store`: for the hooks' own things.
    """

    id: str
    listener: str
    local_address: str = ""
    local_port: int = 0
    remote_address: str = ""
    remote_port: int = 0
    client_hostname: str = ""
    host_name_appears_as: str = ""
    opening_command: str = ""
    transmission_type: str = "SMTP"
    secure: bool = False
    servername: str = ""
    tls_options: TlsFacts | None = None
    peer_certificate: PeerCertificate | None = None
    proxy: Proxy | None = None
    trust_address: str = ""
    x_client: dict[str, str | None] = field(default_factory=dict)
    x_forward: dict[str, str | None] = field(default_factory=dict)
    user: Any = None
    transaction: int = 1
    envelope: Envelope = field(default_factory=Envelope)
    store: dict[str, Any] = field(default_factory=dict)


class Message(Protocol):
    """The message while it arrives, in segments; each begins and ends on a line, but for lines over 64 KiB.

    Iterate over it once, or `read()` it whole. What a hook leaves unread is read and dropped by the session. If the
    client goes away in the middle, iterating raises `ConnectionError`: let it through.
    """

    @property
    def byte_length(self) -> int:
        """Octets so far, dots un-stuffed."""

    @property
    def size_exceeded(self) -> bool:
        """More came than `size_bytes` allows. The segments stop there and the client will hear 552 5.3.4."""

    @property
    def refusal(self) -> Reply | None:
        """Set at the end when the message must not be taken, whatever the hook says: too big, a bare newline."""

    def __iter__(self) -> Iterator[bytes]: ...

    def read(self) -> bytes:
        """All of it. Costs its size in memory."""


class Hooks:
    """Subclass it and override what you need. Every hook here accepts."""

    def on_connect(self, session: Session) -> None:
        """A client came; the banner was not sent yet. Refusing (default 554 5.7.1, or 421 4.7.0 for now) ends
        the session. Asked again when XCLIENT says who else the client is: `session.x_client` is not empty then.
        """

    def on_secure(self, session: Session) -> None:
        """TLS is up: see `session.tls_options`, `servername`, `peer_certificate`. Refusing ends the session."""

    def on_auth(self, credentials: Credentials, session: Session) -> Any:
        """A client wants to log in. Return the user, which may be any object; None refuses. Default refusal 535 5.7.8.

        With PLAIN and LOGIN look at `credentials.password`, or ask `credentials.validate_password(password)`, which
        serves CRAM-MD5 and SCRAM too, in constant time; `credentials.scram(keys)` where keys are kept in place of
        passwords; with XOAUTH2 and OAUTHBEARER look at `credentials.access_token`, and see AuthRejected. A client
        acts as `credentials.authzid` if that is not "". Without this hook nobody can log in.
        """

    def on_mail_from(self, address: Address, session: Session) -> None:
        """MAIL FROM; `address.address` is "" for bounces. Default refusal 550 5.7.1."""

    def on_rcpt_to(self, address: Address, session: Session) -> Accept | None:
        """RCPT TO, once for each recipient; `session.envelope.rcpt_to` holds those accepted before. 550 5.7.1."""

    def on_data(self, message: Message, session: Session) -> Answer | Sequence[Answer]:
        """The message. Return None, or the text of the 250, or a whole `Reply`. Default refusal 550 5.7.1.

        In LMTP it may also return a list with one answer for each of `session.envelope.rcpt_to`, in their order; a
        `Reject` or `Defer` in it refuses for that recipient.
        """

    def on_close(self, session: Session) -> None:
        """The session is over, however it ended. Its result and its exceptions change nothing for the client."""

    def on_error(self, error: BaseException, session: Session) -> None:
        """An exception that no hook should have raised. The client heard 451 or 421 and nothing of it."""


HOOKS = tuple(name for name in vars(Hooks) if name.startswith("on_"))
"""The names of all hooks."""

Answer = str | Reply | Refusal | None
"""What `on_data` may say of a message, or of one of its recipients."""

CONNECT_DEFERRAL = Reply(421, "4.7.0", "Try again later")  # RFC 5321 §4.3.2 knows no other greeting that is for now
CONNECT_REFUSAL = Reply(554, "5.7.1", "Connection refused by policy")
TRANSACTION_REFUSAL = Reply(550, "5.7.1", "Refused by policy")


def refusing(reply: Reply) -> Refusal:
    """The exception that makes a session answer `reply` (4xx or 5xx)."""
    return (Defer if reply.code < 500 else Reject)(reply.code, reply.enhanced, reply.text)


def refusal_of(error: BaseException, default: Reply) -> Reply | None:
    """The reply that a hook's exception stands for, or None when it is a bug (answer 451 4.3.0, report it)."""
    return error.reply(default) if isinstance(error, Refusal) else None


def reply_of(answer: Answer) -> Reply:
    """The reply that an answer of `on_data` stands for. Raises TypeError for what is none."""
    if isinstance(answer, Refusal):
        return answer.reply(TRANSACTION_REFUSAL)
    if isinstance(answer, str):
        return Reply(250, "2.0.0", answer)
    if answer is None:
        return OK
    if type(answer) is not Reply or answer.code // 100 == 3:  # whatever a hook returns
        raise TypeError(f"on_data answers with None, a text, a Reply (2xx, 4xx, 5xx) or a refusal, not {answer!r}")
    return answer


def is_overridden(hooks: Hooks, name: str) -> bool:
    """Whether the hook `name` does anything but accept."""
    return getattr(getattr(hooks, name), "__func__", None) is not getattr(Hooks, name)


def load_hooks(name: str) -> Hooks:
    """An instance of the class that `[hooks] class` names as "package.module:Class"; "" is `Hooks` itself.

    The working directory is searched too, as gunicorn does. Raises ImportError, AttributeError or TypeError.
    """
    if not name:
        return Hooks()
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found = getattr(importlib.import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, Hooks)):
        raise TypeError(f"{name} is no subclass of mta_front.Hooks")
    return found()
