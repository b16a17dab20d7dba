"""XCLIENT and XFORWARD (Postfix's XCLIENT_README, XFORWARD_README): who may say them, and what a session becomes.

Judged once, by the address that the connection came with (DECISIONS W12): what XCLIENT itself says gives no right, and
by default the address that it names is in none of the networks of the settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from mta_front.hooks import Session
from mta_front.net.options import Network, SessionOptions
from mta_front.net.transactions import forget_transaction
from mta_front.smtp.credentials import Credentials
from mta_front.smtp.xclient import XCLIENT_KEYWORD, XFORWARD_KEYWORD

METHOD = "XCLIENT"
"""The method of credentials that come with LOGIN."""

UNKNOWN = "unknown"
"""The name of a client of which XCLIENT says that it has no address. It is no Unix socket, which is "localhost"."""


class Privileges:
    """What one client may say; `advertised` are the lines of EHLO for it."""

    __slots__ = ("advertised", "xclient", "xforward")

    def __init__(self, options: SessionOptions, session: Session) -> None:
        def may(command: str, allowed: bool | Sequence[Network]) -> bool:
            if command in options.disabled_commands:
                return False
            if isinstance(allowed, bool) and session.proxy is not None:
                return False  # True stands for loopback, and there is the proxy: its clients come from anywhere
            return options.is_among(allowed, session.trust_address)

        self.xclient = may("XCLIENT", options.use_xclient)
        self.xforward = may("XFORWARD", options.use_xforward)
        lines = ((self.xclient, XCLIENT_KEYWORD), (self.xforward, XFORWARD_KEYWORD))
        self.advertised = tuple(line for allowed, line in lines if allowed)


def adopt(session: Session, options: SessionOptions, said: dict[str, str | None]) -> Credentials | None:
    """Make the session that of the client whom XCLIENT names. Returns its LOGIN, to be asked about.

    What is not said stays as it is; what is unavailable is as if it were not known.
    """
    session.x_client = session.x_client | said
    if "ADDR" in said:
        session.remote_address = said["ADDR"] or ""
        session.trust_address = session.remote_address if options.xclient_trusts_addr else ""
        session.client_hostname = _unnamed(session.remote_address)
    if "NAME" in said:
        session.client_hostname = said["NAME"] or _unnamed(session.remote_address)
    if "PORT" in said:
        session.remote_port = int(said["PORT"] or 0)
    if "DESTADDR" in said:
        session.local_address = said["DESTADDR"] or ""
    if "DESTPORT" in said:
        session.local_port = int(said["DESTPORT"] or 0)
    forget_transaction(session)
    session.peer_certificate = None  # it is the sender's of XCLIENT: nobody else may log in with it
    session.host_name_appears_as = said.get("HELO") or ""
    session.opening_command = ""
    session.user = None
    login = said.get("LOGIN")
    return Credentials(METHOD, login) if login else None


def _unnamed(address: str) -> str:
    return f"[{address}]" if address else UNKNOWN


def put_back(session: Session, before: Session) -> None:
    """Make the session what it was: half a client's, it would have the rights of two."""
    for each in fields(Session):
        setattr(session, each.name, getattr(before, each.name))
