"""Constant memory: large messages in parallel, also with a store that stalls, also as one endless line (W6)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from signal import SIGCONT, SIGSTOP

import pytest

from tests.front import Front
from tests.postfix import SmtpSink
from tests.processes import kill, memory_bytes
from tests.settingsfile import smtp_route
from tests.smtp_talk import Answer, talk
from tests.wait import until

pytestmark = pytest.mark.timeout(900)  # for --full
MIB = 1024 * 1024
PARALLEL, LIMIT_BYTES = 8, 120 * MIB
LINES = (b"The quick brown fox jumps over the lazy dog, and over the lazy dog once more.\r\n" * 14_000)[
    : MIB - 2
] + b"\r\n"
ONE_LINE = b"x" * MIB


def send(front: Front, piece: bytes, pieces: int, answers: list[Answer]) -> None:
    """One message of `pieces` times `piece`, which are read from nowhere and kept nowhere."""
    with talk(front.address, timeout_s=100.0) as session:
        session.envelope("a@client.example", ["b@ours.example"])
        session.raw(b"Subject: large\r\n\r\n")
        for _ in range(pieces):
            session.raw(piece)
        answers.append(session.command("\r\n."))
        session.quit()


@contextmanager
def stopped_every_other_second(front: Front) -> Iterator[None]:
    """SIGSTOP and SIGCONT to the store, one second each."""
    (store,) = front.pids("store")
    over = threading.Event()

    def alternate() -> None:
        while not over.is_set():
            kill(store, SIGSTOP)
            over.wait(1.0)
            kill(store, SIGCONT)
            over.wait(1.0)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        kill(store, SIGCONT)


@pytest.mark.parametrize("case", ["lines", "one line", "store stopped 1 s in 2"])
def test_no_worker_above_120_mib(
    case: str, serve: Callable[..., Front], smtp_sink: SmtpSink, full: bool, figures: Callable[[str], None]
) -> None:
    """8 messages of 100 MiB at once (25 without --full). The peak of every process but the store's, relay included."""
    mib = 100 if full else 25
    front = serve(smtp_route(smtp_sink.next_hop), listener={"size_bytes": 200 * MIB, "socket_timeout_s": 60.0})
    ours = {kind: front.pids(kind) for kind in ("worker", "relay", "admin", "master")}
    assert len(ours["worker"]) == 2
    answers: list[Answer] = []
    piece = ONE_LINE if case == "one line" else LINES
    began_at = time.monotonic()
    with stopped_every_other_second(front) if case.startswith("store") else nullcontext():
        senders = [threading.Thread(target=send, args=(front, piece, mib, answers)) for _ in range(PARALLEL)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        took_s = time.monotonic() - began_at
        assert [answer.code for answer in answers] == [250] * PARALLEL, [str(answer) for answer in answers]
        until(lambda: smtp_sink.messages() == PARALLEL, 90.0, "all reach the next hop")
    peaks = {kind: max(memory_bytes(pid) for pid in pids) for kind, pids in ours.items()}
    figures(
        f"8 x {mib} MiB in {took_s:.1f} s; peaks in MiB: "
        + ", ".join(f"{kind} {peak / MIB:.0f}" for kind, peak in peaks.items())
    )
    assert all(0 < peak <= LIMIT_BYTES for peak in peaks.values()), peaks
    front.await_empty_queue()
