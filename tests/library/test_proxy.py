"""The library behind a proxy: PROXY, XCLIENT and XFORWARD by their options."""

from __future__ import annotations

import logging
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mta_front import Credentials, Session
from mta_front.proxybuild import build_v1, build_v2
from mta_front.proxyproto import Endpoints
from mta_front.proxytlv import Ssl, Tlvs
from tests.library.served import BODY, Noting, served
from tests.smtp_talk import Talk, talk
from tests.wait import until

HEADER = build_v1(Endpoints("192.0.2.1", 4711, "198.51.100.2", 25))
HERE = ["127.0.0.0/8"]


def came(address: tuple[str, int] | str, header: bytes = HEADER) -> Talk:
    """Connect with a header."""
    client = Talk(address)
    client.raw(header)
    return client


@pytest.mark.seed("configuration: useProxy")
@pytest.mark.parametrize("trusted", [True, ["127.0.0.1"], ["::1", ip_network("127.0.0.0/8")]])
@pytest.mark.parametrize("blocking", [True, False])
def test_the_header_of_those_whom_use_proxy_names_is_taken(trusted: Any, blocking: bool) -> None:
    hooks = Noting()
    with served(hooks=hooks, use_proxy=trusted, blocking_hooks=blocking) as server:
        with came(server.address) as client:
            client.greeting()
            assert client.send(BODY).code == 250
        [session] = hooks.sessions
    assert (session.remote_address, session.remote_port, session.local_port) == ("192.0.2.1", 4711, 25)
    assert session.proxy is not None
    assert session.proxy.address == "127.0.0.1"


@pytest.mark.parametrize("trusted", [False, ["10.0.0.0/8"]])
def test_that_of_others_ends_the_session(trusted: Any) -> None:
    hooks = Noting()
    with served(hooks=hooks, use_proxy=trusted) as server, came(server.address) as client:
        assert client.reply().code == 220
        assert str(client.reply()).startswith("554 5.5.0")
        assert client.ended()
    assert [session.remote_address for session in hooks.sessions] == ["127.0.0.1"]


def test_who_sends_none_in_time_is_cut_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    hooks = Noting()
    with caplog.at_level(logging.INFO, "mta_front"), served(hooks=hooks, use_proxy=True, proxy_timeout_s=0.1) as server:
        with Talk(server.address) as client:
            assert client.ended()
        until(lambda: caplog.records)
    assert [record.getMessage() for record in caplog.records] == [
        "smtp: connection refused for its PROXY header: timeout"
    ]
    assert hooks.calls == []


def test_a_proxy_may_come_by_a_unix_socket(tmp_path: Path) -> None:
    """It has no address to be in a network: True trusts whoever may open the socket."""
    hooks = Noting()
    path = str(tmp_path / "s")
    with served(hooks=hooks, use_proxy=True) as server:
        server.listen(f"unix:{path}")
        with came(path) as client:
            client.greeting()
    assert hooks.sessions[0].remote_address == "192.0.2.1"


def test_no_network_has_who_comes_by_a_unix_socket(tmp_path: Path) -> None:
    hooks = Noting()
    path = str(tmp_path / "s")
    with served(hooks=hooks, use_proxy=["0.0.0.0/1", "128.0.0.0/1"], use_xclient=HERE) as server:
        server.listen(f"unix:{path}")
        with came(path) as client:
            assert client.reply().code == 220
            assert str(client.reply()).startswith("554 5.5.0")
            assert client.ended()
        with Talk(path) as client:
            client.greeting()
            client.expect("XCLIENT ADDR=192.0.2.1", 550)
    assert [session.remote_address for session in hooks.sessions] == ["", ""]


@pytest.mark.parametrize("trusted", [True, False])
def test_tls_that_a_proxy_ended_is_taken_for_tls_where_it_is_trusted(trusted: bool) -> None:
    hooks = Noting()
    header = build_v2(Endpoints("192.0.2.1", 1, "198.51.100.2", 25), Tlvs(ssl=Ssl(1, 0, version="TLSv1.3")))
    with (
        served(hooks=hooks, use_proxy=HERE, proxy_tls_trusted=trusted) as server,
        came(server.address, header) as client,
    ):
        offered = {line.split()[0] for line in client.greeting().lines}
    assert ("AUTH" in offered, "STARTTLS" in offered) == (trusted, not trusted)
    assert hooks.sessions[0].secure is trusted


