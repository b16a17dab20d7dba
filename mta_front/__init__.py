"""mta-front: a mail front door. `mta-front serve` runs it; a developer's policy is a subclass of `Hooks`.

The names below come from `mta_front.hooks` when they are first asked for: importing the package alone stays light, so
that the master can (it may hold nothing that starts threads, hubs or connections).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mta_front.hooks import Accept, Address, Defer, Envelope, Hooks, Message, Reject, Reply, Session

__version__ = "0.1.0"

__all__ = [
    "Accept",
    "Address",
    "Defer",
    "Envelope",
    "Hooks",
    "Message",
    "Reject",
    "Reply",
    "Session",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mta_front import hooks

    return getattr(hooks, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
