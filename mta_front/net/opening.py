"""The record of a new session."""

from __future__ import annotations

import itertools
import secrets
from typing import Any

from mta_front.hooks import Session
from mta_front.net.options import SessionOptions

_MAPPED = "::ffff:"

_ids = itertools.count(1)
_process = ""


def _session_id() -> str:
    """Unique in the fleet: 40 random bits per process (drawn after the fork), and a count."""
    global _process  # noqa: PLW0603
    if not _process:
        _process = secrets.token_hex(5)
    return f"{_process}.{next(_ids):x}"


def open_session(sock: Any, peer: Any, options: SessionOptions) -> Session:
    """The record of a new session; `peer` as accept() gave it: (address, port, …), or "" on a Unix socket."""
    session = Session(_session_id(), options.listener)
    if isinstance(peer, tuple):
        session.remote_address, session.remote_port = plain(peer[0]), peer[1]
        local = sock.getsockname()
        session.local_address, session.local_port = plain(local[0]), local[1]
    session.trust_address = session.remote_address
    return session


def plain(address: str) -> str:
    """An IPv4 client looks like ::ffff:192.0.2.1 on a dual-stack socket (RFC 4291 §2.5.5.2); networks in settings mean
    its IPv4 address. ::ffff:0:102:304 is no such, but an address of IPv6.
    """
    return address.removeprefix(_MAPPED) if "." in address else address
