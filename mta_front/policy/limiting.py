"""Where the protocol meets the limits that the fleet shares (`store.limits`): what is asked when, and what it means.

To the pump this is a guard (`net.guard`): who comes, who starts TLS, whose commands fail. To `policy.front` it is the
first word on a login, and the last on a sender and on a recipient: a rate is spent only for what is otherwise in order,
so what is refused for another reason costs the client nothing but a failed command.

One for all listeners of a worker. While the store is away every limit does what its `store_down` says; nothing in here
knows the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from mta_front.domains import canonical_domain
from mta_front.hooks import Reject, refusing
from mta_front.policy.auth.backend import SCRAM_METHODS
from mta_front.smtp import replies
from mta_front.smtp.replies import Reply
from mta_front.store.limits.verdict import AuthVerdict, Who

if TYPE_CHECKING:
    from mta_front.hooks import Address, Credentials, Session
    from mta_front.policy.unseen import Unseen
    from mta_front.store.limits.rules import Group
    from mta_front.store.limits.shared import Limits

_OF_THE_CONNECTION = ("ban", "auth_failures.per_address")
"""Rules that no other login on the same connection could satisfy."""

MOST_BYTES = 1 << 40
"""What a message may declare to be, where its size has no limit."""


class Limiting:
    """See the module's text."""

    def __init__(self, limits: Limits, unseen: Unseen | None = None) -> None:
        """`unseen`: is told by the pump what this is told, too."""
        self._limits = limits
        self._unseen = unseen
        self._present: dict[str, Who] = {}  # by the session's id: who holds what
        # octets that MAIL declared and that were spent; by whom, for which domain, when
        self._declared: dict[str, tuple[int, Who, str, float]] = {}

    # -- for the pump: see net.guard.Guard -----------------------------------------------------------------------

    def arrives(self, session: Session, handshake: bool) -> Reply | None:
        """One question for all: bans, connections at once, their rate, and the handshake that comes first."""
        self.leaves(session)  # who it was before XCLIENT
        who = self._present[session.id] = _who(session)
        return None if self._limits.connected(who, handshake).allowed else replies.NOT_NOW

    def shakes_hands(self, session: Session) -> Reply | None:
        """STARTTLS: a handshake is the most that a client can make us compute before we know it."""
        return self._spent(session, "handshakes", replies.TLS_NOT_NOW)

    def fails(self, session: Session) -> Reply | None:
        """Commands that fail, by the client's address: whoever looks for users or holes makes many."""
        return self._spent(session, "failed_commands", replies.NOT_NOW)

    def goes_on(self, session: Session) -> None:
        """See `Unseen.goes_on`."""
        if self._unseen is not None:
            self._unseen.goes_on(session)

    def leaves(self, session: Session) -> None:
        """All that the session holds is free. Posted, and done at once as far as we can tell."""
        self._give_back(session)
        who = self._present.pop(session.id, None)
        if who is not None:
            self._limits.closed(who)

    # -- for the front -------------------------------------------------------------------------------------------

    def login(self, credentials: Credentials, session: Session, verify: Callable[[], Any]) -> Any:
        """The user, as `verify` gives it, or what it raises. Who is locked out is not verified, so that the answer says
        nothing about the password.

        A `Reject` is a wrong guess; anything else that is raised says nothing about the credentials, and counts for
        nothing: a backend that is away, or a client that left in the middle.

        With SCRAM the guess begins when the client's proof is there. Else whoever begins many exchanges and goes on
        with none would have all the guesses in hand that a user may fail, and the user himself none.
        """
        guess = _Guess(self._limits, credentials, _who(session))
        if credentials.method in SCRAM_METHODS and credentials.ask is not None:
            credentials.ask = guess.behind(credentials.ask)
        else:
            guess.begin()
        user = None
        good: bool | None = None
        try:
            user = verify()
            guess.begin()
            good = True
        except Reject:
            guess.begin()  # refused without a proof: it was a guess at a name
            good = False
            raise
        finally:
            verdict = guess.end(good, _id(user))
        if not verdict.allowed:  # this user has logged in too often, or has as many connections as it may have
            raise refusing(replies.AUTH_NOT_NOW if verdict.rule == "connection_rate.per_user" else replies.NOT_NOW)
        return user

    def sender(self, address: Address, session: Session) -> None:
        """MAIL, by a client that may send it: one message, and as many octets as it declares (RFC 1870)."""
        self._give_back(session)  # of a transaction that came to nothing
        active = self._limits.active
        amounts: dict[Group, int] = {}
        if "messages" in active:
            amounts["messages"] = 1
        if "bytes" in active:
            amounts["bytes"] = min(max(1, int(address.args.get("SIZE") or 0)), MOST_BYTES)
        if not amounts:
            return
        who, domain = _who(session), canonical_domain(address.domain)
        if not self._limits.spend_all(who, amounts, domain).allowed:
            raise refusing(replies.MAIL_NOT_NOW)
        if "bytes" in amounts:
            self._declared[session.id] = amounts["bytes"], who, domain, monotonic()

    def recipient(self, session: Session) -> None:
        """RCPT, that is otherwise accepted; the domain is the sender's."""
        if "recipients" in self._limits.active:
            sender = session.envelope.mail_from
            domain = canonical_domain(sender.domain) if sender else ""
            if not self._limits.spend(_who(session), "recipients", 1, domain).allowed:
                raise refusing(replies.RECIPIENT_NOT_NOW)

    def message(self, session: Session, size_bytes: int) -> None:
        """A message is ours: what came beyond what was declared is charged, or given back. Nobody waits for that."""
        if self._declared:
            declared, who, domain, at = self._declared.pop(session.id)
            if declared != size_bytes:
                self._limits.charge(who, "bytes", size_bytes - declared, domain, monotonic() - at)

    # ------------------------------------------------------------------------------------------------------------

    def _spent(self, session: Session, group: Group, refusal: Reply) -> Reply | None:
        if group not in self._limits.active or self._limits.spend(_who(session), group).allowed:
            return None
        return refusal

    def _give_back(self, session: Session) -> None:
        if session.id in self._declared:
            declared, who, domain, at = self._declared.pop(session.id)
            self._limits.charge(who, "bytes", -declared, domain, monotonic() - at)


