"""Hooks that block: each in a thread, while all other sessions go on."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
import pytest

from mta_front.blocking import Errand, HooksInThreads, Threads
from mta_front.hooks import Address, Defer, Hooks, Message, Reject, Session
from mta_front.smtp.credentials import Credentials
from tests.library.served import BODY, Noting, os_threads, served
from tests.smtp_talk import Talk, talk
from tests.wait import until

GATE_S = 20.0


class Held(Hooks):
    """The hook `name` blocks its thread until the test lets it go on, if the client's name is "held"."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def hold(self, name: str, held: bool) -> None:
        if held and name == self.name:
            self.reached.set()
            assert self.go_on.wait(GATE_S)

    def on_mail_from(self, address: Address, session: Session) -> None:
        self.hold("on_mail_from", session.host_name_appears_as == "held")

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        self.hold("on_rcpt_to", session.host_name_appears_as == "held")

    def on_data(self, message: Message, session: Session) -> None:
        for _ in message:
            self.hold("on_data", session.host_name_appears_as == "held")


@pytest.mark.parametrize("name", ["on_mail_from", "on_rcpt_to", "on_data"])
def test_a_hook_that_blocks_holds_up_its_own_session_only(name: str) -> None:
    hooks = Held(name)
    with served(hooks=hooks, blocking_hooks=True) as server, Talk(server.address) as held:
        held.greeting("held")
        held.raw(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
        if name == "on_data":
            assert [held.reply().code for _ in range(3)] == [250, 250, 354]
            held.raw(BODY + b".\r\n")
        assert hooks.reached.wait(GATE_S)
        with talk(server.address) as other:
            for _ in range(3):
                assert other.send(BODY).code == 250
        hooks.go_on.set()
        if name != "on_data":
            assert [held.reply().code for _ in range(3)] == [250, 250, 354]
            held.raw(BODY + b".\r\n")
        assert held.reply().code == 250


def test_without_it_a_hook_that_blocks_stops_everybody() -> None:
    """What the option is for; and so that the test above is known to mean something."""
    hooks = Held("on_mail_from")
    with served(hooks=hooks) as server, Talk(server.address) as held, talk(server.address) as other:
        held.greeting("held")
        held.raw(b"MAIL FROM:<a@b.example>\r\n")
        assert hooks.reached.wait(GATE_S)
        other.raw(b"NOOP\r\n")
        other.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            other.sock.recv(100)
        hooks.go_on.set()
        assert other.reply().code == 250


def test_each_hook_runs_in_a_thread_that_is_not_the_servers() -> None:
    threads: dict[str, str] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda *_: threads.update({name: threading.current_thread().name})

    hooks = {name: note(name) for name in ("on_connect", "on_mail_from", "on_rcpt_to", "on_data", "on_close")}
    with served(**hooks, blocking_hooks=True) as server:
        with talk(server.address) as client:
            client.send(BODY)
        until(lambda: "on_close" in threads)
    assert set(threads) == set(hooks)
    assert "SMTPServer" not in threads.values()


def test_a_message_is_read_segment_by_segment_in_bounded_memory() -> None:
    """100 MiB through one session: the process grows by a few segments, not by the message."""
    line = b"x" * 998 + b"\r\n"
    block = line * 1048
    seen: list[tuple[int, int]] = []

    def count(message: Message, session: Session) -> str:
        largest = size = 0
        for segment in message:
            size += len(segment)
            largest = max(largest, len(segment))
        seen.append((size, largest))
        return str(message.byte_length)

    with served(on_data=count, blocking_hooks=True) as server, talk(server.address, 60) as client:
        client.send(block)  # what is allocated once
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        client.envelope("a@b.example", ["c@d.example"])
        for _ in range(100):
            client.raw(block)
        client.raw(b".\r\n")
        assert client.reply().text == f"2.0.0 {100 * len(block)}"
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert seen[1][0] == 100 * len(block)
    assert seen[1][1] <= 1024 * 1024
    assert grown_kib < 16 * 1024


def test_the_session_reads_on_only_when_the_hook_does() -> None:
    """A hook that takes its time slows its client down: what it has not asked for stays in the socket."""
    ask = threading.Semaphore(0)
    sizes: list[int] = []

    def slowly(message: Message, session: Session) -> None:
        for segment in message:
            sizes.append(len(segment))
            assert ask.acquire(timeout=GATE_S)

    with served(on_data=slowly, blocking_hooks=True) as server, talk(server.address) as client:
        client.envelope("a@b.example", ["c@d.example"])
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.sock.setblocking(False)
        sent, stuck_since = 0, monotonic()
        block = b"y" * 998 + b"\r\n"
        block *= 64
        while monotonic() - stuck_since < 0.5:
            try:
                sent += client.sock.send(block[sent % len(block) :])
                stuck_since = monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        assert len(sizes) == 1
        assert sent < 32 * 1024 * 1024  # what kernel buffers hold, and no more
        rest = block[sent % len(block) :] if sent % len(block) else b""
        for _ in range(100_000):
            ask.release()
        client.sock.setblocking(True)
        client.raw(rest + b".\r\n")
        assert client.reply().code == 250


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Reject(554, "5.6.0", "Bad content"), "554 5.6.0 Bad content"),
        (Defer("Later"), "450 4.7.1 Later"),
        (KeyError("a bug"), "451 4.3.0 Local error in processing, try again later"),
        (SystemExit(3), "451 4.3.0 Local error in processing, try again later"),
    ],
)
@pytest.mark.parametrize("read", [True, False])
def test_what_a_hook_raises_in_its_thread_is_what_the_client_hears(
    raised: BaseException, expected: str, read: bool
) -> None:
    errors: list[BaseException] = []

    def refuse(message: Message, session: Session) -> None:
        if read:
            message.read()
        raise raised

    hooks = {"on_data": refuse, "on_error": lambda error, session: errors.append(error)}
    with served(**hooks, blocking_hooks=True) as server, talk(server.address) as client:
        assert str(client.send(BODY)) == expected
        client.expect("NOOP", 250)
    assert errors == ([] if isinstance(raised, Reject | Defer) else [raised])


