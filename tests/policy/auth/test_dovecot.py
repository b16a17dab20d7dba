"""The backend `dovecot`: a real Dovecot's auth process; and a peer of our own for what a real one seldom does."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from mta_front.hooks import Session
from mta_front.policy.auth.backend import Unavailable, User
from mta_front.policy.auth.dovecot import DovecotBackend
from tests.needs import program
from tests.policy.auth.people import PASSWORD, SESSION, plain
from tests.processes import Program
from tests.wait import until

CONFIG = """
base_dir = {run}/base
state_dir = {run}/state
log_path = {run}/log
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 0
protocols =
ssl = no
listen = 127.0.0.1
auth_mechanisms = plain
auth_username_chars =
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {run}/passwd
}}
{more}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service auth {{
  unix_listener auth-client {{
    mode = 0600
  }}
}}
service anvil {{
  chroot =
}}
"""


class Dovecot(Program):
    """Its master and its auth process, from a directory of its own; no protocols, no ports."""

    def __init__(self, more: str = "") -> None:
        """`more`: of its configuration, with {run} for its directory."""
        import grp
        import pwd

        self.run = Path(tempfile.mkdtemp(prefix="mta-dovecot-"))  # short, for its sockets
        self.socket = self.run / "base" / "auth-client"
        (self.run / "passwd").write_text(
            f"ann:{{PLAIN}}{PASSWORD}::::::\njürgen:{{PLAIN}}{PASSWORD}\ngone:{{PLAIN}}{PASSWORD}::::::nologin\n"
        )
        config = self.run / "dovecot.conf"
        user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
        config.write_text(CONFIG.format(run=self.run, user=user, group=group, more=more.format(run=self.run)))
        super().__init__([program("dovecot"), "-F", "-c", str(config)], self.run / "out", self.run)

    def start(self) -> Dovecot:
        super().start()
        until(self._serves, 20.0, "Dovecot does not serve")
        return self

    def _serves(self) -> bool:
        assert self.running(), self.log_text()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def end(self) -> None:
        import shutil

        super().end()
        shutil.rmtree(self.run, ignore_errors=True)


@pytest.fixture
def dovecot() -> Dovecot:
    return Dovecot().start()


def test_yes_and_no(dovecot: Dovecot) -> None:
    backend = DovecotBackend(str(dovecot.socket))
    assert backend.methods == {"PLAIN", "LOGIN"}
    assert backend.verify(plain("ann"), SESSION) == User("ann")
    assert backend.verify(plain("jürgen", method="LOGIN"), SESSION) == User("jürgen")
    assert backend.verify(plain("ANN"), SESSION) == User("ann"), "as Dovecot names its users"
    assert backend.verify(plain("ann", "wrong"), SESSION) is None
    assert backend.verify(plain("nobody"), SESSION) is None
    assert backend.verify(plain("ann", "wrong\t\n\x01\r"), SESSION) is None
    backend.close()


def test_what_a_client_says_adds_no_words_to_the_request(dovecot: Dovecot) -> None:
    """The name of a session, or an address, is somebody else's text."""
    backend = DovecotBackend(str(dovecot.socket))
    odd = Session("s\tno\nAUTH\t9\tPLAIN", "x", remote_address="::1\x01\t", local_address="127.0.0.1")
    assert backend.verify(plain("ann"), odd) == User("ann")
    assert backend.verify(plain("ann", "wrong"), odd) is None
    backend.close()


def test_fifty_at_once_over_one_connection(dovecot: Dovecot) -> None:
    backend = DovecotBackend(str(dovecot.socket))
    logins = [gevent.spawn(backend.verify, plain("ann", PASSWORD if n % 2 else "wrong"), SESSION) for n in range(50)]
    gevent.joinall(logins, timeout=20, raise_error=True)
    assert [login.value for login in logins] == [User("ann") if n % 2 else None for n in range(50)]
    backend.close()


