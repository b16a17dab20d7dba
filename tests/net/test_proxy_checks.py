"""A proxy that speaks for itself: its health checks are heard by nobody, and give no client any right (W10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mta_front.hooks import Defer, Hooks, Reject, Session
from mta_front.proxybuild import build_v1
from mta_front.proxyproto import Endpoints
from tests.net.behind import BODY, HERE, OWN, Seen, await_end, behind, came, trusting
from tests.smtp_talk import Talk

OPEN: dict[str, Any] = {"allow_insecure_auth": True, "auth_optional": False}


class Named:
    """Every address has this name."""

    def reverse(self, address: str) -> Sequence[str]:
        return ["proxy.ours.example"]


@pytest.mark.parametrize("header", OWN.values(), ids=OWN)
@pytest.mark.parametrize(
    "commands",
    [
        [],
        [("QUIT", 221)],
        [("EHLO check.example", 250), ("QUIT", 221)],
        [("HELO check.example", 250), ("NOOP", 250), ("RSET", 250), ("HELP", 214), ("NOOP", 250)],
        [("EHLO check.example", 250), ("STARTTLS", 220)],
        [("VRFY x", 252), ("RCPT TO:<a@b.example>", 503), ("DATA", 503), ("NOPE", 500)],
    ],
    ids=lambda commands: " ".join(command.split()[0] for command, _ in commands) or "nothing",
)
def test_a_health_check_is_silent(header: bytes, commands: list[tuple[str, int]]) -> None:
    hooks = Seen()
    with behind(hooks) as server:
        with Talk(server.address) as client:
            client.raw(header)
            assert client.reply().code == 220
            for command, code in commands:
                client.expect(command, code)
                if command == "STARTTLS":
                    client.secure(trusting())
                    client.expect("EHLO check.example", 250)
        await_end(server)
        assert (server.noted.opened, server.noted.closed, server.noted.faults) == (0, [], [])
        assert (server.noted.proxy_refused_for, server.noted.tls_failed_for) == ([], [])
    assert hooks.calls == []


@pytest.mark.parametrize(
    ("address", "other_port", "silent"), [("127.0.0.1", 0, True), ("127.0.0.1", 1, False), ("127.0.0.9", 0, False)]
)
def test_version_1_names_the_proxys_own_end_for_a_check(address: str, other_port: int, silent: bool) -> None:
    """HAProxy 2.6 does, for want of LOCAL. Another port there, or another address, is a client's."""
    with behind(Seen()) as server:
        with Talk(server.address) as client:
            port = client.sock.getsockname()[1] ^ other_port
            client.raw(build_v1(Endpoints(address, port, "127.0.0.1", 25)))
            assert client.reply().code == 220
            client.expect("QUIT", 221)
        await_end(server)
        assert server.noted.opened == (0 if silent else 1)


@pytest.mark.parametrize("header", OWN.values(), ids=OWN)
def test_a_check_over_implicit_tls_is_silent_also_when_it_ends_before(header: bytes) -> None:
    hooks = Seen()
    with behind(hooks, secure=True) as server:
        with Talk(server.address) as client:
            client.raw(header)
            client.secure(trusting())
            client.greeting()
        with Talk(server.address) as client:
            client.raw(header)
        await_end(server)
        assert (server.noted.opened, server.noted.closed, server.noted.tls_failed_for) == (0, [], [])
    assert hooks.calls == []


@pytest.mark.parametrize("header", OWN.values(), ids=OWN)
@pytest.mark.parametrize(
    ("command", "code"),
    [("MAIL FROM:<a@b.example>", 530), ("AUTH PLAIN AHVzZXIAc2VjcmV0", 235), ("XCLIENT ADDR=192.0.2.1", 550)],
)
def test_whoever_wants_more_is_a_client_at_the_proxys_address(header: bytes, command: str, code: int) -> None:
    hooks = Seen()
    with behind(hooks, use_xclient=HERE, resolver=Named(), **OPEN) as server:
        with came(server, header) as client:
            port = client.sock.getsockname()[1]
            client.expect(command, code)
            assert server.noted.opened == 1
            client.expect("MAIL FROM:<a@b.example>", 250 if code == 235 else 530)
            client.quit()
        await_end(server)
        assert (server.noted.opened, server.noted.closed) == (1, ["quit"])
    [session] = hooks.sessions
    assert (session.remote_address, session.remote_port) == ("127.0.0.1", port)
    assert session.client_hostname == "proxy.ours.example"
    assert session.trust_address == ""
    assert hooks.calls[0] == ("connect", "127.0.0.1")
    assert [name for name, _ in hooks.calls].count("connect") == 1
    assert hooks.calls[-1] == ("close", "127.0.0.1")


