"""The pump over real sockets: hooks, refusals, bugs, time-outs, capacity, drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from contextlib import ExitStack
from time import monotonic
from typing import Any

import gevent
import pytest

from mta_front.hooks import Address, Defer, Envelope, Hooks, Message, Reject, Reply, Session
from tests.net.live import live
from tests.smtp_talk import Silence, Talk
from tests.wait import until


class Recording(Hooks):
    """Accepts; keeps messages."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.closed = 0
        self.sessions: list[Session] = []

    def on_connect(self, session: Session) -> None:
        self.sessions.append(session)

    def on_data(self, message: Message, session: Session) -> str | Reply | None:
        self.messages.append(message.read())
        return "kept"

    def on_close(self, session: Session) -> None:
        self.closed += 1


def test_a_message_reaches_the_hook_byte_for_byte() -> None:
    hooks = Recording()
    body = b"Subject: x\r\n\r\n.\r\n..\r\n.dot\r\n" + b"\xff\x00" * 50_000 + b"\r\n"
    with live(hooks) as server, Talk(server.address) as client:
        client.greeting()
        answer = client.send(body)
        assert (answer.code, answer.text) == (250, "2.0.0 kept")
        assert client.quit().code == 221
        client.ended()
        until(lambda: hooks.closed)
    assert hooks.messages == [body]
    assert server.noted.closed == ["quit"]
    assert server.noted.accepted[0]["size_bytes"] == len(body)


def test_session_and_envelope_tell_who_and_what() -> None:
    seen: list[tuple[object, ...]] = []

    class Looking(Hooks):
        def on_data(self, message: Message, session: Session) -> str | Reply | None:
            envelope = session.envelope
            assert envelope.mail_from is not None
            seen.append(
                (session.host_name_appears_as, session.opening_command, session.transmission_type,
                 session.remote_address,
                 session.remote_port, session.local_port, session.transaction, envelope.mail_from.address,
                 envelope.mail_from.args, [rcpt.address for rcpt in envelope.rcpt_to], envelope.body_type)
            )  # fmt: skip
            return None

    with live(Looking()) as server, Talk(server.address) as client:
        client.greeting("me.example")
        client.expect("MAIL FROM:<a@b.example> BODY=8BITMIME SIZE=3", 250)
        client.expect("RCPT TO:<c@d.example>", 250)
        client.expect("RCPT TO:<e@f.example>", 250)
        client.expect("DATA", 354)
        client.body(b"x\r\n")
        port = client.sock.getsockname()[1]
    assert seen == [
        ("me.example", "EHLO", "ESMTP", "127.0.0.1", port, server.address[1], 1, "a@b.example",
         {"BODY": "8BITMIME", "SIZE": "3"}, ["c@d.example", "e@f.example"], "8bitmime")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Reject(551, "5.1.6", "Moved"), "551 5.1.6 Moved"),
        (Reject("Not here"), "550 5.7.1 Not here"),
        (Reject(554), "554 5.0.0 Refused by policy"),
        (Defer("Later"), "450 4.7.1 Later"),
        (Defer(452, "4.2.2", "Full"), "452 4.2.2 Full"),
        (Reject(550, "two\r\n250 lines"), "550 5.0.0 two"),
        (ValueError("a bug"), "451 4.3.0 Local error in processing, try again later"),
        (gevent.Timeout(), "451 4.3.0 Local error in processing, try again later"),
        (SystemExit(3), "451 4.3.0 Local error in processing, try again later"),
    ],
)
@pytest.mark.parametrize("hook", ["on_mail_from", "on_rcpt_to", "on_data"])
def test_what_a_hook_raises_is_answered_and_the_session_goes_on(
    hook: str, raised: BaseException, expected: str
) -> None:
    hooks = Recording()

    def refuse(*_: object) -> None:
        raise raised

    setattr(hooks, hook, refuse)
    with live(hooks) as server, Talk(server.address) as client:
        client.greeting()
        if hook == "on_mail_from":
            answer = client.command("MAIL FROM:<a@b.example>")
        elif hook == "on_rcpt_to":
            client.expect("MAIL FROM:<a@b.example>", 250)
            answer = client.command("RCPT TO:<a@b.example>")
        else:
            answer = client.send(b"unread\r\n")
        assert str(answer) == expected
        delattr(hooks, hook)
        client.expect("RSET", 250)
        assert client.send(b"x\r\n").code == 250
    verb = {"on_mail_from": "MAIL", "on_rcpt_to": "RCPT", "on_data": "DATA"}[hook]
    is_bug = expected.startswith("451")
    assert bool(server.noted.faults) == is_bug
    assert server.noted.refused == ([] if is_bug else [(verb, int(expected[:3]))])


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Reject("Go away"), "554 5.7.1 Go away"),
        (Defer(421, "4.7.0", "Later"), "421 4.7.0 Later"),
        (Defer("Later"), "421 4.7.0 Later"),
        (gevent.Timeout(), "451 4.3.0 Local error in processing, try again later"),
    ],
)
def test_a_refused_client_hears_why_and_is_cut(raised: BaseException, expected: str) -> None:
    class Closed(Recording):
        def on_connect(self, session: Session) -> None:
            raise raised

    with live(Closed()) as server, Talk(server.address) as client:
        assert str(client.reply()) == expected
        client.ended()


