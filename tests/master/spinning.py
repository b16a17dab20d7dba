"""Hooks that hold a worker up, for the tests of its watchdog: who says so in MAIL FROM."""

from __future__ import annotations

import re
import time

from mta_front import Address, Hooks, Session


class Spinning(Hooks):
    """`spin-SECONDS@…` computes in Python; `match-LENGTH@…` in C, which does not let go of the GIL."""

    def on_mail_from(self, address: Address, session: Session) -> None:
        name, _, amount = address.local_part.partition("-")
        if name == "spin":
            end_at = time.perf_counter() + float(amount)
            while time.perf_counter() < end_at:
                pass
        elif name == "match":
            re.match(r"(a+)+$", "a" * int(amount) + "b")
