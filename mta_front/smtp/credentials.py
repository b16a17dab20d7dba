"""What a client shows to log in, as `on_auth` gets it."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from mta_front.smtp.errors import LocalError
from mta_front.smtp.saslprep import prepared_password
from mta_front.smtp.scram import MIN_ITERATIONS, Conversation, ScramKeys
from mta_front.smtp.secret import Secret, octets, same


def _not_at_all(_delay_s: float) -> None:
    """Nobody waits: there is no session."""


class Credentials(Secret):
    """One attempt to log in.

    `method`: the mechanism, e.g. "PLAIN". `username`: whom the client says it is, prepared (RFC 4013); with EXTERNAL,
    who its certificate says it is; with OAUTHBEARER whom it names, or "": the token says who. `authzid`: as whom it
    wants to act, "" for as itself; a hook that knows no such thing refuses what is neither "" nor `username`.
    `password`: PLAIN and LOGIN, as sent. `access_token`: XOAUTH2 and OAUTHBEARER. `challenge`, `challenge_response`:
    CRAM-MD5. What a method does not have is "", not None: a comparison with the password of a user who is not found,
    None, must not succeed.

    `proven`: whether `validate_password` or `scram` has said yes.

    `ask`: set by the owner before it hands this to a hook. Sends a challenge, and returns the decoded answer, or
    raises when there is none. `hold_back`: set by the owner, too. Lets so many seconds pass in which only this session
    waits, so that guessing is slow; a drain of the server ends them.
    """

    __slots__ = (
        "_conversation",
        "access_token",
        "ask",
        "authzid",
        "challenge",
        "challenge_response",
        "hold_back",
        "method",
        "password",
        "proven",
        "username",
    )

    def __init__(
        self,
        method: str,
        username: str,
        *,
        authzid: str = "",
        password: str = "",
        access_token: str = "",
        challenge: str = "",
        challenge_response: str = "",
        conversation: Conversation | None = None,
    ) -> None:
        self.method = method
        self.username = username
        self.authzid = authzid
        self.password = password
        self.access_token = access_token
        self.challenge = challenge
        self.challenge_response = challenge_response
        self.proven = False
        self.ask: Callable[[bytes], bytes] | None = None
        self.hold_back: Callable[[float], None] = _not_at_all
        self._conversation = conversation

    def __repr__(self) -> str:
        return f"<Credentials {self.method}>"

    def validate_password(self, password: str) -> bool:
        """True if the client knows this password; in constant time. Works with every method that has a password.

        With SCRAM it hashes 4,096 times and plays the exchange, as `scram` does. False for "": who has no password
        does not log in with it.
        """
        if not password:
            return False
        if self._conversation:
            keys = ScramKeys.of_password(password, self._conversation.invented_salt(), MIN_ITERATIONS)
            del password  # the owner's exception may pass through here, and be reported with our variables
            return self.scram(keys)
        if self.password:
            self.proven = same(prepared_password(self.password), prepared_password(password))
        elif self.challenge:
            # RFC 2195 knows no preparation, but some clients prepare
            as_typed, as_prepared = (self._is_digest_of(text) for text in (password, prepared_password(password)))
            self.proven = as_typed or as_prepared
        return self.proven

    def scram(self, keys: ScramKeys) -> bool:
        """True if the client knows the password that the keys are of.

        With SCRAM this plays the rest of the exchange, once (LocalError for a second time), and what `ask` raises comes
        through. The client has then seen our own proof. For a user who is not there, use `decoy_keys`: to refuse
        before the exchange says so. With PLAIN and LOGIN it hashes; with all else it is False.
        """
        if self._conversation:
            self.proven = self._play(self._conversation, keys)
        elif self.password:
            self.proven = keys.matches(self.password)
        return self.proven

    def _is_digest_of(self, password: str) -> bool:
        digest = hmac.new(octets(password), self.challenge.encode(), "md5").hexdigest()
        return same(digest, self.challenge_response)

    def _play(self, conversation: Conversation, keys: ScramKeys) -> bool:
        """Holds no message of the client in a variable: a traceback through here may be reported with them."""
        ask, self.ask = self.ask, None
        if ask is None:
            raise LocalError("no exchange to play: it was played before, or its owner set no `ask`")
        server_final = conversation.server_final(ask(conversation.server_first(keys)), keys)
        # RFC 4954 §4: 235 carries no data, so our proof is one more challenge, whose answer is empty (RFC 4422 §5)
        return server_final is not None and ask(server_final) == b""