@pytest.mark.parametrize("answer", [True, 5, object(), [5], b"x", Reply(354, "", "go on"), [Reply(334, "", "x")]])
def test_an_answer_that_is_none_is_a_fault_and_451(answer: Any) -> None:
    class Odd(Hooks):
        def on_data(self, message: Message, session: Session) -> Any:
            return answer

    with live(Odd()) as server, Talk(server.address) as client:
        client.greeting()
        assert str(client.send(b"x\r\n")).startswith("451 4.3.0")
        client.expect("NOOP", 250)
        assert len(server.noted.faults) == 1


@pytest.mark.parametrize("raised", [asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt(), MemoryError()])
def test_whatever_a_hook_raises_is_heard_of_and_ends_no_session(raised: BaseException) -> None:
    class Odd(Hooks):
        def on_rcpt_to(self, address: Address, session: Session) -> None:
            raise raised

    with live(Odd()) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("MAIL FROM:<a@b.example>", 250)
        client.expect("RCPT TO:<c@d.example>", 451)
        client.expect("NOOP", 250)
        assert server.noted.faults == [raised]


def test_a_hooks_own_time_out_around_its_reading_leaves_no_deadline() -> None:
    class Impatient(Hooks):
        def on_data(self, message: Message, session: Session) -> str:
            with gevent.Timeout(0.2, False):
                message.read()
            gevent.sleep(2.0)
            return "thought about it"

    with live(Impatient(), socket_timeout_s=1.0) as server, Talk(server.address) as client:
        client.greeting()
        client.envelope("a@b.example", ["c@d.example"])
        client.raw(b"x\r\n")
        with pytest.raises(Silence):
            client.reply(0.5)
        client.raw(b"y\r\n.\r\n")
        assert client.reply().text.endswith("thought about it")


def test_transactions_are_numbered_from_one_and_only_messages_count() -> None:
    numbers: list[int] = []

    class Numbered(Hooks):
        def on_mail_from(self, address: Address, session: Session) -> None:
            numbers.append(session.transaction)

    with live(Numbered()) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("MAIL FROM:<a@b.example>", 250)
        client.expect("RSET", 250)
        client.send(b"x\r\n")
        client.send(b"x\r\n")
    assert numbers == [1, 1, 2]


def test_354_comes_whatever_the_hook_does_before_it_reads() -> None:
    class Thinking(Hooks):
        def on_data(self, message: Message, session: Session) -> None:
            gevent.sleep(0.6)

    with live(Thinking()) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("MAIL FROM:<a@b.example>", 250)
        client.expect("RCPT TO:<c@d.example>", 250)
        client.raw(b"DATA\r\n")
        assert client.reply(0.4).code == 354
        assert client.body(b"x\r\n").code == 250


@pytest.mark.parametrize("change", ["clear", "double", "replace"])
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_hook_that_changes_the_recipients_changes_no_count_of_replies(change: str, protocol: str) -> None:
    """RFC 2033 §4.2: one reply for each recipient that the client named."""

    class Changing(Hooks):
        def on_data(self, message: Message, session: Session) -> None:
            if change == "clear":
                session.envelope.rcpt_to.clear()
            elif change == "double":
                session.envelope.rcpt_to *= 2
            else:
                session.envelope = Envelope()

    lmtp = protocol == "lmtp"
    with live(Changing(), lmtp=lmtp) as server, Talk(server.address) as client:
        client.greeting(verb="LHLO" if lmtp else "EHLO")
        client.envelope("a@b.example", ["c@d.example", "e@d.example"])
        client.raw(b"x\r\n.\r\nNOOP\r\n")
        answers = [client.reply() for _ in range(3 if lmtp else 2)]
        assert [str(answer) for answer in answers] == ["250 2.0.0 Ok"] * len(answers)
        client.expect("HELP", 214)
        assert server.noted.faults == []


def test_a_421_among_the_answers_of_lmtp_closes_after_all_of_them() -> None:
    class Leaving(Hooks):
        def on_data(self, message: Message, session: Session) -> list[Any]:
            return [Defer(421, "4.3.2", "Later"), "taken"]

    with live(Leaving(), lmtp=True) as server, Talk(server.address) as client:
        client.greeting(verb="LHLO")
        client.envelope("a@b.example", ["c@d.example", "e@d.example"])
        assert client.body(b"x\r\n").code == 421
        assert client.reply().code == 250
        client.ended()


