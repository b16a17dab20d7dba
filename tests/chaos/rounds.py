"""A run under kills: load on the front, kill -9 at random moments, restarts, and at the end the count.

Two next hops take the mail, so that both ways out are under fire: a logging server (`tests/sink.py`) and a Maildir;
some messages go to both. With a power cut instead of a mere kill, the sink is another machine: it keeps its power.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests import front as fronts
from tests.chaos.powercut import Cut, PowerCut
from tests.chaos.verdict import Outage, Verdict, judge
from tests.load import Load
from tests.ports import free_port
from tests.processes import alive, kill
from tests.settingsfile import OURS, smtp_route
from tests.sink import Delivery, Sink, described
from tests.wait import until

TARGETS = ("worker", "relay", "store", "master", "all")
BOX = "box.example"  # the domain whose mail goes to the Maildir
RECIPIENTS = f"b@{OURS},c@{BOX},b@{OURS},b@{OURS}+c@{BOX}"
RECOVERY_S = 20.0
PAUSE_S = (0.05, 1.2)
WORKERS = 2


@dataclass(slots=True, kw_only=True)
class Plan:
    """What to do. `durability` as in the settings; `power_cut`: every round cuts the power of the whole machine."""

    rounds: int
    seed: int
    durability: str = "fsync"
    power_cut: bool = False
    connections: int = 12
    rate: float = 150.0
    targets: tuple[str, ...] = TARGETS


@dataclass(slots=True)
class Result:
    """What happened."""

    verdict: Verdict
    outages: list[Outage] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    took_s: float = 0.0

    def table(self) -> str:
        """Kills by target, what the cuts took, then the verdict."""
        kills = {target: sum(o.target == target for o in self.outages) for target in {o.target for o in self.outages}}
        longest = max((o.over_at - o.at for o in self.outages), default=0.0)
        lines = [f"{f'killed: {target}':<64}{count:>8}" for target, count in sorted(kills.items())]
        lines.append(f"{'longest outage, seconds':<64}{longest:>8.1f}")
        if self.cuts:
            lines.append(f"{'files shortened by power cuts':<64}{sum(c.shortened for c in self.cuts):>8}")
            lines.append(f"{'bytes taken by power cuts':<64}{sum(c.taken_bytes for c in self.cuts):>8}")
            lines.append(f"{'Maildir entries undone by power cuts':<64}{sum(c.entries_undone for c in self.cuts):>8}")
        return "\n".join([*lines, self.verdict.table()])


class Run:
    """One run in a directory of its own. Everything it starts is in `programs`; `end` ends it."""

    def __init__(self, plan: Plan, directory: Path, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.say = say
        self.random = random.Random(plan.seed)
        self.maildir = directory / "box"
        self.sink = Sink(directory, free_port())
        self.cutter = PowerCut(directory) if plan.power_cut else None
        box = {"recipients": [BOX], "transport": "maildir", "path": str(self.maildir)}
        self.front = fronts.make(
            directory,
            smtp_route(self.sink.next_hop),
            env=self.cutter.environment if self.cutter else None,
            listener={"relay_domains": [OURS, BOX]},
            server={"workers": WORKERS},
            store={"durability": plan.durability},
            relay={"routes": [box, smtp_route(self.sink.next_hop)]},
        )
        self.load = Load(
            directory,
            self.front.address[1],
            connections=plan.connections,
            rate=plan.rate,
            recipients=RECIPIENTS,
            seconds=plan.rounds * (RECOVERY_S + PAUSE_S[1]),
            patience_s=120,
            timeout_s=15,
        )
        self.outages: list[Outage] = []
        self.cuts: list[Cut] = []

    def play(self) -> Result:
        """All rounds, then the count."""
        began_at = time.monotonic()
        self.sink.start()
        self._start_front()
        self.load.start()
        until(lambda: self.load.accepted() > 0, 15.0, "the load begins")
        for number, target in enumerate(self._targets(), 1):
            pause_s = self.random.uniform(*PAUSE_S)
            if self.cutter:
                # What is delivered at once cannot be lost: in some rounds the next hop makes it wait.
                self.sink.do("defer" if number % 2 else "deliver")
            time.sleep(pause_s)  # the random moment itself, not a wait for something
            killed_at = time.monotonic()
            self._kill(target)
            self._recover(target)
            self.outages.append(Outage(target, killed_at, time.monotonic()))
            self.say(
                f"{number:>3}  {target:<7} after {pause_s:4.2f} s, back after {time.monotonic() - killed_at:4.2f} s"
            )
        self.sink.do("deliver")
        self.load.terminate(150.0)
        self.front.await_empty_queue(30.0)
        return Result(self._verdict(), self.outages, self.cuts, time.monotonic() - began_at)

    def end(self) -> None:
        """Nothing of it is left."""
        for program in (self.load, self.front, self.sink):
            program.end()

    def _targets(self) -> list[str]:
        """Each target about equally often, in random order."""
        if self.cutter:
            return ["power"] * self.plan.rounds
        targets = [self.plan.targets[index % len(self.plan.targets)] for index in range(self.plan.rounds)]
        self.random.shuffle(targets)
        return targets

    def _kill(self, target: str) -> None:
        match target:
            case "master":
                kill(self.front.pid)
                self.front.wait(5.0)
            case "all" | "power":
                self.front.kill()
            case "nexthop":
                self.sink.kill()
            case _:
                victim = self.random.choice(self._living(target))
                kill(victim)
                until(lambda: not alive(victim), 5.0, f"{target} {victim} is dead")

    def _recover(self, target: str) -> None:
        """Until everything works again; what nobody restarts, we do."""
        if target in {"master", "all", "power"}:
            self.front.assert_all_ended(5.0)  # nothing outlives the master
            if self.cutter:
                store = [path for path in self.front.data_dir.rglob("appendonlydir") if path.is_dir()]
                assert store, f"no append-only files below {self.front.data_dir}"
                self.cuts.append(self.cutter.cut(store, [self.maildir]))
            self._start_front()
        elif target == "nexthop":
            self.sink.start()
        self.front.await_whole(RECOVERY_S)

    def _start_front(self) -> None:
        """With `durability = "memory"` the embedded store must be told that it need not sync: it always does."""
        self.front.start()
        if self.plan.durability == "memory":
            with self.front.store() as client:
                client.config_set("appendfsync", "no")

    def _living(self, kind: str) -> list[int]:
        return until(lambda: self.front.pids(kind), RECOVERY_S, f"a living {kind}")

    def _verdict(self) -> Verdict:
        deliveries = self.sink.deliveries() + _in_maildir(self.maildir)
        return judge(self.load.attempts(), deliveries, self.outages, self._dead())

    def _dead(self) -> list[str]:
        """Ids of dead letters."""
        with self.front.store() as client:
            keys = list(client.scan_iter(match="*}:dead"))
            return [_id_of(fields) for key in keys for _, fields in client.xrange(key)]


def _id_of(fields: dict[bytes, bytes]) -> str:
    return fields.get(b"id", b"").decode()


def _in_maildir(maildir: Path) -> list[Delivery]:
    """What lies in `new`. A file's time is the wall clock's, here as the monotonic clock would have it."""
    offset_s = time.time() - time.monotonic()
    deliveries = list[Delivery]()
    for path in (maildir / "new").glob("*"):
        content = path.read_bytes()
        while content.startswith((b"Return-Path:", b"Delivered-To:")):
            content = content.partition(b"\r\n" if b"\r\n" in content else b"\n")[2]
        at = path.stat().st_mtime - offset_s
        deliveries.append(described(content, "", [f"c@{BOX}"], at - 0.5, at))
    return deliveries


def play(plan: Plan, directory: Path, say: Callable[[str], None]) -> Result:
    """Run the plan; everything is ended afterwards."""
    run = Run(plan, directory, say)
    try:
        return run.play()
    except AssertionError:
        say(run.front.log_tail())
        raise
    finally:
        run.end()
