"""Limits beyond one session, where the pump asks for them: when, how often, and what a refusal does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mta_front.hooks import Credentials, Hooks, Message, Reject, Session
from mta_front.net.guard import Guard
from mta_front.smtp import replies
from mta_front.smtp.address import Address
from mta_front.smtp.replies import Reply
from tests.net.behind import ADDRESS, CONTEXTS, HERE, OWN, V1, Seen, await_end, behind, came, trusting
from tests.net.live import live
from tests.smtp.sasl_talk import b64
from tests.smtp_talk import Closed, Silence, Talk
from tests.wait import until


class Counting(Guard):
    """Notes what it is asked, with the client's address; `refuses` names what it says no to."""

    def __init__(self, *refuses: str) -> None:
        self.asked: list[tuple[str, str]] = []
        self.refuses = refuses

    def _of(self, what: str, session: Session, reply: Reply) -> Reply | None:
        self.asked.append((what, session.remote_address))
        return reply if what in self.refuses else None

    def arrives(self, session: Session, handshake: bool) -> Reply | None:
        return self._of("handshake first" if handshake else "arrives", session, replies.NOT_NOW)

    def shakes_hands(self, session: Session) -> Reply | None:
        return self._of("shakes hands", session, replies.TLS_NOT_NOW)

    def fails(self, session: Session) -> Reply | None:
        return self._of("fails", session, replies.NOT_NOW)

    def goes_on(self, session: Session) -> None:
        """Nothing that is refused."""

    def leaves(self, session: Session) -> None:
        self.asked.append(("leaves", session.remote_address))

    @property
    def what(self) -> list[str]:
        return [what for what, _ in self.asked]


def test_a_session_arrives_and_leaves_once() -> None:
    guard = Counting()
    with live(Hooks(), guard=guard) as server:
        with Talk(server.address) as client:
            client.greeting()
            client.quit()
        await_end(server)
    assert guard.asked == [("arrives", "127.0.0.1"), ("leaves", "127.0.0.1")]


def test_who_may_not_come_in_hears_421_and_no_hook_hears_of_it() -> None:
    guard, hooks = Counting("arrives"), Seen()
    with live(hooks, guard=guard) as server:
        with Talk(server.address) as client:
            assert str(client.reply()).startswith("421 4.7.0")
            client.ended()
        await_end(server)
        assert server.noted.closed == ["limit"]
        assert server.noted.refused == [("CONNECT", 421)]
    assert guard.what == ["arrives", "leaves"]
    assert hooks.calls == []


def test_who_expects_tls_is_refused_before_it_without_a_word() -> None:
    guard = Counting("handshake first")
    with live(Seen(), guard=guard, secure=True, tls=CONTEXTS.channel) as server:
        with Talk(server.address) as client, pytest.raises(Closed, match="unread b''"):
            client.reply()
        await_end(server)
        assert (server.noted.closed, server.noted.tls_failed_for) == (["limit"], [])


class Raising(Hooks):
    """Refuses or breaks where it is told to."""

    def __init__(self, where: str, error: type[BaseException]) -> None:
        self._where, self._error = where, error

    def _at(self, where: str) -> None:
        if where == self._where:
            raise self._error

    def on_connect(self, session: Session) -> None:
        self._at("connect")

    def on_mail_from(self, address: Address, session: Session) -> None:
        self._at("mail")

    def on_data(self, message: Message, session: Session) -> None:
        self._at("data")

    def on_close(self, session: Session) -> None:
        self._at("close")


def _quits(client: Talk) -> None:
    client.greeting()
    client.quit()


def _goes_in_a_message(client: Talk) -> None:
    client.greeting()
    client.envelope("a@b.example", ["c@d.example"])


def _sends(client: Talk) -> None:
    client.greeting()
    client.command("MAIL FROM:<a@b.example>")
    client.raw(b"RCPT TO:<c@d.example>\r\nDATA\r\n")
    client.reply()


@pytest.mark.parametrize(
    ("hooks", "client_does"),
    [
        (Hooks(), lambda client: None),
        (Hooks(), _quits),
        (Hooks(), _goes_in_a_message),
        (Raising("connect", Reject), lambda client: client.reply()),
        (Raising("connect", SystemExit), lambda client: client.reply()),
        (Raising("mail", KeyboardInterrupt), _sends),
        (Raising("data", RuntimeError), _sends),
        (Raising("close", RuntimeError), _quits),
    ],
    ids=["says nothing", "quits", "in a message", "refused", "exit", "interrupt", "bug", "bug at the end"],
)
def test_it_leaves_however_it_ends(hooks: Hooks, client_does: Callable[[Talk], Any]) -> None:
    guard = Counting()
    with live(hooks, guard=guard) as server:
        with Talk(server.address) as client:
            client_does(client)
        await_end(server)
    assert [what for what in guard.what if what != "fails"] == ["arrives", "leaves"]


def test_it_leaves_when_its_greenlet_is_killed_in_a_hook() -> None:
    class Waits(Hooks):
        def on_connect(self, session: Session) -> None:
            import gevent

            gevent.sleep(60)

    guard = Counting()
    with live(Waits(), guard=guard) as server, Talk(server.address):
        until(lambda: guard.what == ["arrives"])
        server.call(lambda running: running.kill())
        await_end(server)
    assert guard.what == ["arrives", "leaves"]


