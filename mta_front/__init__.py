"""mta-front: a mail front door. `mta-front serve` runs it; a developer's policy is a subclass of `Hooks`.

`SMTPServer` is the library: the same sessions and hooks in a program of your own, without store, master or settings.

The names below are loaded when they are first asked for: importing the package alone stays light, so that the master
can (it may hold nothing that starts threads, hubs or connections).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mta_front.hooks import (
        Accept,
        Address,
        AuthRejected,
        Credentials,
        Defer,
        Envelope,
        Hooks,
        Message,
        Reject,
        Reply,
        Session,
        TlsFacts,
    )
    from mta_front.library import SMTPServer
    from mta_front.smtp.scram import ScramKeys, decoy_keys
    from mta_front.tls.facts import PeerCertificate

__version__ = "0.1.0"

__all__ = [
    "Accept",
    "Address",
    "AuthRejected",
    "Credentials",
    "Defer",
    "Envelope",
    "Hooks",
    "Message",
    "PeerCertificate",
    "Reject",
    "Reply",
    "SMTPServer",
    "ScramKeys",
    "Session",
    "TlsFacts",
    "__version__",
    "decoy_keys",
]

_ELSEWHERE = {
    "SMTPServer": "mta_front.library",
    "ScramKeys": "mta_front.smtp.scram",
    "decoy_keys": "mta_front.smtp.scram",
    "PeerCertificate": "mta_front.tls.facts",
}
"""Where a name is that `mta_front.hooks` does not have."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "mta_front.hooks")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
