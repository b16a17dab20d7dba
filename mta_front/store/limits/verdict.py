"""Who asks for something that is limited, and what the limits say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["shared", "open", "closed", "local"]
"""Who decided: the fleet's counts, or what the rule says for when the store is away."""


@dataclass(slots=True)
class Who:
    """A session, as limits see it."""

    session: str  # unique in the worker while it lives
    listener: str
    address: str = ""  # the client's, after PROXY; "" = it has none (a Unix socket)
    user: str = ""  # logged in as
    trusted: bool = True  # False: XCLIENT named the address, or it is a proxy's own: it counts, but in no network


@dataclass(slots=True)
class Verdict:
    """Whether it may. Nothing of this is for the client's eyes: it must not learn which count it hit."""

    allowed: bool
    rule: str = ""  # that refused: "ban", "connections.per_address", … for metrics and logs; "" = none
    retry_after_s: float = 0.0  # after so long it may be allowed, as far as is known
    mode: How = "shared"


@dataclass(slots=True)
class AuthVerdict(Verdict):
    """`delay_s`: wait so long before you go on, whatever it is: of `authenticating` before the backend is asked, of
    `authenticated` before the failure is answered.
    """

    delay_s: float = 0.0
