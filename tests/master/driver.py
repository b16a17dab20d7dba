"""A master with stand-ins for the process mains, run by the tests: `python -m tests.master.driver FILE PLAN [PACE]`.

The master, its forks, sockets and store are the real ones. PLAN is JSON: for each kind of child what its main does, by
the names in ROLES; under "run", keywords for the master itself. A stand-in leaves notes for the test in $DRIVER_NOTES:
its descriptors, lane, sockets, signals.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mta_front.cli  # noqa: F401 - what the real program has loaded when it forks
from mta_front import config
from mta_front.master.backoff import Pace
from mta_front.master.child import MAINS, ChildContext, Kind, Main
from mta_front.master.supervisor import run
from mta_front.reloading import Source


def serve(child: ChildContext, plan: dict[str, Any]) -> int:
    """A worker: answers each connection with its pid and index; drains as it is told."""
    note(child, "start", [])
    from gevent import monkey

    monkey.patch_all()
    import gevent
    from gevent.event import Event
    from gevent.socket import socket as GreenSocket  # noqa: N812

    from mta_front.lifeline import Lifeline
    from mta_front.net.listener import Listener
    from mta_front.reach import Reach
    from mta_front.watchdog import Watchdog

    ended = Event()
    heard: list[Any] = []
    reach = Reach(child.others)
    sessions = 0

    def drain(deadline_s: float, grace_s: float) -> None:
        heard.append(["drain", deadline_s, grace_s])
        note(child, "drain", heard)
        gevent.sleep(grace_s)
        reach.end(lifeline.closing)
        if plan.get("never_ends"):
            return
        gevent.sleep(plan.get("drain_s", 0.0))
        ended.set()

    lifeline = Lifeline(child.control, on_drain=drain, on_stop=ended.set, on_cover=reach.cover)
    lifeline.start()

    def admit() -> bool:
        nonlocal sessions
        sessions += 1
        lifeline.count(sessions)
        return True

    def answer(accepted: Any, _address: Any) -> None:
        nonlocal sessions
        client = GreenSocket(accepted.family, accepted.type, fileno=accepted.detach())
        with contextlib.suppress(OSError):
            client.sendall(f"{child.index} {os.getpid()}\n".encode())
            client.recv(1)
        client.close()
        sessions -= 1
        lifeline.count(sessions)

    for name, sock in child.sockets:
        listener = Listener(sock, answer, admit, lambda error: note(child, "fault", repr(error)), b"")
        reach.add(name, listener, sock)
        listener.start()
    lifeline.report(ready={"accepting": True})
    Watchdog(child.settings.server.block_warn_ms, lifeline.tell_standstill).start(child.stack_file)
    if child.index in plan.get("unfit", []):
        first = Path(os.environ["DRIVER_NOTES"])
        while not list(first.glob(f"{plan['after']}-*-ready.json")):
            gevent.sleep(0.01)
        lifeline.report(store={"unfit": "appendfsync is no, must be always"})
    else:
        lifeline.report(store={"answered": True})
    note(child, "ready", [])
    if "freeze_after_s" in plan:
        gevent.sleep(plan["freeze_after_s"])
        monkey.get_original("time", "sleep")(3600)  # the hub hangs
    if "exit_after_s" in plan:
        gevent.sleep(plan["exit_after_s"])
        return int(plan.get("code", 1))
    ended.wait()
    note(child, "end", heard)
    return 0


def fail(child: ChildContext, plan: dict[str, Any]) -> int:
    """A main that cannot boot."""
    raise ImportError(plan.get("text", "No module named 'nowhere'"))


def hang(child: ChildContext, plan: dict[str, Any]) -> int:
    """A main that never says anything, deaf to everything."""
    note(child, "hang", [])
    while True:
        time.sleep(3600)


def once(child: ChildContext, plan: dict[str, Any]) -> int:
    """A main that gets ready the first time, and never again."""
    if list(Path(os.environ["DRIVER_NOTES"]).glob(f"{child.kind}-*-once.json")):
        return 4
    note(child, "once", [])
    child.control.send(b'{"ready": {"accepting": true}}\n')
    return 3


def until_worn(child: ChildContext, plan: dict[str, Any]) -> int:
    """A worker; after so many lives, of all places together, none can boot any more."""
    if len(list(Path(os.environ["DRIVER_NOTES"]).glob(f"{child.kind}-*-start.json"))) >= plan["lives"]:
        raise ImportError("No module named 'policy'")
    return serve(child, plan)


def brief(child: ChildContext, plan: dict[str, Any]) -> int:
    """A main that gets ready and ends, without the weight of a patched process."""
    child.control.send(b'{"ready": {"accepting": true}}\n')
    return 3


def parent(child: ChildContext, plan: dict[str, Any]) -> int:
    """A worker that leaves a grandchild behind, whose parent is gone: PID 1 inherits it."""
    if os.fork() == 0:
        if os.fork() == 0:
            while os.getppid() != 1:
                time.sleep(0.01)
            note(child, "orphaned", [])
        os._exit(0)
    os.wait()
    return serve(child, plan)


def real(child: ChildContext, plan: dict[str, Any]) -> int:
    """The product's own main."""
    return MAINS[child.kind](child)