def test_what_a_hook_does_to_an_envelope_stays_in_its_session() -> None:
    seen: list[tuple[str, str]] = []

    class Asking(Hooks):
        def on_rcpt_to(self, address: Address, session: Session) -> None:
            dsn = session.envelope.dsn
            seen.append((dsn.ret, dsn.envid))
            dsn.ret, dsn.envid = "HDRS", "mine"

    with live(Asking()) as server:
        for _ in range(2):
            with Talk(server.address) as client:
                client.greeting()
                client.expect("MAIL FROM:<a@b.example>", 250)
                client.expect("RCPT TO:<c@d.example>", 250)
    assert seen == [("", ""), ("", "")]


def test_what_a_hook_leaves_unread_is_read_and_dropped() -> None:
    class Half(Hooks):
        def on_data(self, message: Message, session: Session) -> str | Reply | None:
            for _ in message:
                return None
            return None

    with live(Half()) as server, Talk(server.address) as client:
        client.greeting()
        assert client.send(b"x" * 70 + b"\r\n" * 300_000).code == 250
        assert client.send(b"again\r\n").code == 250


def test_a_hook_that_gives_up_waiting_and_reads_on_misses_nothing() -> None:
    class Impatient(Recording):
        def on_data(self, message: Message, session: Session) -> str | Reply | None:
            pieces: list[bytes] = []
            while True:
                with gevent.Timeout(0.0005, False):
                    for piece in message:
                        pieces.append(piece)  # noqa: PERF402 - what came before the time-out counts
                    break
            self.messages.append(b"".join(pieces))
            return None

    body = b"".join(b"%069d\r\n" % number for number in range(300_000))
    hooks = Impatient()
    with live(hooks) as server, Talk(server.address) as client:
        client.greeting()
        assert client.send(body).code == 250
    assert hooks.messages == [body]


def test_a_hook_may_return_a_whole_reply() -> None:
    class Odd(Hooks):
        def on_data(self, message: Message, session: Session) -> str | Reply | None:
            return Reply(550, "5.6.0", "Spam")

    with live(Odd()) as server, Talk(server.address) as client:
        client.greeting()
        assert str(client.send(b"x\r\n")) == "550 5.6.0 Spam"


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_away_in_the_middle_ends_the_hook(reset: bool) -> None:
    heard: list[BaseException] = []

    class Waiting(Recording):
        def on_data(self, message: Message, session: Session) -> str | Reply | None:
            try:
                message.read()
            except ConnectionError as error:
                heard.append(error)
                raise
            raise AssertionError("the message was not complete")

    hooks = Waiting()
    with live(hooks) as server:
        client = Talk(server.address)
        client.greeting()
        client.envelope("a@b.example", ["c@d.example"])
        client.raw(b"half a line")
        if reset:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        until(lambda: hooks.closed)
    assert heard
    assert server.noted.closed == ["lost"]
    assert not server.noted.faults


def test_too_much_is_refused_whatever_the_hook_says() -> None:
    with live(Recording(), size_bytes=100) as server, Talk(server.address) as client:
        client.greeting()
        assert client.send(b"x" * 200 + b"\r\n").code == 552


def test_silence_is_answered_421_and_the_hook_does_not_count() -> None:
    class Slow(Hooks):
        def on_mail_from(self, address: Address, session: Session) -> None:
            gevent.sleep(1.5)

    with live(Slow(), socket_timeout_s=0.6) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("MAIL FROM:<a@b.example>", 250)
        assert str(client.reply()).startswith("421 4.4.2")
        client.ended()
    assert server.noted.closed == ["timeout"]


def test_silence_in_the_middle_of_a_message_too() -> None:
    with live(Recording(), socket_timeout_s=0.6) as server, Talk(server.address) as client:
        client.greeting()
        client.envelope("a@b.example", ["c@d.example"])
        client.raw(b"x\r\n")
        assert str(client.reply()).startswith("421 4.4.2")
    assert server.noted.closed == ["timeout"]


def test_a_client_that_does_not_read_is_cut() -> None:
    with live(Recording(), socket_timeout_s=0.6) as server:
        with Talk(server.address) as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.greeting()
            client.sock.settimeout(20)
            with pytest.raises(OSError):  # noqa: PT012 - the send that fails is not known beforehand
                for _ in range(1000):
                    client.sock.sendall(b"NOOP\r\n" * 10_000)
            until(lambda: server.noted.closed)
        assert server.noted.closed == ["timeout"]


def test_the_whole_session_has_an_end() -> None:
    with live(Recording(), session_timeout_s=1.0) as server, Talk(server.address) as client:
        client.greeting()
        until(lambda: "421 4.4.2" in str(client.command("NOOP")), every_s=0.1)


