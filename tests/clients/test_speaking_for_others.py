"""XCLIENT and XFORWARD as real programs say them: swaks, and Postfix as a content filter's client."""

from __future__ import annotations

import json
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import front, processes
from tests.clients.postfix_relay import PostfixRelay
from tests.clients.vouching import BANNED
from tests.needs import program
from tests.ports import free_port
from tests.wait import until

TRUSTED = "192.0.2.1"
"""May relay, by the settings, when it comes by itself."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[front.Front]:
    """Who comes from this host may speak for others, and relay; "dev" has a password and may log in."""
    directory = tmp_path_factory.mktemp("server")
    listener: dict[str, Any] = {"name": "mx", "bind": [f"127.0.0.1:{free_port()}"], "relay_domains": ["ours.example"]}
    listener |= {"use_xclient": ["127.0.0.1"], "use_xforward": ["127.0.0.1"], "auth_optional": True}
    listener |= {"trusted_networks": ["127.0.0.1", TRUSTED], "reverse_lookup": False}
    made = front.make(
        directory,
        {"recipients": ["*"], "transport": "maildir", "path": str(directory / "mail")},
        listeners=[listener],
        auth={"backends": ["hook"]},
        hooks={"class": "tests.clients.vouching:Vouching"},
    ).start()
    started = processes.started.copy()
    processes.started.clear()  # it outlives the first test
    yield made
    for each in started:
        each.end()


def notes(server: front.Front) -> dict[str, dict[str, Any]]:
    """What the hooks wrote down, by subject."""
    path = server.directory / "notes.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {line["subject"]: line for line in map(json.loads, lines)}


def delivered(server: front.Front, subject: str) -> str:
    """The message, once it is in the Maildir."""

    def search() -> str:
        for path in (server.directory / "mail" / "new").glob("*"):
            text = path.read_text("utf-8")
            if f"Subject: {subject}\n" in text:
                return text
        return ""

    return until(search, 10.0, f"{subject} is delivered")


def swaks(server: front.Front, subject: str, *arguments: str, to: str = "b@ours.example") -> tuple[int, str]:
    """Exit status, and the dialog."""
    done = subprocess.run(
        [
            *(program("swaks"), "--server", "127.0.0.1", "--port", str(server.address[1]), "--helo", "client.example"),
            *("--from", "a@client.example", "--to", to, "--header", f"Subject: {subject}", "--timeout", "30"),
            *arguments,
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    return done.returncode, done.stdout


def test_swaks_is_another_client(server: front.Front) -> None:
    said: tuple[str, ...] = ("--xclient-helo", "h.example", "--xclient-proto", "ESMTP", "--xclient-delim")
    said += ("--xclient-addr", "192.0.2.9", "--xclient-name", "spike.client.example", "--xclient-port", "4711")
    said += ("--xclient-destaddr", "IPV6:2001:db8::25", "--xclient-destport", "25")
    code, dialog = swaks(server, "another", *said)
    assert code == 0, dialog
    assert notes(server)["another"]["client"] == "192.0.2.9"
    assert notes(server)["another"]["x_client"] == {
        "HELO": "h.example", "PROTO": "ESMTP", "ADDR": "192.0.2.9", "NAME": "spike.client.example", "PORT": "4711",
        "DESTADDR": "2001:db8::25", "DESTPORT": "25",
    }  # fmt: skip
    text = delivered(server, "another")
    assert "Received: from client.example (spike.client.example [192.0.2.9])" in text
    assert "127.0.0.1" not in text.partition("\n\n")[0]


def test_its_address_gives_no_right_to_relay(server: front.Front) -> None:
    """Neither that of who says it, nor that which it says (DECISIONS W12)."""
    to = "somebody@elsewhere.example"
    code, dialog = swaks(server, "as itself", to=to)
    assert code == 0, dialog
    for address in ("192.0.2.9", TRUSTED, "127.0.0.1", "[UNAVAILABLE]"):
        code, dialog = swaks(server, "relayed", "--xclient-addr", address, to=to)
        assert code != 0
        assert "554 5.7.1" in dialog, dialog
    assert "relayed" not in notes(server)


def test_its_login_does_and_only_the_hook_is_asked(server: front.Front) -> None:
    to = "somebody@elsewhere.example"
    code, dialog = swaks(server, "by login", "--xclient-addr", "192.0.2.9", "--xclient-login", "dev", to=to)
    assert code == 0, dialog
    assert notes(server)["by login"]["user"] == "dev"
    assert "with ESMTPA " in delivered(server, "by login")
    before = server.metric("mta_front_logins_total")
    code, dialog = swaks(server, "no login", "--xclient-addr", "192.0.2.9", "--xclient-login", "root", to=to)
    assert code != 0
    assert "535 5.7.8" in dialog, dialog
    until(lambda: server.metric("mta_front_logins_total") == before + 1, message="a refused login is counted")
    assert 'method="XCLIENT"' in server.get("/metrics")[1]


def test_who_is_not_let_in_is_not_let_in_by_another(server: front.Front) -> None:
    code, dialog = swaks(server, "banned", "--xclient-addr", BANNED)
    assert code != 0
    assert "554 5.7.1 Not you" in dialog, dialog
    assert "banned" not in notes(server)


def test_postfix_forwards_who_the_client_is(server: front.Front, open_directory: Path) -> None:
    """For each message anew, on one connection that it keeps; it says no more than it knows."""
    settings = "smtp_send_xforward_command = yes\nsmtp_tls_security_level = none\n"
    settings += "smtpd_authorized_xforward_hosts = 127.0.0.0/8\n"
    settings += "smtp_connection_cache_destinations = static:all\nsmtp_connection_cache_time_limit = 60s\n"
    relay = PostfixRelay(open_directory, server.address[1], "smtp", settings=settings).start()
    said = {"first": "NAME=one.example ADDR=192.0.2.11 HELO=one", "second": "", "third": "ADDR=192.0.2.13"}
    for subject, attributes in said.items():
        with smtplib.SMTP("127.0.0.1", relay.port, "filter.example", timeout=30.0) as client:
            client.ehlo()
            if attributes:
                assert client.docmd("XFORWARD", attributes)[0] == 250
            client.sendmail("a@client.example", "b@ours.example", f"Subject: {subject}\r\n\r\nhello\r\n")
        delivered(server, subject)
    assert len([line for line in relay.dialog() if line.startswith("> EHLO ")]) == 1, "one connection for all"
    found = {subject: notes(server)[subject]["x_forward"] for subject in said}
    assert (found["first"]["NAME"], found["first"]["ADDR"]) == ("one.example", "192.0.2.11")
    assert found["second"]["ADDR"] == "127.0.0.1", "Postfix's own client, and not the one before"
    assert found["third"]["ADDR"] == "192.0.2.13"
    assert "NAME" not in found["third"], "nor its name"
    assert {notes(server)[subject]["client"] for subject in said} == {"127.0.0.1"}
