"""A spray of guesses at the limits, and people who log in meanwhile: `python -m tests.limits.attack --store SOCKET`.

What a front asks for each login is asked here too, by the same code (`policy.limiting`, `store.limits`) of a real
Redis, for three workers; only the sockets are missing, and passwords are kept as one SHA-256, since 100,000 times
argon2 would be an hour of CPU. Time runs 100 times as fast: windows, lock-outs and tarpits are a hundredth of what they
are by default. All times below are those of the story.

The story. Each of many addresses guesses at its own pace, all together the first password of a list for every user,
then the second one, and so on. A tenth of the users have a password that is in the list. Each user logs in at home
every three minutes or so, and mistypes the password now and then; and three times from somewhere new.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.processes import ROOT, Program, python

if TYPE_CHECKING:
    from mta_front.policy.limiting import Limiting
    from mta_front.store.limits.rules import LimitOptions

FASTER = 100.0
WORKERS = 3
AT_HOME_EVERY_S = 180.0
MISTYPED = 0.03
NEW_PLACES = 3
SAMPLES = 60


@dataclass
class Sample:
    """What had happened until then."""

    at_s: float
    guesses: int = 0
    tested: int = 0
    through: int = 0


@dataclass
class Result:
    """What became of it all. `tested`: guesses that were compared with a password; `through`: those that were right."""

    guesses: int = 0
    addresses: int = 0
    users: int = 0
    duration_s: float = 0.0
    tested: int = 0
    through: int = 0
    weak_users: int = 0
    known: int = 0
    known_refused: int = 0
    new: int = 0
    new_refused: int = 0
    new_delayed: int = 0
    new_delay_s: float = 0.0  # the longest
    samples: list[Sample] = field(default_factory=list)


def attack(directory: Path, socket: Path, timeout_s: float, **given: float) -> Result:
    """Run it as a program of its own; its result."""
    out = directory / "attack.json"
    arguments = ["--store", str(socket), "--out", str(out)]
    for name, value in given.items():
        arguments += [f"--{name}", str(value)]
    with Program(python("-m", "tests.limits.attack", *arguments), directory / "attack.log", ROOT) as program:
        assert program.wait(timeout_s) == 0, program.log_text()
    return read(out)


def read(path: Path) -> Result:
    """A result that was written."""
    found = json.loads(path.read_text("utf-8"))
    return Result(**found | {"samples": [Sample(**sample) for sample in found["samples"]]})


# -- the process -------------------------------------------------------------------------------------------------------


class _Story:
    def __init__(self, arguments: argparse.Namespace, doors: list[Limiting]) -> None:
        self._doors = doors
        self._dice = random.Random(5)
        self._passwords: dict[str, bytes] = {}
        self._numbers = iter(range(10**9))
        self._delays_s: list[float] = []
        self._duration_s = arguments.minutes * 60 / FASTER
        count = arguments.users
        self.result = Result(addresses=arguments.addresses, users=count, duration_s=arguments.minutes * 60)
        self._guesses: int = arguments.guesses
        self._users = [f"user{number}" for number in range(count)]
        rounds = self._guesses // count
        for number, user in enumerate(self._users):
            weak = number % 10 == 0
            self.result.weak_users += weak
            password = f"list{self._dice.randrange(rounds)}" if weak else f"own{self._dice.random()}"
            self._passwords[user] = hashlib.sha256(password.encode()).digest()

    def play(self) -> None:
        import gevent

        for user in self._users:  # they were at home before
            assert self._logs_in(user, self._home(user)) == "in"
        self._began_at = self._now()
        people = [gevent.spawn(self._at_home, user) for user in self._users]
        people += [gevent.spawn(self._elsewhere, user, n) for user in self._users for n in range(NEW_PLACES)]
        sampler = gevent.spawn(self._sample)
        attackers = [gevent.spawn(self._guess, number) for number in range(self.result.addresses)]
        gevent.joinall([*attackers, *people], raise_error=True)
        sampler.kill()
        self._note()
        result = self.result
        result.new_delayed = len(self._delays_s)
        result.new_delay_s = round(max(self._delays_s, default=0.0), 1)

    # -- those who guess ---------------------------------------------------------------------------------------------

    def _guess(self, number: int) -> None:
        """The n-th guess of all is the password n // users of the list, for the user n % users."""
        each = self._guesses // self.result.addresses
        pace_s = self._duration_s / each
        address = _address("198.18", number)
        offset_s = self._dice.random() * pace_s
        for turn in range(each):
            self._await(offset_s + turn * pace_s)
            place = turn * self.result.addresses + number
            self.result.guesses += 1
            outcome = self._tries(self._users[place % len(self._users)], f"list{place // len(self._users)}", address)
            self.result.tested += outcome != "refused"
            self.result.through += outcome == "in"

    # -- people ------------------------------------------------------------------------------------------------------

    def _home(self, user: str) -> str:
        return _address("203.0", int(user.removeprefix("user")))

    def _at_home(self, user: str) -> None:
        at_s = self._dice.random() * AT_HOME_EVERY_S / FASTER
        while at_s < self._duration_s:
            self._await(at_s)
            if self._dice.random() < MISTYPED:
                self._tries(user, "mistyped", self._home(user))
            self.result.known += 1
            self.result.known_refused += self._logs_in(user, self._home(user)) != "in"
            at_s += (0.5 + self._dice.random()) * AT_HOME_EVERY_S / FASTER

    def _elsewhere(self, user: str, number: int) -> None:
        self._await(self._dice.random() * self._duration_s)
        address = (
            f"100.{64 + number}.{int(user.removeprefix('user')) // 250}.{int(user.removeprefix('user')) % 250 + 1}"
        )
        self.result.new += 1
        delays_s: list[float] = []
        self.result.new_refused += self._login(user, self._passwords[user], address, delays_s) != "in"
        if delays_s:
            self._delays_s.append(sum(delays_s) * FASTER)

    # -- a login -----------------------------------------------------------------------------------------------------

    def _logs_in(self, user: str, address: str) -> str:
        """With the right password."""
        return self._login(user, self._passwords[user], address)

    def _tries(self, user: str, password: str, address: str) -> str:
        return self._login(user, hashlib.sha256(password.encode()).digest(), address)

    def _login(self, user: str, digest: bytes, address: str, delays_s: list[float] | None = None) -> str:
        """`in`, `wrong`, or `refused` before anybody looked at the password. `delays_s` is told how late it was."""
        import gevent

        from mta_front.hooks import AuthRejected, Credentials, Defer, Session

        number = next(self._numbers)
        session = Session(str(number), "mx", remote_address=address, trust_address=address)
        credentials = Credentials("PLAIN", user)

        def hold_back(delay_s: float) -> None:
            if delays_s is not None:
                delays_s.append(delay_s)
            gevent.sleep(delay_s)

        credentials.hold_back = hold_back

        def verify() -> str:
            if digest != self._passwords[user]:
                raise AuthRejected
            return user

        try:
            self._doors[number % len(self._doors)].login(credentials, session, verify)
        except AuthRejected:
            return "wrong"
        except Defer:
            return "refused"
        return "in"

    # -- time --------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        from time import monotonic

        return monotonic()

    def _await(self, at_s: float) -> None:
        import gevent

        gevent.sleep(max(0.0, self._began_at + at_s - self._now()))

    def _sample(self) -> None:
        for number in range(SAMPLES):
            self._await(number * self._duration_s / SAMPLES)
            self._note()

    def _note(self) -> None:
        result = self.result
        at_s = round((self._now() - self._began_at) * FASTER, 1)
        result.samples.append(Sample(at_s, result.guesses, result.tested, result.through))