def strict(child: ChildContext, plan: dict[str, Any]) -> int:
    """Patch with warnings as errors: nothing that the master has loaded may make a late patch unsafe."""
    import warnings

    forbidden = ("gevent", "redis", "OpenSSL", "prometheus_client", "sentry_sdk", "urllib3", "cryptography")
    loaded = sorted(name for name in forbidden if name in sys.modules)
    warnings.simplefilter("error")
    note(child, "modules", loaded)
    return serve(child, plan)


ROLES: dict[str, Callable[[ChildContext, dict[str, Any]], int]] = {
    "serve": serve,
    "fail": fail,
    "hang": hang,
    "once": once,
    "until_worn": until_worn,
    "brief": brief,
    "parent": parent,
    "real": real,
    "strict": strict,
}


def note(child: ChildContext, what: str, more: Any) -> None:
    """Leave a file for the test to read."""
    content = {
        "what": what,
        "more": more,
        "lane": child.lane,
        "fds": descriptors(),
        "sockets": [[name, list(sock.getsockname())] for name, sock in child.sockets if sock.fileno() >= 0],
        "ignored": [number.name for number in signal.Signals if signal.getsignal(number) == signal.SIG_IGN],
        "store_url": child.store_url,
        "at": time.monotonic(),
    }
    name = f"{child.kind}-{child.index}-{os.getpid()}-{what}.json"
    directory = Path(os.environ["DRIVER_NOTES"])
    (directory / f".{name}").write_text(json.dumps(content), "utf-8")
    (directory / f".{name}").rename(directory / name)


def descriptors() -> dict[str, str]:
    """What this process has open."""
    found = {}
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found[fd.name] = str(fd.readlink())
        except OSError:
            continue  # the descriptor of this very listing
    return found


def main() -> int:
    """Run a master on a settings file with planned children."""
    settings = config.load(Path(sys.argv[1]), {}, {})
    plans: dict[str, dict[str, Any]] = json.loads(sys.argv[2])

    def planned(kind: Kind) -> Main:
        plan = plans.get(kind, {"role": "real" if kind == "admin" else "serve"})
        return lambda child: ROLES[plan.get("role", "serve")](child, plan)

    kinds: list[Kind] = ["worker", "relay", "admin"]
    pace = Pace(**json.loads(sys.argv[3])) if len(sys.argv) > 3 else None
    return run(
        settings,
        mains={kind: planned(kind) for kind in kinds},
        pace=pace,
        source=Source(Path(sys.argv[1]), {}),
        **plans.get("run", {}),
        on_ready=lambda: print("READY", flush=True),
    )


if __name__ == "__main__":
    sys.exit(main())
