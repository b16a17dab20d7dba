"""From `listen()` to `close()`: threads, hubs, addresses, and what is left afterwards, which is nothing."""

from __future__ import annotations

import errno
import smtplib
import socket
import threading
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from mta_front import SMTPServer
from mta_front.hooks import Hooks, Message, Session
from tests.library.served import BODY, Noting, os_threads, served
from tests.smtp_talk import Closed, Talk, talk
from tests.wait import until


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# -- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.seed("method: listen")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::"])
def test_listen_gives_the_address_it_got(host: str) -> None:
    with served() as server:
        bound, port = server.listen(host)
        assert port > 0
        assert server.addresses == [server.address, (bound, port)]
        with talk(("::1" if ":" in bound else "127.0.0.1", port)) as client:
            client.expect("NOOP", 250)


@pytest.mark.seed("method: listen")
def test_listen_before_the_start_and_after_it() -> None:
    server = SMTPServer(auth_optional=True)
    before = server.listen()
    with Talk(before) as early:  # it waits in the queue
        server.start()
        after = server.listen()
        assert early.reply().code == 220
        with talk(after) as late:
            late.expect("NOOP", 250)
            until(lambda: server.sessions == 2)
    server.close(0)


def test_a_unix_socket_and_what_is_left_of_one(tmp_path: Path) -> None:
    path = tmp_path / "lmtp.sock"
    with socket.socket(socket.AF_UNIX) as left:  # its owner was killed
        left.bind(str(path))
    with served() as server:
        assert server.listen(f"unix:{path}", 25) == (f"unix:{path}", 0)
        with talk(str(path)) as client:
            client.expect("NOOP", 250)
        with served() as other, pytest.raises(OSError, match=f"cannot listen on unix:{path}") as caught:
            other.listen(f"unix:{path}")
        assert caught.value.errno == errno.EADDRINUSE
    assert not path.exists()


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with served() as server, pytest.raises(OSError, match="in use"):
        server.listen(f"unix:{path}")
    assert path.read_text() == "data"


def test_an_address_that_cannot_be_had_is_an_error_at_once() -> None:
    with served() as server:
        host, port = server.address
        with pytest.raises(OSError, match=rf"cannot listen on port {port} of {host}: Address already in use") as caught:
            SMTPServer().listen(host, port)
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match=r"192\.0\.2\.1"):
            server.listen("192.0.2.1")
        with pytest.raises(ValueError, match="port=70000"):
            server.listen("127.0.0.1", 70_000)
        assert server.addresses == [(host, port)]


def test_a_server_without_an_address_says_so() -> None:
    with SMTPServer() as server, pytest.raises(RuntimeError, match=r"call listen\(\) first"):
        _ = server.address


def test_its_repr_says_where_and_how_it_is() -> None:
    server = SMTPServer()
    assert repr(server) == "<SMTPServer on no address: not started>"
    with server:
        _, port = server.listen()
        assert repr(server) == f"<SMTPServer on 127.0.0.1 port {port}: 0 sessions>"
    assert repr(server) == f"<SMTPServer on 127.0.0.1 port {port}: closed>"


# -- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.seed("method: close")
def test_close_ends_idle_sessions_and_lets_transactions_finish() -> None:
    hooks = Noting()
    with served(hooks=hooks) as server, talk(server.address) as idle, talk(server.address) as busy:
        busy.envelope("a@b.example", ["c@d.example"])
        result: list[bool] = []
        closing = threading.Thread(target=lambda: result.append(server.close(30)))
        closing.start()
        assert str(idle.reply()) == "421 4.3.2 Service shutting down, try again later"
        idle.ended()
        with pytest.raises(ConnectionRefusedError):
            Talk(server.address)
        assert busy.body(BODY).code == 250
        assert busy.reply().code == 421
        closing.join(10)
    assert result == [True]
    assert hooks.messages == [BODY]


def test_after_close_the_address_is_free_and_the_server_is_done() -> None:
    with served() as server:
        address = server.address
        with talk(address) as client:
            assert server.close() is True
            client.reply()
        assert server.close() is True
        with served() as other:
            assert other.listen(*address) == address
    assert server.sessions == 0
    for use in (server.start, server.listen):
        with pytest.raises(RuntimeError, match="this server was closed: make a new one"):
            use()
    server.serve_forever()  # over before it began


