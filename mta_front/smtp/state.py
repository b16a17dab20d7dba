"""The state machine of the receiving side, whole.

How it works. A connection is in one `Phase`. Each thing a client does is a `Verb`: its commands, and three that are no
commands: CONNECT (it came), DOT (its message ended, by a dot or by BDAT LAST) and RESPONSE (a line of an AUTH exchange,
RFC 4954 §4). A verb is legal in a phase where
`TRANSITIONS` has the pair; a missing pair is answered 503 and nothing moves. A legal verb does not move the machine
either: **our reply does**. When we answer 2xx or 3xx the phase becomes the table's (334: that of `CONTINUES`); a 4xx or
5xx leaves it, but for the pairs in `REFUSALS`. 421 closes from everywhere (RFC 5321 §3.8).

Rule: this file is the only one that assigns the phase. What looks like state elsewhere (which recipients, how many
errors) is data that never decides which command is legal.
"""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """Where a session stands."""

    GREETING = 0  # connected, the banner is owed
    HELLO = 1  # greeted, no EHLO or HELO yet
    READY = 2  # said hello, no transaction
    MAIL = 3  # a sender was accepted
    RCPT = 4  # at least one recipient was accepted
    BODY = 5  # 354 was sent: what comes is the message
    CHUNKS = 6  # a first BDAT was taken: chunks of the message come, or may come
    AUTH = 7  # 334 was sent: the next line is a response
    CLOSED = 8


class Verb(IntEnum):
    """What a client does."""

    CONNECT = 0
    EHLO = 1
    HELO = 2
    LHLO = 3
    MAIL = 4
    RCPT = 5
    DATA = 6
    BDAT = 7
    DOT = 8
    RSET = 9
    NOOP = 10
    VRFY = 11
    EXPN = 12
    HELP = 13
    QUIT = 14
    STARTTLS = 15
    AUTH = 16
    RESPONSE = 17
    XCLIENT = 18
    XFORWARD = 19
    UNKNOWN = 20


_GREETED = (Phase.HELLO, Phase.READY, Phase.MAIL, Phase.RCPT, Phase.CHUNKS)

TRANSITIONS: dict[tuple[int, int], Phase] = {
    (Phase.GREETING, Verb.CONNECT): Phase.HELLO,
    # A new EHLO or HELO in the middle is a reset (RFC 5321 §4.1.4).
    **{(phase, Verb.EHLO): Phase.READY for phase in _GREETED},
    **{(phase, Verb.HELO): Phase.READY for phase in _GREETED},
    **{(phase, Verb.LHLO): Phase.READY for phase in _GREETED},
    (Phase.READY, Verb.MAIL): Phase.MAIL,
    (Phase.MAIL, Verb.RCPT): Phase.RCPT,
    (Phase.RCPT, Verb.RCPT): Phase.RCPT,
    (Phase.RCPT, Verb.DATA): Phase.BODY,
    (Phase.BODY, Verb.DOT): Phase.READY,
    # One message is DATA or BDAT, never both (RFC 3030 §2).
    (Phase.RCPT, Verb.BDAT): Phase.CHUNKS,
    (Phase.CHUNKS, Verb.BDAT): Phase.CHUNKS,
    (Phase.CHUNKS, Verb.DOT): Phase.READY,
    (Phase.HELLO, Verb.RSET): Phase.HELLO,
    (Phase.READY, Verb.RSET): Phase.READY,
    (Phase.MAIL, Verb.RSET): Phase.READY,
    (Phase.RCPT, Verb.RSET): Phase.READY,
    (Phase.CHUNKS, Verb.RSET): Phase.READY,
    # What was said before TLS is forgotten (RFC 3207 §4.2).
    (Phase.HELLO, Verb.STARTTLS): Phase.HELLO,
    (Phase.READY, Verb.STARTTLS): Phase.HELLO,
    # The session begins anew, as another client's (Postfix's XCLIENT_README).
    (Phase.HELLO, Verb.XCLIENT): Phase.HELLO,
    (Phase.READY, Verb.XCLIENT): Phase.HELLO,
    (Phase.HELLO, Verb.XFORWARD): Phase.HELLO,
    (Phase.READY, Verb.XFORWARD): Phase.READY,
    # Not within a transaction (RFC 4954 §4).
    (Phase.READY, Verb.AUTH): Phase.READY,
    (Phase.AUTH, Verb.RESPONSE): Phase.READY,
    # Legal at any time, and change nothing (RFC 5321 §4.1.4).
    **{(phase, Verb.NOOP): phase for phase in _GREETED},
    **{(phase, Verb.VRFY): phase for phase in _GREETED},
    **{(phase, Verb.EXPN): phase for phase in _GREETED},
    **{(phase, Verb.HELP): phase for phase in _GREETED},
    **{(phase, Verb.QUIT): Phase.CLOSED for phase in _GREETED},
}

CONTINUES: dict[tuple[int, int], Phase] = {
    (Phase.READY, Verb.AUTH): Phase.AUTH,
    (Phase.AUTH, Verb.RESPONSE): Phase.AUTH,
}
"""Where 334 leads to."""

REFUSALS: dict[tuple[int, int], Phase] = {
    (Phase.GREETING, Verb.CONNECT): Phase.CLOSED,
    (Phase.AUTH, Verb.RESPONSE): Phase.READY,
    # Accepted or not, the transaction is over (RFC 5321 §4.1.1.4).
    (Phase.BODY, Verb.DOT): Phase.READY,
    # A chunk that is refused ends the transaction (RFC 3030 §2).
    (Phase.RCPT, Verb.BDAT): Phase.READY,
    (Phase.CHUNKS, Verb.BDAT): Phase.READY,
    (Phase.CHUNKS, Verb.DOT): Phase.READY,
    # Its chunks are forgotten when it is said, whatever the answer: a next one must not be taken for the first.
    (Phase.CHUNKS, Verb.RSET): Phase.READY,
    (Phase.CHUNKS, Verb.EHLO): Phase.READY,
    (Phase.CHUNKS, Verb.HELO): Phase.READY,
    (Phase.CHUNKS, Verb.LHLO): Phase.READY,
}

HOLDS_REPLY: frozenset[int] = frozenset({Verb.MAIL, Verb.RCPT, Verb.RSET})
"""The flush column: replies to these wait until the group or the input ends (RFC 2920 §3.2); all others go at once."""


class Machine:
    """The phase, and the only code that changes it."""

    __slots__ = ("phase",)

    def __init__(self) -> None:
        self.phase: Phase = Phase.GREETING

    def allows(self, verb: int) -> bool:
        """Is `verb` legal now?"""
        return (self.phase, verb) in TRANSITIONS

    def answered(self, verb: int, code: int) -> None:
        """We answered `verb` with `code`: move if the tables say so."""
        if code < 400:
            self.phase = (CONTINUES if code == 334 else TRANSITIONS)[self.phase, verb]
        elif code == 421:
            self.phase = Phase.CLOSED
        else:
            self.phase = REFUSALS.get((self.phase, verb), self.phase)

    def close(self) -> None:
        """The session ends without a verb: the peer is gone, or a RemoteError."""
        self.phase = Phase.CLOSED