def test_commands_that_fail_count_one_by_one_and_those_that_do_not_never() -> None:
    guard = Counting()
    with live(Hooks(), guard=guard) as server:
        with Talk(server.address) as client:
            client.greeting()
            client.expect("NOOP", 250)
            client.expect("FOO", 500)
            client.expect("RCPT TO:<a@b.example>", 503)
            client.raw(b"FOO\r\nFOO\r\n")
            assert [client.reply().code for _ in range(2)] == [500, 500]
            assert client.send(b"x\r\n").code == 250  # which forgives the errors before it
            client.expect("FOO", 500)
            client.quit()
        await_end(server)
    assert guard.what == ["arrives"] + ["fails"] * 5 + ["leaves"]


def test_the_last_error_of_a_session_counts_too() -> None:
    guard = Counting()
    with live(Hooks(), guard=guard, max_errors=1) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("FOO", 500)
        assert client.reply().code == 421
        await_end(server)
    assert guard.what == ["arrives", "fails", "leaves"]


def test_too_many_failed_commands_of_all_sessions_end_this_one() -> None:
    with live(Hooks(), guard=Counting("fails")) as server, Talk(server.address) as client:
        client.greeting()
        client.raw(b"FOO\r\nNOOP\r\n")
        assert [str(client.reply())[:9] for _ in range(2)] == ["500 5.5.1", "421 4.7.0"]
        client.ended()
        await_end(server)
        assert server.noted.closed == ["limit"]


def test_starttls_that_is_too_often_is_454_and_the_session_goes_on() -> None:
    guard = Counting("shakes hands")
    with live(Hooks(), guard=guard, tls=CONTEXTS.channel) as server, Talk(server.address) as client:
        client.greeting()
        assert str(client.command("STARTTLS")).startswith("454 4.7.0")
        assert client.send(b"x\r\n").code == 250
        guard.refuses = ()
        client.expect("STARTTLS", 220)
        client.secure(trusting())
        client.expect("EHLO client.example", 250)
    assert guard.what[:3] == ["arrives", "shakes hands", "shakes hands"]


@pytest.mark.parametrize("header", OWN.values(), ids=OWN)
def test_a_health_check_costs_nothing_until_it_wants_more(header: bytes) -> None:
    guard, hooks = Counting(), Seen()
    with behind(hooks, guard=guard) as server:
        with came(server, header) as client:
            client.expect("FOO", 500)
            client.expect("STARTTLS", 220)
            client.secure(trusting())
            client.expect("EHLO check.example", 250)
            assert guard.asked == []
            client.expect("MAIL FROM:<a@b.example>", 250)
            client.expect("FOO", 500)
        await_end(server)
    assert guard.asked == [("arrives", "127.0.0.1"), ("fails", "127.0.0.1"), ("leaves", "127.0.0.1")]


def test_a_client_behind_a_proxy_arrives_under_its_own_address() -> None:
    guard = Counting()
    with behind(Seen(), guard=guard) as server:
        with came(server, V1):
            pass
        await_end(server)
    assert guard.asked == [("arrives", ADDRESS), ("leaves", ADDRESS)]


def test_after_xclient_somebody_else_arrives() -> None:
    guard = Counting()
    with live(Seen(), guard=guard, use_xclient=HERE) as server:
        with Talk(server.address) as client:
            client.greeting()
            client.expect("XCLIENT ADDR=192.0.2.7", 220)
            client.expect("EHLO client.example", 250)
        await_end(server)
    assert guard.asked == [("arrives", "127.0.0.1"), ("arrives", "192.0.2.7"), ("leaves", "192.0.2.7")]


def test_xclient_for_a_client_that_may_not_come_in_ends_the_session() -> None:
    guard, hooks = Counting(), Seen()
    with live(hooks, guard=guard, use_xclient=HERE) as server:
        with Talk(server.address) as client:
            client.greeting()
            guard.refuses = ("arrives",)
            assert str(client.command("XCLIENT ADDR=192.0.2.7")).startswith("421 4.7.0")
            client.ended()
        await_end(server)
        assert server.noted.closed == ["limit"]
    assert guard.what == ["arrives", "arrives", "leaves"]
    assert hooks.calls[-1] == ("close", "192.0.2.7")


class Slow(Hooks):
    """Refuses logins, so much later."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def on_auth(self, credentials: Credentials, session: Session) -> None:
        credentials.hold_back(self._delay_s)


LOGIN = "AUTH PLAIN " + b64("\0user\0wrong")
AUTH: dict[str, Any] = {"allow_insecure_auth": True}


def test_the_answer_to_a_refused_login_is_late_and_holds_nobody_up() -> None:
    with live(Slow(0.6), **AUTH) as server, Talk(server.address) as client, Talk(server.address) as other:
        client.greeting()
        other.greeting()
        began = time.monotonic()
        client.raw(f"{LOGIN}\r\n".encode())
        other.expect("NOOP", 250)
        with pytest.raises(Silence):
            client.reply(0.3)
        assert client.reply().code == 535
        assert time.monotonic() - began >= 0.6


def test_a_drain_waits_for_no_late_answer() -> None:
    with live(Slow(60.0), **AUTH) as server, Talk(server.address) as client:
        client.greeting()
        client.raw(f"{LOGIN}\r\n".encode())
        until(lambda: server.call(lambda _: True))
        with pytest.raises(Silence):
            client.reply(0.2)
        drained: list[bool] = []
        draining = threading.Thread(target=lambda: drained.append(server.call(lambda s: s.drain(20.0))))
        draining.start()
        assert [client.reply().code for _ in range(2)] == [535, 421]
        draining.join(20)
        assert drained == [True]