class _Guess:
    """One attempt to log in, from when it may be judged to what came of it."""

    def __init__(self, limits: Limits, credentials: Credentials, who: Who) -> None:
        self._limits = limits
        self._credentials = credentials
        self._who = who
        self._begun = False

    def begin(self) -> None:
        """May it be judged? Once asked and allowed, it is. Raises what the client hears if not."""
        if self._begun:
            return
        verdict = self._limits.authenticating(self._who, self._credentials.username)
        if not verdict.allowed:
            raise refusing(replies.NOT_NOW if verdict.rule in _OF_THE_CONNECTION else replies.AUTH_NOT_NOW)
        self._begun = True
        if verdict.delay_s:
            self._credentials.hold_back(verdict.delay_s)

    def behind(self, ask: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        """`ask`, with the guess begun behind the client's first answer, which is its proof."""

        def answered(challenge: bytes) -> bytes:
            answer = ask(challenge)
            self.begin()
            return answer

        return answered

    def end(self, good: bool | None, user: str) -> AuthVerdict:
        """What came of it; `user`: who has logged in, which a token or a backend may know better than the client."""
        if not self._begun:
            return AuthVerdict(False)
        verdict = self._limits.authenticated(self._who, user if good else self._credentials.username, good)
        if good is False and verdict.delay_s:
            self._credentials.hold_back(verdict.delay_s)
        return verdict


def _id(user: Any) -> str:
    return "" if user is None else str(getattr(user, "id", user))


def _who(session: Session) -> Who:
    """The address that XCLIENT named, or a proxy that spoke for itself, counts like any, and is in no network that the
    settings know (DECISIONS W10, W12): then there is no `trust_address`.
    """
    trusted = session.trust_address
    return Who(session.id, session.listener, trusted or session.remote_address, _id(session.user), bool(trusted))
