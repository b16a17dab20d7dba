"""A worker's chain in a process of its own, patched as a worker is, with warnings as errors (DECISIONS P1).

    python -W error -m tests.policy.auth.asker

It reads one JSON object a line: first {"auth": settings of `[auth]`}, then logins {"method", "username", "password",
"access_token", "times"}; `times` of them are made at once. It answers each with {"outcomes", "slowest_s", "reports"},
where an outcome is "yes USER ADDRESSES", "no", or "unavailable: reason". All that it writes otherwise goes to standard
error.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.processes import Program, python


def main() -> None:
    """The process."""
    from gevent import monkey

    monkey.patch_all()
    import logging

    logging.basicConfig(level=logging.DEBUG)  # what urllib3 and others log must show nothing secret either
    from mta_front.policy.auth.build import build
    from mta_front.settings.auth import Auth
    from mta_front.store.options import StoreOptions

    reports: list[str] = []
    settings = json.loads(sys.stdin.readline())["auth"]
    settings["secret"] = "fleet"
    chain = build(Auth.model_validate(settings), StoreOptions(url=""), report=reports.append)
    print(json.dumps({"methods": sorted(chain.methods)}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        answer = _logins(chain, asked.pop("times"), asked) | {"reports": list(reports)}
        reports.clear()
        print(json.dumps(answer), flush=True)
    chain.close()


def _logins(chain: Any, times: int, asked: dict[str, str]) -> dict[str, Any]:
    import time

    import gevent

    from mta_front.smtp.credentials import Credentials

    def login() -> tuple[str, float]:
        began = time.monotonic()
        method, username = asked["method"], asked["username"]
        credentials = Credentials(method, username, password=asked["password"], access_token=asked["access_token"])
        return _outcome(chain, credentials), time.monotonic() - began

    made = [gevent.spawn(login) for _ in range(times)]
    gevent.joinall(made, raise_error=True)
    return {"outcomes": [each.value[0] for each in made], "slowest_s": max(each.value[1] for each in made)}


def _outcome(chain: Any, credentials: Any) -> str:
    import traceback

    from mta_front.policy.auth.backend import Unavailable
    from tests.policy.auth.people import SESSION

    try:
        user = chain.verify(credentials, SESSION)
    except Unavailable as error:
        traceback.print_exc()  # what a report of the exception would show must hold nothing secret
        return f"unavailable: {error.reason}"
    print(repr(user), repr(credentials), file=sys.stderr)
    return "no" if user is None else " ".join(["yes", str(user), *user.addresses])


class Asker:
    """The other side: `log_in` in a running process. `seen`: everything that it wrote and answered."""

    def __init__(self, directory: Path, auth: dict[str, Any]) -> None:
        self._program = Program(
            python("-W", "error", "-m", "tests.policy.auth.asker"), directory / "asker.log", directory
        )
        self._auth = auth
        self.answers: list[str] = []
        self.methods: set[str] = set()
        self.reports: list[str] = []
        self.slowest_s = 0.0

    def __enter__(self) -> Self:
        log = self._program.log.open("ab")
        self._popen = subprocess.Popen(
            self._program.argv,
            cwd=self._program.cwd,
            env=self._program.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()
        self.methods = set(self._say({"auth": self._auth})["methods"])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.close()
        try:
            assert self._popen.wait(20) == 0, self.log()
        finally:
            self._popen.kill()
            self._popen.wait(5)
            self._popen.stdout.close()

    def log(self) -> str:
        """What it wrote."""
        return self._program.log_text()

    @property
    def seen(self) -> str:
        """Everything that came out of it."""
        return "\n".join([self.log(), *self.answers])

    def log_in(
        self, username: str, password: str = "", *, access_token: str = "", method: str = "", times: int = 1
    ) -> Any:
        """The outcome, or with `times` the list of them; `reports` and `slowest_s` are of this call."""
        method = method or ("OAUTHBEARER" if access_token else "PLAIN")
        asked = {"method": method, "username": username, "password": password, "access_token": access_token}
        answer = self._say(asked | {"times": times})
        self.reports, self.slowest_s = answer["reports"], answer["slowest_s"]
        return answer["outcomes"] if times > 1 else answer["outcomes"][0]

    def _say(self, what: dict[str, Any]) -> dict[str, Any]:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps(what) + "\n")
        self._popen.stdin.flush()
        line = self._popen.stdout.readline()
        assert line, self.log()
        self.answers.append(line)
        answer: dict[str, Any] = json.loads(line)
        return answer


if __name__ == "__main__":
    main()