def test_a_failure_for_now_is_no_no() -> None:
    """By checkpassword's convention a program that ends with 111 cannot know now."""
    dovecot = Dovecot("passdb {{\n driver = checkpassword\n args = {run}/check\n}}")
    (dovecot.run / "check").write_text("#!/bin/sh\nexit 111\n")
    (dovecot.run / "check").chmod(0o755)
    dovecot.start()
    backend = DovecotBackend(str(dovecot.socket))
    with pytest.raises(Unavailable, match="cannot know now"):
        backend.verify(plain("nobody"), SESSION)
    assert backend.verify(plain("ann"), SESSION) == User("ann")
    backend.close()


def test_it_is_found_again_after_a_restart(dovecot: Dovecot) -> None:
    reports: list[str] = []
    backend = DovecotBackend(str(dovecot.socket), failures=1, open_s=0.1, report=reports.append)
    assert backend.verify(plain("ann"), SESSION) == User("ann")
    dovecot.kill()
    with pytest.raises(Unavailable):
        backend.verify(plain("ann"), SESSION)
    assert len(reports) == 1
    for path in dovecot.run.glob("base/auth*"):
        path.unlink()
    dovecot.start()

    def again() -> bool:
        try:
            return backend.verify(plain("ann"), SESSION) == User("ann")
        except Unavailable:
            gevent.sleep(0.02)
            return False

    until(again, 20.0)
    assert reports[1:] == ["auth.dovecot: answers again"]
    backend.close()


# -- a peer that misbehaves ---------------------------------------------------------------------------------------

GREETING = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\tx\nDONE\n"


