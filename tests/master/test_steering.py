"""New connections go to workers that can take them; what waits for one that cannot is accepted by another."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from mta_front.config import Bind, Listener
from mta_front.master.slots import Slots
from mta_front.master.sockets import open_tcp
from mta_front.master.spread import Fit, chosen, covered
from mta_front.master.steering import steer
from tests.master.driven import Driven
from tests.ports import free_port
from tests.processes import kill
from tests.wait import until


@pytest.mark.parametrize("numbers", [{0}, {5}, {1, 2, 4}, {0, 5}, {0, 2, 4}, {0, 1, 2, 3, 4, 5}])
def test_the_kernel_spreads_over_the_chosen_ones_and_nobody_else(numbers: set[int]) -> None:
    sockets = open_tcp(Bind("tcp", "127.0.0.1", free_port()), 6, 600)
    with ExitStack() as stack:
        for sock in sockets:
            stack.enter_context(sock)
        steer(sockets[0], numbers)
        for _ in range(60 * len(numbers)):
            stack.enter_context(socket.create_connection(sockets[0].getsockname()))
        got = queued(sockets)
    assert set(got) == numbers
    assert min(got.values()) >= 25, "each about as many: 60 are expected, less than 25 come once in a million runs"


def test_addresses_that_come_later_are_steered_too() -> None:
    first, later = (Listener(name=name, bind=[f"127.0.0.1:{free_port()}"]) for name in ("first", "later"))
    slots = Slots(4)
    slots.keep(slots.open([first], 100))
    slots.steer({1, 2})
    both = slots.open([first, later], 100)
    slots.steer({1, 2})  # as the loop does, while those who are to serve boot
    slots.keep(both)
    slots.steer({1, 2})
    with ExitStack() as stack:
        stack.callback(slots.close)
        for _ in range(40):
            stack.enter_context(socket.create_connection(both[1].sockets[0].getsockname()))
        assert set(queued(both[1].sockets)) == {1, 2}


def queued(sockets: list[socket.socket]) -> Counter[int]:
    """How many connections lie in the queue of each; they are accepted."""
    found = Counter[int]()
    for number, sock in enumerate(sockets):
        while True:
            try:
                sock.accept()[0].close()
            except BlockingIOError:
                break
            found[number] += 1
    return found


def test_who_holds_more_than_his_share_gets_no_more() -> None:
    def of(*sessions: int) -> set[int]:
        return set(chosen(Fit(slot, count) for slot, count in enumerate(sessions)))

    assert of() == set()
    assert of(7) == {0}
    assert of(0, 0, 0) == {0, 1, 2}
    assert of(1, 0, 0) == {0, 1, 2}, "one session more is no distress"
    assert of(3, 0, 0) == {1, 2}
    assert of(50, 50, 61, 39) == {0, 1, 3}
    assert of(52, 50, 50, 48) == {0, 1, 2, 3}


def test_each_slot_without_a_worker_has_one_that_accepts_for_it_and_it_stays_the_same() -> None:
    first = covered(6, [Fit(0, 10), Fit(3, 0)], {})
    assert set(first) == {1, 2, 4, 5}
    assert Counter(first.values()) == {0: 2, 3: 2}
    assert covered(6, [Fit(0, 0), Fit(3, 50)], first) == first
    assert covered(6, [Fit(0, 0), Fit(1, 0), Fit(3, 0)], first) == {slot: first[slot] for slot in (2, 4, 5)}
    assert set(covered(6, [Fit(5, 0)], first).values()) == {5}
    assert covered(6, [], first) == {}


def test_a_hung_worker_holds_no_connection_hostage(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 2, "block_kill_s": 60.0}).start()
    hung = front.child("worker", 0)["pid"]
    os.kill(hung, signal.SIGSTOP)
    with ExitStack() as stack:
        early = [stack.enter_context(socket.create_connection(front.address, timeout=5.0)) for _ in range(40)]
        for client in early:
            assert client.recv(100).split()[0] == b"1", "the other accepts from its queue, too"
        for _ in range(100):
            late = stack.enter_context(socket.create_connection(front.address, timeout=0.5))
            assert late.recv(100).split()[0] == b"1"
    os.kill(hung, signal.SIGCONT)
    until(lambda: front.ask()[0] == 0, message="it is back in service")
    assert front.child("worker", 0)["pid"] == hung


def test_while_a_worker_is_missing_nobody_waits_for_the_next_one(tmp_path: Path) -> None:
    pace = {"first_s": 60.0, "longest_s": 60.0, "good_life_s": 3600.0}
    front = Driven(tmp_path, pace=pace, server={"workers": 2}).start()
    for lives in (1, 2):  # a first death in service costs no wait, the next one the whole pace
        until(lambda: front.child("worker", 0)["accepting"], message="slot 0 has a worker")
        kill(front.child("worker", 0)["pid"])
        assert {front.ask()[0] for _ in range(50)} <= {0, 1}, "each is answered"
        front.await_event("worker died", count=lives)
    assert {front.ask()[0] for _ in range(50)} == {1}
    assert front.child("worker", 0)["pid"] == 0