def test_close_without_a_start_frees_the_address() -> None:
    server = SMTPServer()
    address = server.listen()
    assert server.close() is True
    with pytest.raises(ConnectionRefusedError):
        Talk(address)


def test_a_second_close_can_shorten_the_first() -> None:
    with served() as server, talk(server.address) as client:
        client.envelope("a@b.example", ["c@d.example"])
        result: list[bool] = []
        first = threading.Thread(target=lambda: result.append(server.close(60)))
        first.start()
        until(lambda: repr(server).endswith("closed>"))
        begun = monotonic()
        assert server.close(0) is False
        first.join(10)
        assert result == [False]
        assert monotonic() - begun < 10


@pytest.mark.parametrize("value", [-1, "soon", float("nan")])
def test_close_takes_seconds_only(value: Any) -> None:
    with served() as server, pytest.raises((TypeError, ValueError), match="timeout_s="):
        server.close(value)


@pytest.mark.parametrize("blocking", [False, True])
def test_a_hook_may_close_its_server(blocking: bool) -> None:
    servers: list[SMTPServer] = []
    said: list[bool] = []

    def last(message: Message, session: Session) -> str:
        said.append(servers[0].close())
        return "the last one"

    with served(on_data=last, blocking_hooks=blocking) as server, talk(server.address) as client:
        servers.append(server)
        assert client.send(BODY).text == "2.0.0 the last one"
        assert client.reply().code == 421
        client.ended()
        assert server.close() is True
    assert said == [False]


def test_a_hook_that_waits_too_long_is_interrupted() -> None:
    """One that waits as gevent does, by GreenletExit; it hears of it as of any bug."""
    errors: list[BaseException] = []
    ended: list[int] = []

    def stuck(message: Message, session: Session) -> None:
        message.read()
        gevent.sleep(3600)

    hooks = {"on_data": stuck, "on_close": lambda session: ended.append(1)}
    with (
        served(**hooks, on_error=lambda error, session: errors.append(error)) as server,
        talk(server.address) as client,
    ):
        client.envelope("a@b.example", ["c@d.example"])
        client.raw(b".\r\n")
        begun = monotonic()
        assert server.close(0.1) is False
        assert monotonic() - begun < 10
    assert [type(error) for error in errors] == [gevent.GreenletExit]
    assert ended == [1]


def test_close_waits_for_on_close() -> None:
    """A session is over when its last hook is."""
    ended: list[str] = []

    def slow(session: Session) -> None:
        gevent.sleep(0.3)
        ended.append(session.id)

    with served(on_close=slow) as server, talk(server.address):
        assert server.close() is True
        assert len(ended) == 1


# -- nothing is left -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [False, True])
def test_200_servers_leave_nothing_behind(blocking: bool) -> None:
    hooks = Noting()

    def once() -> None:
        server = SMTPServer(hooks, auth_optional=True, blocking_hooks=blocking)
        address = server.listen()
        with server, smtplib.SMTP(*address) as client:
            client.sendmail("a@b.example", ["c@d.example"], BODY)

    once()  # what is imported and kept once is no leak
    files, threads = open_files(), os_threads()
    for _ in range(200):
        once()
    assert len(hooks.messages) == 201
    assert open_files() == files
    until(lambda: os_threads() <= threads, message="threads are left")


def test_a_connection_in_the_middle_of_close_is_not_forgotten() -> None:
    """Whoever was accepted is told 421, or refused; nobody hangs."""
    for _ in range(20):
        with served() as server:
            clients = [Talk(server.address) for _ in range(5)]
            assert server.close() is True
            for client in clients:
                with client:
                    try:
                        answer = client.reply(5)
                    except Closed:
                        continue
                    assert answer.code in (220, 421)


def test_hooks_may_be_shared_by_servers() -> None:
    hooks: Hooks = Noting()
    with served(hooks=hooks) as one, served(hooks=hooks) as two:
        for server in (one, two):
            with talk(server.address) as client:
                assert client.send(BODY).code == 250
