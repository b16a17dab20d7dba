"""Hooks for the server behind HAProxy: each writes down whom it was asked about. Anybody may log in as "dev"."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mta_front.hooks import AuthRejected, Credentials, Hooks, Session

NOTES = Path("notes.jsonl")  # in the server's working directory


def note(hook: str, session: Session) -> None:
    """One line."""
    proxy = session.proxy
    ssl = proxy.ssl if proxy else None
    line: dict[str, Any] = {
        "hook": hook,
        "listener": session.listener,
        "client": session.remote_address,
        "port": session.remote_port,
        "local_port": session.local_port,
        "secure": session.secure,
        "servername": session.servername,
        "tls": session.tls_options.version if session.tls_options else "",
        "type": session.transmission_type,
    }
    if proxy:
        line |= {"proxy": proxy.address, "version": proxy.version, "local": proxy.local}
        line |= {"authority": proxy.authority, "unique_id": proxy.unique_id}
    if ssl:
        line |= {"ssl": ssl.secure, "verified": ssl.verified_name, "cn": ssl.common_name, "cipher": ssl.cipher}
        line |= {"verify": ssl.verify, "ssl_version": ssl.version}
    with NOTES.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


class Telling(Hooks):
    """Refuses nothing but wrong passwords."""

    def on_connect(self, session: Session) -> None:
        note("connect", session)

    def on_secure(self, session: Session) -> None:
        note("secure", session)

    def on_auth(self, credentials: Credentials, session: Session) -> str:
        note("auth", session)
        if credentials.username != "dev" or credentials.password != "secret":
            raise AuthRejected
        return "dev"

    def on_data(self, message: Any, session: Session) -> None:
        note("data", session)

    def on_close(self, session: Session) -> None:
        note("close", session)