def test_a_health_check_calls_no_hook() -> None:
    hooks = Noting()
    with served(hooks=hooks, use_proxy=HERE) as server:
        with came(server.address, build_v2(None, local=True)) as client:
            client.greeting()
            client.quit()
        until(lambda: server.sessions == 0)
    assert hooks.calls == []


@pytest.mark.seed("configuration: useXClient", "session: xClient")
@pytest.mark.parametrize("allowed", [True, HERE])
def test_xclient_for_those_who_may(allowed: Any) -> None:
    hooks = Noting()
    with served(hooks=hooks, use_xclient=allowed) as server, talk(server.address) as client:
        client.expect("XCLIENT ADDR=192.0.2.1 NAME=spike.client.example PORT=[UNAVAILABLE]", 220)
        client.expect("EHLO client.example", 250)
        assert client.send(BODY).code == 250
        [session, again] = hooks.sessions  # asked again: it is another client
        assert again is session
        assert (session.remote_address, session.remote_port) == ("192.0.2.1", 0)
        assert session.client_hostname == "spike.client.example"
        assert session.x_client == {"ADDR": "192.0.2.1", "NAME": "spike.client.example", "PORT": None}


@pytest.mark.seed("configuration: useXForward", "session: xForward")
@pytest.mark.parametrize("allowed", [True, HERE])
def test_xforward_for_those_who_may(allowed: Any) -> None:
    hooks = Noting()
    with served(hooks=hooks, use_xforward=allowed) as server, talk(server.address) as client:
        client.expect("XFORWARD ADDR=192.0.2.1 IDENT=A1B2", 250)
        [session] = hooks.sessions
        assert session.x_forward == {"ADDR": "192.0.2.1", "IDENT": "A1B2"}
        assert session.remote_address == "127.0.0.1"
        assert client.send(BODY).code == 250
        assert session.x_forward == {}  # the next message may be another client's


@pytest.mark.parametrize("allowed", [{}, {"use_xclient": ["10.0.0.0/8"], "use_xforward": ["10.0.0.0/8"]}])
def test_for_nobody_else(allowed: dict[str, Any]) -> None:
    with served(**allowed) as server, Talk(server.address) as client:
        assert not any(line.startswith("X") for line in client.greeting().lines)
        client.expect("XCLIENT ADDR=192.0.2.1", 550)
        client.expect("XFORWARD ADDR=192.0.2.1", 550)


@pytest.mark.parametrize("trusts", [True, False])
def test_networks_have_the_address_of_xclient_only_where_it_is_trusted(trusts: bool) -> None:
    given: dict[str, Any] = {"bare_newline": "reject", "bare_newline_exempt": ["192.0.2.0/24"]}
    with served(use_xclient=True, xclient_trusts_addr=trusts, **given) as server, talk(server.address) as client:
        client.expect("XCLIENT ADDR=192.0.2.1", 220)
        client.expect("EHLO client.example", 250)
        client.envelope("a@b.example", ["c@d.example"])
        client.raw(b"a\nb\r\n.\r\n")
        assert client.reply().code == (250 if trusts else 550)


@pytest.mark.seed("auth: method", "auth: username")
@pytest.mark.parametrize("blocking", [True, False])
def test_a_login_by_xclient_is_the_hooks_to_judge(blocking: bool) -> None:
    seen: list[tuple[str, str, str, str]] = []

    def let_in(credentials: Credentials, session: Session) -> str | None:
        seen.append((credentials.method, credentials.username, credentials.password, session.remote_address))
        return credentials.username if credentials.username == "user" else None

    given: dict[str, Any] = {"auth_optional": False, "use_xclient": HERE, "blocking_hooks": blocking}
    with served(on_auth=let_in, **given) as server, talk(server.address) as client:
        client.expect("XCLIENT ADDR=192.0.2.1 LOGIN=else", 535)
        client.expect("MAIL FROM:<a@b.example>", 530)
        client.expect("XCLIENT ADDR=192.0.2.1 LOGIN=user", 220)
        client.expect("EHLO client.example", 250)
        assert client.send(BODY).code == 250
    assert seen == [("XCLIENT", "else", "", "192.0.2.1"), ("XCLIENT", "user", "", "192.0.2.1")]