class Peer:
    """Takes connections one after another; `play(socket, lines)` has each of them."""

    def __init__(self, play: Callable[[socket.socket, Iterator[str]], None]) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="mta-peer-"), "s")
        self.connections = 0
        self.over = threading.Event()
        self._play = play
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(self.path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            stream, _ = self._listening.accept()
            if self.over.is_set():
                stream.close()
                return
            self.connections += 1
            with (
                stream,
                stream.makefile("r", encoding="utf-8", newline="\n") as lines,
                contextlib.suppress(OSError, StopIteration),  # the client has gone
            ):
                self._play(stream, (line.rstrip("\n") for line in lines))

    def end(self) -> None:
        self.over.set()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wake:
            wake.connect(str(self.path))
        self._thread.join(10)
        self._listening.close()
        self.path.unlink()
        self.path.parent.rmdir()


@pytest.fixture
def peer() -> Iterator[Callable[[Callable[[socket.socket, Iterator[str]], None]], Peer]]:
    made: list[Peer] = []

    def make(play: Callable[[socket.socket, Iterator[str]], None]) -> Peer:
        made.append(Peer(play))
        return made[-1]

    yield make
    for each in made:
        each.end()


Play = Callable[[socket.socket, Iterator[str]], None]
MakePeer = Callable[[Play], Peer]


def requests(lines: Iterator[str]) -> Iterator[list[str]]:
    return (line.split("\t") for line in lines if line.startswith("AUTH\t"))


def test_the_request_as_the_protocol_has_it(peer: MakePeer) -> None:
    heard: list[str] = []

    def play(stream: socket.socket, lines: Iterator[str]) -> None:
        heard.extend([next(lines), next(lines)])
        stream.sendall(GREETING)
        heard.append(next(lines))
        stream.sendall(b"OK\t1\tuser=a\x01tb\tother=x\n")

    backend = DovecotBackend(str(peer(play).path), service="submission")
    assert backend.verify(plain("ann", "pw"), SESSION) == User("a\tb")
    backend.close()
    assert heard[0] == "VERSION\t1\t2"
    assert heard[1].startswith("CPID\t")
    assert heard[2].split("\t") == [
        *["AUTH", "1", "PLAIN", "service=submission", "nologin", "no-penalty", "session=s-1"],
        *["rip=192.0.2.7", "rport=40001", "lip=127.0.0.1", "lport=2587", "resp=AGFubgBwdw=="],
    ]


def test_answers_in_any_order_go_to_who_asked(peer: MakePeer) -> None:
    def play(stream: socket.socket, lines: Iterator[str]) -> None:
        stream.sendall(GREETING)
        asked = [number for _, (_, number, *_) in zip(range(3), requests(lines), strict=False)]
        for number in reversed(asked):
            stream.sendall(f"OK\t999\tuser=mallory\nOK\t{number}\tuser=u{number}\n".encode())
        next(lines)

    backend = DovecotBackend(str(peer(play).path))
    logins = [gevent.spawn(backend.verify, plain("ann"), SESSION) for _ in range(3)]
    gevent.joinall(logins, timeout=10, raise_error=True)
    assert [str(login.value) for login in logins] == ["u1", "u2", "u3"]
    backend.close()


@pytest.mark.parametrize(
    "said",
    [
        b"VERSION\t2\t0\nDONE\n",
        b"VERSION\t1\t2\nMECH\tCRAM-MD5\nDONE\n",
        b"",
        b"x" * 100_000,
        GREETING + b"OK\t1\n",
        GREETING + b"OK\t1\tuser=\n",
        GREETING + b"CONT\t1\t\n",
        GREETING + b"FAIL\t1\tuser=ann\ttemp\n",
        GREETING + b"FAIL\t1\tuser=ann\tcode=temp_fail\n",
        GREETING + b"OK\t1",
    ],
)
def test_what_is_not_understood_is_no_yes_and_no_no(peer: MakePeer, said: bytes) -> None:
    def play(stream: socket.socket, lines: Iterator[str]) -> None:
        if said.startswith(GREETING):
            stream.sendall(GREETING)
            next(requests(lines))
        stream.sendall(said.removeprefix(GREETING))

    backend = DovecotBackend(str(peer(play).path))
    with pytest.raises(Unavailable) as raised:
        backend.verify(plain("ann", "hunter22"), SESSION)
    assert "hunter22" not in str(raised.value)
    backend.close()


def test_a_frozen_one_holds_nobody_longer_than_its_time_out_and_is_left(peer: MakePeer) -> None:
    def play(stream: socket.socket, lines: Iterator[str]) -> None:
        stream.sendall(GREETING)
        for _ in lines:
            pass

    frozen = peer(play)
    backend = DovecotBackend(str(frozen.path), timeout_s=0.2, failures=2, open_s=60)
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(Unavailable, match="no answer in time"):
            backend.verify(plain("ann"), SESSION)
    with pytest.raises(Unavailable, match="left alone"):
        backend.verify(plain("ann"), SESSION)
    assert time.monotonic() - began < 5
    assert frozen.connections == 2, "a new connection each time: the old one may be the one that is frozen"
    backend.close()


def test_one_slow_answer_does_not_cost_others_theirs(peer: MakePeer) -> None:
    def play(stream: socket.socket, lines: Iterator[str]) -> None:
        stream.sendall(GREETING)
        for _, number, *_ in requests(lines):
            if number != "1":
                stream.sendall(f"OK\t{number}\tuser=u\n".encode())

    one = peer(play)
    backend = DovecotBackend(str(one.path), timeout_s=0.5)
    slow = gevent.spawn(backend.verify, plain("ann"), SESSION)
    gevent.sleep(0.05)
    until(lambda: [backend.verify(plain("bob"), SESSION), gevent.sleep(0.01), slow.ready()][-1], 10.0)
    assert isinstance(slow.exception, Unavailable)
    assert backend.verify(plain("bob"), SESSION) == User("u")
    assert one.connections == 1
    backend.close()


def test_no_socket() -> None:
    backend = DovecotBackend("/nonexistent/auth-client")
    with pytest.raises(Unavailable, match="No such file"):
        backend.verify(plain("ann"), SESSION)
    backend.close()
