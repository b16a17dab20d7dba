"""Several masters on one Redis, as pods are, and clients from any address: they come through a proxy."""

from __future__ import annotations

import contextlib
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mta_front.proxybuild import build_v2
from mta_front.proxyproto import Endpoints
from tests import front as fronts
from tests.front import Front
from tests.limits.users import PASSWORD
from tests.processes import Program
from tests.smtp_talk import Talk
from tests.stores import Store

CLIENT = "192.0.2.1"
LISTENER: dict[str, Any] = {
    "use_proxy": ["127.0.0.0/8"],
    "reverse_lookup": False,
    "allow_insecure_auth": True,
    "max_errors": 0,
    "error_delay_s": 0.0,
}
WITH_USERS: dict[str, Any] = {
    "listener": {"auth_methods": ["PLAIN"]},
    "auth": {"backends": ["hook"]},
    "hooks": {"class": "tests.limits.users:Users"},
}


def login(user: str = "user", password: str = PASSWORD) -> str:
    """AUTH PLAIN."""
    return "AUTH PLAIN " + b64encode(f"\0{user}\0{password}".encode()).decode()


DISCARD = {"recipients": ["*"], "transport": "discard"}
NONE: dict[str, Any] = {
    "connections": {"per_address": 0, "per_user": 0},
    "connection_rate": {"per_address": ""},
    "messages": {"per_user": ""},
    "recipients": {"per_user": ""},
    "failed_commands": {"per_address": ""},
    "auth_failures": {"per_address": "", "per_user": "", "per_pair": ""},
    "timeout_ms": 8000,
    "slow_ms": 8000,
}
"""No limits, where `serve` has some by default; and a machine that is busy with other tests is not taken for a Redis
that is away: then no count is exact.
"""


def limits(**given: Any) -> dict[str, Any]:
    """`[limits]` with nothing in it but what is given."""
    return NONE | given


def a_front(directory: Path, store: Store, limited: Mapping[str, Any], **sections: Any) -> Front:
    """One master with one worker, not started yet. Keywords as in `settingsfile.settings`."""
    directory.mkdir(exist_ok=True)
    sections["listener"] = LISTENER | sections.get("listener", {})
    sections["server"] = {"workers": 1} | sections.get("server", {})
    return fronts.make(directory, DISCARD, store={"url": store.url}, limits=limited, **sections)


def a_fleet(directory: Path, store: Store, limited: Mapping[str, Any], count: int = 3, **sections: Any) -> list[Front]:
    """So many masters, all ready. They start at the same time."""
    fleet = [a_front(directory / f"pod{number}", store, limited, **sections) for number in range(count)]
    for each in fleet:
        Program.start(each)
    for each in fleet:
        each.await_whole()
    return fleet


def header(address: str, port: int = 40_000) -> bytes:
    """What the proxy says of a client at `address`."""
    own = "2001:db8::25" if ":" in address else "198.51.100.2"
    return build_v2(Endpoints(address, port, own, 25))


def came(where: Front | tuple[str, int], address: str = CLIENT, timeout_s: float = 10.0) -> Talk:
    """A client that came from `address`, to a front's first listener or to this one; the banner was not read yet."""
    talk = Talk(where.address if isinstance(where, Front) else where, timeout_s)
    talk.raw(header(address))
    return talk


def greeted(front: Front, address: str = CLIENT, timeout_s: float = 10.0) -> Talk:
    """A client that came, was let in and has said EHLO."""
    talk = came(front, address, timeout_s)
    try:
        talk.greeting()
    except BaseException:
        talk.close()
        raise
    return talk


@contextlib.contextmanager
def rush(fleet: Sequence[Front], addresses: Iterable[str], timeout_s: float = 20.0) -> Iterator[list[Talk]]:
    """Clients that all come at once, in turn to each master: they are connected already when the first one's header is
    sent. Their banners were not read yet. All are cut at the end.
    """
    talks: list[Talk] = []
    with contextlib.ExitStack() as stack:
        headers = [header(address) for address in addresses]
        for number in range(len(headers)):
            talk = Talk(fleet[number % len(fleet)].address, timeout_s)
            talks.append(stack.enter_context(talk))
        for talk, data in zip(talks, headers, strict=True):
            talk.raw(data)
        yield talks


def codes(talks: Iterable[Talk]) -> list[int]:
    """The code of each one's next reply."""
    return [talk.reply().code for talk in talks]


def all_say(talks: Sequence[Talk], line: str) -> list[int]:
    """All say the same at once; the codes that they hear."""
    for talk in talks:
        talk.raw(line.encode() + b"\r\n")
    return codes(talks)


def held(store: Store, subject: str) -> int:
    """How many leases there are of an address, of a user, or of "all", as Redis has them."""
    with store.client() as client:
        return sum(int(client.zcard(key)) for key in client.scan_iter(match=f"*:lease:*:{subject}"))


def mode(front: Front) -> str:
    """`shared`, or `degraded`, as the log of its one worker has it."""
    return ["shared", *changes(front)][-1]


def changes(front: Front) -> list[str]:
    """The log's lines of changes, in order."""
    return re.findall(r'"event":"limits (\w+)"', front.log_text())
