"""Programs that embed a server: Ctrl-C, signals, forks, monkey patches, and ends of all kinds."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gevent
import pytest

from mta_front import SMTPServer
from tests.library.served import BODY
from tests.processes import ROOT
from tests.smtp_talk import talk


def run(program: str, **given: Any) -> str:
    """What a Python program prints, in a process of its own; it must end well."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT, capture_output=True, text=True, timeout=60, **given,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout)


# -- serve_forever -----------------------------------------------------------------------------------------------------


def test_many_servers_in_one_hub_leave_nothing_behind() -> None:
    """`serve_forever` gives the hub back as it was: nothing in it waits any more."""
    program = """
import gevent, os
from mta_front import SMTPServer
def files(): return len(os.listdir("/proc/self/fd"))
def once():
    server = SMTPServer(auth_optional=True)
    server.listen()
    gevent.spawn_later(0.001, server.close)
    server.serve_forever()
once()
before = files()
for _ in range(50):
    once()
assert files() == before, (files(), before)
assert gevent.get_hub().join(timeout=5), "something still waits in the hub"
print("nothing")
"""
    assert run(program) == "nothing\n"


FOREVER = """
import sys
from mta_front import SMTPServer
server = SMTPServer(auth_optional=True, close_timeout_s={timeout})
print(*server.listen(), flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    print("interrupted")
print("after", server.close())
"""


def forever(timeout_s: float) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    """A program that serves for ever, and its address."""
    command = [sys.executable, "-c", FOREVER.format(timeout=timeout_s)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    host, port = process.stdout.readline().split()
    return process, (host, int(port))


def test_ctrl_c_is_a_close() -> None:
    process, address = forever(30)
    with process, talk(address) as idle, talk(address) as busy:
        busy.envelope("a@b.example", ["c@d.example"])
        process.send_signal(signal.SIGINT)
        assert idle.reply().code == 421
        assert busy.body(BODY).code == 250
        assert process.communicate(timeout=20)[0] == "after True\n"
    assert process.returncode == 0


def test_a_second_ctrl_c_cuts() -> None:
    process, address = forever(3600)
    with process, talk(address) as idle, talk(address) as busy:
        busy.envelope("a@b.example", ["c@d.example"])
        process.send_signal(signal.SIGINT)
        assert idle.reply().code == 421
        process.send_signal(signal.SIGINT)
        assert busy.reply().code == 421
        assert process.communicate(timeout=20)[0] == "interrupted\nafter False\n"


def test_serve_forever_ends_when_another_thread_closes() -> None:
    server = SMTPServer(auth_optional=True)
    address = server.listen()

    def serve() -> None:
        server.serve_forever()
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=serve)
    thread.start()
    with talk(address) as client:
        with pytest.raises(RuntimeError, match="running already"):
            server.serve_forever()
        assert server.close() is True
        assert client.reply().code == 421
    thread.join(10)
    assert not thread.is_alive()


def test_a_greenlet_beside_it_may_close_and_gets_the_answer() -> None:
    program = """
import gevent
from mta_front import SMTPServer
server = SMTPServer(auth_optional=True)
server.listen()
serving = gevent.spawn(server.serve_forever)
gevent.sleep(0.05)
print(server.close(), serving.join(5), serving.dead)
"""
    assert run(program) == "True None True\n"


def test_a_program_that_patches_everything_and_its_tls() -> None:
    program = """
from gevent import monkey; monkey.patch_all()
import smtplib, ssl
from mta_front import SMTPServer
def let_in(credentials, session):
    return credentials.username if credentials.validate_password("secret") else None
for blocking in (False, True):
    with SMTPServer(on_auth=let_in, auth_methods=["CRAM-MD5"], blocking_hooks=blocking) as server:
        with smtplib.SMTP(*server.listen()) as client:
            client.starttls(context=ssl._create_unverified_context())
            server.update_secure_context(min_version="TLSv1.3")
            client.login("user", "secret")
            print(client.sendmail("a@b.example", ["c@d.example"], "hello\\r\\n"))
"""
    assert run(program) == "{}\n{}\n"


def test_a_program_that_patches_everything() -> None:
    """Then its threads are greenlets in one hub, which stays."""
    program = """
from gevent import monkey; monkey.patch_all()
import smtplib, gevent, time
from mta_front import SMTPServer
got = []
def keep(message, session):
    time.sleep(0.01)
    got.append(message.read())
for blocking in (False, True):
    with SMTPServer(auth_optional=True, on_data=keep, blocking_hooks=blocking) as server:
        with smtplib.SMTP(*server.listen()) as client:
            client.sendmail("a@b.example", ["c@d.example"], "hello\\r\\n")
gevent.sleep(0)
print(got)
"""
    assert run(program) == "[b'hello\\r\\n', b'hello\\r\\n']\n"


# -- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [False, True])
def test_a_program_may_end_while_its_server_runs(blocking: bool) -> None:
    program = f"""
import smtplib
from mta_front import SMTPServer
server = SMTPServer(auth_optional=True, on_data=lambda message, session: message.read() and None,
                    blocking_hooks={blocking})
server.start()
client = smtplib.SMTP(*server.listen())
client.sendmail("a@b.example", ["c@d.example"], "hello")
print("served", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "served\n", "")


def test_a_hook_that_lets_nobody_go_on_keeps_no_program_alive() -> None:
    """Without `blocking_hooks` it stops the hub: `close()` gives up on it, and the process can end."""
    program = """
import smtplib, threading, time
from mta_front import SMTPServer
reached = threading.Event()
def stuck(session):
    reached.set()
    time.sleep(3600)
server = SMTPServer(auth_optional=True, on_connect=stuck)
server.start()
address = server.listen()
threading.Thread(target=smtplib.SMTP, args=address, daemon=True).start()
reached.wait()
print(server.close(0))
"""
    assert run(program) == "False\n"


def test_a_forked_child_ends_and_its_parent_serves_on(tmp_path: Path) -> None:
    program = f"""
import os, smtplib, time
from mta_front import SMTPServer
with SMTPServer(auth_optional=True, close_timeout_s=3600) as server:
    address = server.listen()
    server.listen("unix:{tmp_path}/s")
    child = os.fork()
    if child:
        deadline = time.monotonic() + 20
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            assert time.monotonic() < deadline or os.kill(child, 9), "the child waits for sessions that are not its own"
            time.sleep(0.01)
        assert ended == (child, 0), ended
        assert os.path.exists("{tmp_path}/s")
        with smtplib.SMTP(*address) as client:
            print(client.noop()[0], flush=True)
# the child leaves the block too: its close() must neither wait nor harm
"""
    assert run(program) == "250\n"


def test_a_child_that_lives_on_does_not_hold_the_address() -> None:
    program = """
import os, signal
from mta_front import SMTPServer
server = SMTPServer()
server.start()
address = server.listen()
child = os.fork()
if not child:
    signal.pause()
try:
    server.close()
    with SMTPServer() as other:
        print(other.listen(*address) == address)
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    assert run(program) == "True\n"


def test_nothing_is_patched_and_no_store_is_loaded() -> None:
    """The library has neither Redis nor metrics (DESIGN §2), and leaves the program's modules alone."""
    program = """
import sys
from mta_front import SMTPServer
SMTPServer(blocking_hooks=True).close()
from gevent import monkey
assert not monkey.saved, monkey.saved
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"redis", "prometheus_client", "sentry_sdk", "pydantic", "structlog", "typer"}))
"""
    assert run(program) == "[]\n"