def test_capacity() -> None:
    with live(Recording(), max_connections=2) as server:
        first, second = Talk(server.address), Talk(server.address)
        first.greeting()
        second.greeting()
        with Talk(server.address) as third:
            assert str(third.reply()).startswith("421 4.3.2")
            third.ended()
        first.close()
        until(lambda: server.server.sessions == 1)
        with Talk(server.address) as fourth:
            fourth.greeting()
        second.close()


def test_a_burst_does_not_get_past_the_limit() -> None:
    """Accepted in one go, before any of their sessions has begun."""
    with live(Recording(), max_clients=2) as server, ExitStack() as stack:
        held = threading.Event()
        server.call(lambda _: server.in_hub(lambda: held.wait(1.0)))  # the hub does nothing else meanwhile
        clients = [stack.enter_context(Talk(server.address)) for _ in range(20)]
        held.set()
        assert sorted(client.reply().code for client in clients) == [220] * 2 + [421] * 18


def test_a_session_ends_though_its_client_never_pauses() -> None:
    with live(Recording(), session_timeout_s=0.7) as server, Talk(server.address) as client:
        client.greeting()
        client.sock.settimeout(10)
        heard = b""
        with contextlib.suppress(OSError):
            while b"421 4.4.2" not in heard:
                client.sock.sendall(b"NOOP\r\n" * 100)
                heard = heard[-100:] + client.sock.recv(65536)
        until(lambda: server.noted.closed)
    assert server.noted.closed == ["timeout"]


def test_capacity_of_one_listener() -> None:
    with live(Recording(), max_clients=1) as server, Talk(server.address) as first:
        first.greeting()
        with Talk(server.address) as second:
            assert second.reply().code == 421


def test_drain_ends_idle_sessions_and_lets_transactions_finish() -> None:
    with live(Recording()) as server:
        idle, between, inside = Talk(server.address), Talk(server.address), Talk(server.address)
        for client in (idle, between, inside):
            client.greeting()
        between.expect("MAIL FROM:<a@b.example>", 250)
        inside.envelope("a@b.example", ["c@d.example"])
        drained: list[bool] = []
        draining = threading.Thread(target=lambda: drained.append(server.call(lambda s: s.drain(20))))
        draining.start()
        assert str(idle.reply()).startswith("421 4.3.2")
        idle.ended()
        between.expect("RCPT TO:<c@d.example>", 250)
        between.expect("DATA", 354)
        assert between.body(b"x\r\n").code == 250
        assert str(between.reply()).startswith("421 4.3.2")
        assert inside.body(b"y\r\n").code == 250
        assert str(inside.reply()).startswith("421 4.3.2")
        draining.join(20)
        assert drained == [True]
        for client in (idle, between, inside):
            client.close()


def test_a_drain_has_an_end() -> None:
    with live(Recording()) as server, Talk(server.address) as client:
        client.greeting()
        client.envelope("a@b.example", ["c@d.example"])
        assert server.call(lambda s: s.drain(0.3)) is False
        assert str(client.reply()).startswith("421 4.3.2")
        client.ended()


@pytest.mark.parametrize("line", [b"NOOP\r\n", b"X\r\n", b"x" * 60_000])
def test_a_client_that_never_waits_for_a_reply_does_not_starve_others(line: bytes) -> None:
    with live(Recording()) as server, Talk(server.address) as greedy, Talk(server.address) as other:
        greedy.greeting()
        other.greeting()
        flood_ends_at = monotonic() + 3.0

        def flood() -> None:
            with contextlib.suppress(OSError):
                while monotonic() < flood_ends_at:
                    greedy.sock.sendall(line * (60_000 // len(line)))
            greedy.sock.close()

        def read() -> None:
            with contextlib.suppress(OSError):
                while greedy.sock.recv(1 << 20):
                    pass

        threads = [threading.Thread(target=target) for target in (flood, read)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        answered = 0
        while monotonic() < flood_ends_at:
            other.expect("NOOP", 250)
            answered += 1
        for thread in threads:
            thread.join()
    assert answered > 5


def test_a_client_that_never_pauses_does_not_starve_others() -> None:
    with live(Recording()) as server, Talk(server.address) as greedy, Talk(server.address) as other:
        greedy.greeting()
        other.greeting()
        stop = threading.Event()

        def flood() -> None:
            greedy.sock.settimeout(20)
            while not stop.is_set():
                greedy.sock.sendall(b"NOOP\r\n" * 2000)
                left = 2000 * len(b"250 2.0.0 Ok\r\n")
                while left:
                    left -= len(greedy.sock.recv(65536))

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for _ in range(50):
                other.expect("NOOP", 250)
        finally:
            stop.set()
            thread.join()