@pytest.mark.parametrize("swallow", [False, True])
def test_a_client_that_leaves_raises_connection_error_in_the_thread(swallow: bool) -> None:
    raised: list[BaseException] = []
    errors: list[BaseException] = []

    def read(message: Message, session: Session) -> None:
        try:
            message.read()
        except ConnectionError as error:
            raised.append(error)
            if not swallow:
                raise

    hooks = {"on_data": read, "on_error": lambda error, session: errors.append(error)}
    with served(**hooks, blocking_hooks=True) as server:
        with talk(server.address) as client:
            client.envelope("a@b.example", ["c@d.example"])
            client.raw(b"half\r\n")
        until(lambda: server.sessions == 0 and raised)
    assert len(raised) == 1
    assert errors == []


def test_a_thread_that_reads_when_its_session_was_cut_is_not_left_waiting() -> None:
    reached, ended = threading.Event(), threading.Event()
    go_on = threading.Event()
    raised: list[BaseException] = []

    def stubborn(message: Message, session: Session) -> None:
        message.read()
        reached.set()
        assert go_on.wait(GATE_S)
        for _ in range(3):
            try:
                message.read()
            except ConnectionError as error:
                raised.append(error)
        ended.set()

    with served(on_data=stubborn, blocking_hooks=True) as server, talk(server.address) as client:
        client.envelope("a@b.example", ["c@d.example"])
        client.raw(b".\r\n")
        assert reached.wait(GATE_S)
        begun = monotonic()
        assert server.close(0.1) is False
        assert monotonic() - begun < 10
        go_on.set()
        assert ended.wait(GATE_S)
    assert [str(error) for error in raised] == ["the session is over"] * 3


def test_a_thread_whose_greenlet_is_killed_as_it_asks_gets_an_answer() -> None:
    """Whichever comes first, the question or the end: the thread does not wait for ever."""
    outcomes: list[object] = []

    def run() -> None:
        threads = Threads(1)
        for _ in range(200):
            asking, ended = threading.Event(), threading.Event()
            errand = Errand(threads)

            def work(errand: Errand = errand, asking: threading.Event = asking, ended: threading.Event = ended) -> None:
                asking.set()
                try:
                    outcomes.append(errand.ask(int))
                except ConnectionError:
                    outcomes.append(None)
                ended.set()

            greenlet = gevent.spawn(errand.run, work)
            while not asking.is_set():
                gevent.sleep(0)
            greenlet.kill(block=False)  # the question comes about now
            greenlet.join()
            if not ended.wait(GATE_S):
                break
        threads.end()
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert len(outcomes) == 200


def test_many_slow_messages_do_not_hold_up_the_other_hooks() -> None:
    """On_data has threads of its own: how long it takes is up to the clients."""
    clients: list[Talk] = []
    with served(hooks=Noting(), blocking_hooks=True) as server:
        try:
            for _ in range(50):
                clients.append(talk(server.address))
                clients[-1].envelope("a@b.example", ["c@d.example"])
            with talk(server.address) as other:
                assert other.send(BODY).code == 250
            for client in clients:
                assert client.body(BODY).code == 250
        finally:
            for client in clients:
                client.close()


def test_a_hook_that_is_not_there_costs_no_thread() -> None:
    before = os_threads()
    with served(blocking_hooks=True) as server, talk(server.address) as client:
        client.send(BODY)
        assert os_threads() <= before + 1


def test_a_login_in_a_thread_asks_the_client_through_its_session() -> None:
    """`credentials.ask` and `hold_back` belong to the session's greenlet; SCRAM calls the one from the hook. Who called
    the hook has them back afterwards.
    """
    held_back: list[tuple[float, int]] = []
    asked: list[tuple[bytes, int]] = []
    result: list[Any] = []

    class Asking(Hooks):
        def on_auth(self, credentials: Credentials, session: Session) -> Any:
            assert credentials.ask is not None
            credentials.hold_back(1.0)
            return threading.get_ident(), credentials.ask(b"challenge")

    def answer(challenge: bytes) -> bytes:
        asked.append((challenge, threading.get_ident()))
        return b"response"

    def run() -> None:
        hooks: Any = HooksInThreads(Asking())
        credentials = Credentials("SCRAM-SHA-256", "user")
        credentials.ask = answer
        credentials.hold_back = lambda delay_s: held_back.append((delay_s, threading.get_ident()))
        result.append((threading.get_ident(), hooks.on_auth(credentials, Session("1", "test"))))
        credentials.hold_back(2.0)
        hooks.end()
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(GATE_S)
    [(own, (hook_thread, response))] = result
    assert response == b"response"
    assert asked == [(b"challenge", own)]
    assert held_back == [(1.0, own), (2.0, own)]
    assert hook_thread != own