@pytest.mark.parametrize("header", OWN.values(), ids=OWN)
def test_it_may_send_mail_like_anybody(header: bytes) -> None:
    hooks = Seen()
    with behind(hooks) as server, came(server, header) as client:
        assert client.send(BODY).code == 250
        assert client.send(BODY).code == 250
    assert hooks.calls[:3] == [("connect", "127.0.0.1"), ("data", "127.0.0.1"), ("data", "127.0.0.1")]


@pytest.mark.parametrize("header", OWN.values(), ids=OWN)
def test_no_network_has_it(header: bytes) -> None:
    """Whatever networks the proxy itself is in: anybody may be behind it."""
    networks: dict[str, Any] = {"use_xclient": HERE, "use_xforward": HERE, "bare_newline_exempt": HERE}
    with behind(bare_newline="reject", **networks) as server, Talk(server.address) as client:
        client.raw(header)
        assert not any(line.startswith("X") for line in client.greeting().lines)
        client.expect("XCLIENT ADDR=192.0.2.1", 550)
        client.expect("XFORWARD ADDR=192.0.2.1", 550)
        client.envelope("a@b.example", ["c@d.example"])
        client.raw(b"Subject: x\n\nx\r\n.\r\n")
        assert client.reply().code == 550


@pytest.mark.parametrize(
    ("raised", "last"), [(Reject("Not you"), "554 5.7.1 Not you"), (Defer("Later"), "421 4.7.0 Later")]
)
def test_it_is_refused_when_it_wants_more(raised: Exception, last: str) -> None:
    class Closed(Hooks):
        def on_connect(self, session: Session) -> None:
            raise raised

    with behind(Closed()) as server:
        with came(server, OWN["v2 LOCAL"]) as client:
            client.expect("NOOP", 250)
            assert str(client.command("MAIL FROM:<a@b.example>")) == last
            assert client.ended()
        await_end(server)
        assert server.noted.closed == ["refused"]


@pytest.mark.parametrize("command", ["MAIL FROM:<a@b.example>", "AUTH", "XCLIENT", "MAIL"])
def test_it_hears_one_reply_also_to_what_is_wrong_by_itself(command: str) -> None:
    """A second one would be taken for the answer to what the client says next."""

    class Closed(Hooks):
        def on_connect(self, session: Session) -> None:
            raise Reject("Not you")

    with behind(Closed(), auth_optional=False) as server, came(server, OWN["v2 LOCAL"]) as client:
        assert str(client.command(command)) == "554 5.7.1 Not you"
        assert client.ended()


def test_its_tls_is_refused_with_one_reply_too() -> None:
    class InClear(Hooks):
        def on_secure(self, session: Session) -> None:
            raise Reject("Not like this")

    with behind(InClear(), auth_optional=False) as server, came(server, OWN["v2 LOCAL"]) as client:
        client.expect("STARTTLS", 220)
        client.secure(trusting())
        client.expect("EHLO check.example", 250)
        assert str(client.command("MAIL FROM:<a@b.example>")) == "554 5.7.1 Not like this"
        assert client.ended()


def test_hooks_hear_of_its_tls_when_they_hear_of_it() -> None:
    hooks = Seen()
    with behind(hooks) as server, came(server, OWN["v2 LOCAL"]) as client:
        client.expect("STARTTLS", 220)
        client.secure(trusting())
        client.expect("EHLO check.example", 250)
        assert hooks.calls == []
        assert client.send(BODY).code == 250
    assert hooks.calls[:3] == [("connect", "127.0.0.1"), ("secure", "127.0.0.1"), ("data", "127.0.0.1")]


def test_a_drain_ends_it_like_any_idle_session() -> None:
    with behind() as server:
        with came(server, OWN["v2 LOCAL"]) as client:
            assert server.call(lambda running: running.drain(20.0)) is True
            assert client.reply().code == 421
            assert client.ended()
        await_end(server)
        assert (server.noted.opened, server.noted.closed) == (0, [])
