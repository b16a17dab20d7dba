"""The examples do what they say: each runs as a program, and mail is sent to it."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import pytest

from mta_front.proxybuild import build_v2
from mta_front.proxyproto import Endpoints
from tests.library.examples import EXAMPLES, MESSAGE, running
from tests.processes import ROOT
from tests.smtp_talk import Talk, talk


def test_save_messages(tmp_path: Path) -> None:
    with running("save_messages.py", tmp_path) as example:
        with talk(example.address) as client:
            answer = client.send(MESSAGE)
        output = example.end()
    [saved] = tmp_path.glob("*.eml")
    assert saved.read_bytes() == MESSAGE
    assert answer.text == f"2.0.0 saved as {saved.name}"
    assert output == f"saved {saved.name}: {len(MESSAGE)} bytes\n  from a@client.example to b@ours.example\n"


def test_size_limit(tmp_path: Path) -> None:
    with running("size_limit.py", tmp_path) as example:
        with talk(example.address) as client:
            assert client.send(MESSAGE).code == 250
            assert client.send(b"x" * 998 + b"\r\n").code == 250
            too_large = (b"x" * 998 + b"\r\n") * 11_000
            assert client.send(too_large).code == 552
        output = example.end()
    assert output.splitlines() == ["received 23 bytes", "received 1000 bytes", "too large: 11000000 bytes"]


def test_refuse_spam(tmp_path: Path) -> None:
    with running("refuse_spam.py", tmp_path) as example:
        with talk(example.address) as client:
            assert str(client.send(b"Subject: SPAM\r\n\r\n")) == "550 5.7.1 Spam detected"
            assert client.send(MESSAGE).code == 250
        assert example.end() == ""


def test_policy(tmp_path: Path) -> None:
    with running("policy.py", tmp_path) as example:
        with talk(example.address) as client:
            assert str(client.command("MAIL FROM:<alice@Ours.example>")).startswith("550 5.7.1 Nobody but us")
            client.expect("MAIL FROM:<a@b.example>", 250)
            for _ in range(3):
                assert str(client.command("RCPT TO:<x@ours.example>")) == "550 5.1.1 No mailbox x@ours.example here"
            client.expect("RCPT TO:<Alice@ours.example>", 450)
        with talk(example.address) as client:
            client.envelope("a@b.example", ["alice@ours.example", "bob@ours.example"])
            assert client.body(MESSAGE).text == "2.0.0 23 bytes for 2 recipients"
        assert example.end() == ""


def test_lmtp(tmp_path: Path) -> None:
    with running("lmtp.py", tmp_path, "unix:lmtp.sock") as example:
        with Talk(str(tmp_path / example.path)) as client:
            client.greeting("me.example", "LHLO")
            client.envelope("a@b.example", ["alice@ours.example", "bob@ours.example"])
            assert str(client.body(MESSAGE)) == "250 2.0.0 23 bytes for alice"
            assert str(client.reply()) == "552 5.2.2 Mailbox full"
        assert example.end() == ""
    assert list(tmp_path.iterdir()) == []


def test_blocking_hooks(tmp_path: Path) -> None:
    with running("blocking_hooks.py", tmp_path) as example:
        with smtplib.SMTP(*example.address) as client:
            client.sendmail("a@b.example", ["c@d.example"], MESSAGE)
        senders = []
        begun = monotonic()
        for i in range(8):
            sender = threading.Thread(target=send, args=(example.address, f"{i}@b.example"))
            sender.start()
            senders.append(sender)
        for sender in senders:
            sender.join(30)
        took_s = monotonic() - begun
        assert example.end() == ""
    assert took_s < 8.0
    with sqlite3.connect(tmp_path / "messages.sqlite") as database:
        rows = database.execute("SELECT sender, body FROM messages").fetchall()
    assert sorted(rows) == sorted([("a@b.example", MESSAGE), *((f"{i}@b.example", MESSAGE) for i in range(8))])


def send(address: tuple[str, int], sender: str) -> None:
    with smtplib.SMTP(*address) as client:
        client.sendmail(sender, ["c@d.example"], MESSAGE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_graceful_close(tmp_path: Path, number: signal.Signals) -> None:
    with running("graceful_close.py", tmp_path) as example, talk(example.address) as idle:
        with talk(example.address) as busy:
            busy.envelope("a@b.example", ["c@d.example"])
            example.process.send_signal(number)
            assert idle.reply().code == 421
            assert busy.body(MESSAGE).text == "2.0.0 kept 23 bytes"
            assert busy.reply().code == 421
        output = example.process.communicate(timeout=30)[0]
    assert output == "closing with 2 clients\nall done\n"
    assert example.process.returncode == 0


def test_in_a_test(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "in_a_test.py")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_readme_example(tmp_path: Path) -> None:
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "readme.py").write_text(code.replace("2525", "0"))
    process = subprocess.Popen(
        [sys.executable, "-u", str(tmp_path / "readme.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            found = re.match(r"listening on (.*):([0-9]+); Enter ends it", process.stdout.readline())
            assert found
            with talk((found[1], int(found[2]))) as client:
                assert client.send(MESSAGE).text == "2.0.0 kept"
                assert client.send(b"SPAM\r\n").code == 550
            assert process.communicate("\n", timeout=30)[0] == f"a@client.example {len(MESSAGE)}\n"
        finally:
            process.kill()
    assert process.returncode == 0


def test_behind_haproxy(tmp_path: Path) -> None:
    def came(address: str) -> Talk:
        client = Talk(example.address)
        client.raw(build_v2(Endpoints(address, 4711, "198.51.100.2", 25)))
        return client

    with running("behind_haproxy.py", tmp_path) as example:
        with came("192.0.2.1") as client:
            client.greeting()
            assert str(client.send(MESSAGE)) == "250 2.0.0 taken from 192.0.2.1 through 127.0.0.1"
        with came("192.0.2.66") as client:
            assert str(client.reply()) == "554 5.7.1 We know you"
        with Talk(example.address) as client:
            client.raw(b"EHLO client.example\r\n")
            assert client.ended()
        assert example.end() == ""


def test_each_example_is_short_listed_and_tested() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    listed = set(re.findall(r"^\| \[(\w+\.py)\]\(\1\)", (EXAMPLES / "README.md").read_text("utf-8"), re.MULTILINE))
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_examples*.py"))
    assert names == listed
    for name in names:
        assert f"def test_{name.removesuffix('.py')}(" in tests
        assert len((EXAMPLES / name).read_text("utf-8").splitlines()) <= 40


def test_links_of_the_index_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (EXAMPLES / "README.md").read_text("utf-8")):
        assert (EXAMPLES / target).exists(), target
