"""`max_clients` holds over all workers of a front, and what a killed worker held comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack

from tests.front import Front
from tests.smtp_talk import Talk
from tests.wait import until

LIMIT = 5


def codes(front: Front, clients: int) -> list[int]:
    """What so many clients hear who are there at once."""
    with ExitStack() as stack:
        talks = [stack.enter_context(Talk(front.address)) for _ in range(clients)]
        return sorted(talk.reply().code for talk in talks)


def test_the_limit_is_over_all_workers(serve: Callable[..., Front]) -> None:
    front = serve({"recipients": ["*"], "transport": "discard"}, listener={"max_clients": LIMIT})
    assert codes(front, 4 * LIMIT) == [220] * LIMIT + [421] * 3 * LIMIT
    until(lambda: codes(front, LIMIT) == [220] * LIMIT, 10, "all were counted out again")
    with ExitStack() as stack:

        def one_more() -> bool:
            return stack.enter_context(Talk(front.address)).reply().code == 220

        for _ in range(LIMIT):
            until(one_more, 10, "those before were counted out")
        for pid in front.pids("worker"):
            os.kill(pid, signal.SIGKILL)
        front.await_whole()
        until(lambda: codes(front, LIMIT + 1) == [220] * LIMIT + [421], 10, "the dead were counted out")
