"""Relays on a real store, and messages for them: with `Relay` in the test's own hub, or in a process of its own.

`python -m tests.relay.shard SETTINGS` relays until its input ends; each settled message is a line of its output.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Pool

from mta_front.observe.events import Events
from mta_front.relay.relay import Relay
from mta_front.settings.model import Settings
from mta_front.store.entry import Entry
from mta_front.store.options import StoreOptions
from mta_front.store.spool import Spool
from tests.processes import ROOT, Program, python
from tests.stores import Store


def settings_for(
    store: Store, *routes: dict[str, Any], shards: int = 1, timeout_ms: int = 3000, **relay: Any
) -> Settings:
    """Settings of a relay alone. Times are short: what takes minutes in life takes a second here."""
    relay = {"schedule_s": [0.2], "expire_s": 3600.0, "lease_s": 2.0} | relay
    times = {"connect_timeout_s": 5.0, "timeout_s": 20.0}
    return Settings.model_validate(
        {
            "server": {"name": "front.example"},
            "store": {"url": f"unix://{store.socket}", "shards": shards, "timeout_ms": timeout_ms},
            "relay": relay | {"routes": [times | route for route in routes]},
        }
    )


def options_for(settings: Settings) -> StoreOptions:
    return StoreOptions.of(settings, settings.store.url)


def message(number: int, length_bytes: int = 1000) -> bytes:
    """A message that `tests.sink` can check: it states the digest of its body."""
    line = b"%d " % number + b"x" * 70 + b"\r\n"
    body = line * max(1, length_bytes // len(line))
    digest = hashlib.sha256(body).hexdigest().encode()
    return b"Message-ID: <%d@test>\r\nX-Body-SHA256: %s\r\n\r\n%s" % (number, digest, body)


def spool_messages(
    settings: Settings,
    count: int,
    recipients: Sequence[str] = ("b@y.example",),
    length_bytes: int = 1000,
    first: int = 0,
    age_s: float = 0.0,
    mail_from: str = "a@x.example",
    **fields: Any,
) -> None:
    """Hand over messages numbered from `first`, as a worker would. With the null `mail_from` nobody gets a report."""
    spool = Spool(options_for(settings))
    spool.start()

    def hand_over(number: int) -> None:
        content = message(number, length_bytes)
        upload = spool.open(mail_from, recipients)
        for start in range(0, len(content), 65_536):
            upload.write(content[start : start + 65_536])
        received_at = time.time() - age_s
        upload.commit(
            Entry(id=upload.id, received_at=received_at, mail_from=mail_from, rcpt_to=list(recipients), **fields)
        )

    pool = Pool(100)
    made = [pool.spawn(hand_over, first + number) for number in range(count)]
    gevent.joinall(made, raise_error=True)
    spool.close()


class RelayProcess(Program):
    """A relay of its own process, to be killed and stopped."""

    def __init__(self, directory: Path, settings: Settings, name: str) -> None:
        file = directory / f"{name}.settings"
        file.write_bytes(pickle.dumps(settings))
        super().__init__(python("-m", "tests.relay.shard", str(file)), directory / f"{name}.log", ROOT)

    def settled(self) -> list[dict[str, Any]]:
        """What it has settled."""
        lines = self.log_text().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]


class _Printed(Events):
    def settled(self, summary: dict[str, Any]) -> None:
        print(json.dumps(summary), flush=True)

    def fault(self, error: BaseException, where: str) -> None:
        print("fault", repr(error), where, flush=True)


def main() -> None:
    """Relay until standard input ends."""
    settings: Settings = pickle.loads(Path(sys.argv[1]).read_bytes())
    relay = Relay(settings, settings.store.url, _Printed())
    relay.start()
    print("relaying", flush=True)
    gevent.get_hub().threadpool.apply(sys.stdin.read)


if __name__ == "__main__":
    main()