def _address(network: str, number: int) -> str:
    return f"{network}.{number // 250}.{number % 250 + 1}"


def options(socket: str) -> LimitOptions:
    """The limits of logins that `serve` has by default, a hundred times as fast."""
    from mta_front.settings.limits import AuthFailures
    from mta_front.store.limits.rules import AuthRules, LimitOptions, Rate, Rules
    from mta_front.store.options import StoreOptions

    said = AuthFailures()

    def faster(text: str) -> Rate:
        rate = Rate.parse(text)
        return Rate(rate.count, rate.period_s / FASTER, rate.burst)

    auth = AuthRules(
        per_address=faster(said.per_address),
        per_user=faster(said.per_user),
        per_pair=faster(said.per_pair),
        known_address_days=said.known_address_days,
        lockout_s=tuple(length_s / FASTER for length_s in said.lockout_s),
        tarpit_s=(said.tarpit_s / FASTER, said.tarpit_max_s / FASTER),
    )
    # A machine that is busy with other tests is not what this is about: nobody gives the store up.
    return LimitOptions(
        store=StoreOptions(url=f"unix://{socket}"), rules=Rules(auth=auth), timeout_ms=8000, slow_ms=8000
    )


def main() -> None:
    """Play it, and write down what became of it."""
    from gevent import monkey

    monkey.patch_all()
    import gevent

    from mta_front.observe.events import Events
    from mta_front.policy.limiting import Limiting
    from mta_front.store.limits.shared import Limits

    class Changes(Events):
        """Hears when a worker has to do without the store."""

        def limits_mode(self, mode: str, reason: str) -> None:
            changes.append(f"{mode}: {reason}")

    changes: list[str] = []
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True, help="socket of a Redis")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--guesses", type=int, default=100_000)
    parser.add_argument("--addresses", type=int, default=1000)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60.0, help="of the story, in which the guesses come")
    arguments = parser.parse_args()
    workers = [Limits(options(arguments.store), Changes()) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    with gevent.Timeout(10.0):
        while not all(worker.ready for worker in workers):
            gevent.sleep(0.01)
    story = _Story(arguments, [Limiting(worker) for worker in workers])
    story.play()
    for worker in workers:
        worker.close()
    arguments.out.write_text(json.dumps(asdict(story.result), indent=1) + "\n", "utf-8")
    if changes:
        raise SystemExit(f"this proves nothing: {changes}")


if __name__ == "__main__":
    main()
