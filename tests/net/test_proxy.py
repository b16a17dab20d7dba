"""A session behind a proxy: who may say who the client is, what the session then knows, and how it fails closed."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress
from ipaddress import ip_network

import pytest

from mta_front.hooks import Hooks, Reject, Session
from mta_front.proxybuild import build_v1, build_v2
from mta_front.proxyproto import V2_SIGNATURE, Endpoints
from mta_front.proxytlv import Ssl, Tlvs
from tests.net.behind import (
    ADDRESS,
    BODY,
    CLIENT,
    CLIENTS,
    ELSEWHERE,
    HEADERS,
    HERE,
    TLVS,
    V1,
    V2,
    V2_WITH_TLVS,
    Seen,
    await_end,
    behind,
    came,
    let_it_read,
    trusting,
)
from tests.smtp_talk import Closed, Talk
from tests.wait import until

# -- a header --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("trusted", [True, HERE])
def test_the_client_is_whom_the_proxy_names(header: bytes, trusted: object) -> None:
    hooks = Seen()
    with behind(hooks, use_proxy=trusted) as server:
        with came(server, header) as client:
            port = client.sock.getsockname()[1]
            assert client.send(BODY).code == 250
            client.quit()
        await_end(server)
        assert (server.noted.opened, server.noted.closed) == (1, ["quit"])
    [session] = hooks.sessions
    assert (session.remote_address, session.remote_port) == (CLIENT.source_address, CLIENT.source_port)
    assert (session.local_address, session.local_port) == (CLIENT.destination_address, CLIENT.destination_port)
    assert session.proxy is not None
    assert (session.proxy.address, session.proxy.port) == ("127.0.0.1", port)
    assert (session.proxy.version, session.proxy.local) == (1 if header is V1 else 2, False)
    assert session.client_hostname == f"[{ADDRESS}]"
    assert hooks.calls == [(name, ADDRESS) for name in ("connect", "data", "close")]


@pytest.mark.parametrize("header", [V1, V2_WITH_TLVS], ids=["v1", "v2"])
def test_a_header_may_be_cut_anywhere(header: bytes) -> None:
    hooks = Seen()
    with behind(hooks) as server:
        for cut in range(1, len(header)):
            with Talk(server.address) as client:
                client.raw(header[:cut])
                let_it_read(server)
                assert not client.readable()
                client.raw(header[cut:])
                assert client.reply().code == 220
    assert [session.remote_address for session in hooks.sessions] == [ADDRESS] * (len(header) - 1)


@pytest.mark.parametrize("header", [V1, V2_WITH_TLVS], ids=["v1", "v2"])
def test_a_header_may_come_octet_by_octet(header: bytes) -> None:
    hooks = Seen()
    with behind(hooks) as server, Talk(server.address) as client:
        for octet in header:
            client.raw(bytes([octet]))
            let_it_read(server)
        client.greeting()
    assert [session.remote_address for session in hooks.sessions] == [ADDRESS]


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_what_is_glued_to_a_header_is_the_clients(header: bytes) -> None:
    """And is answered after the banner, in order."""
    with behind() as server, Talk(server.address) as client:
        client.raw(header + b"EHLO client.example\r\n")
        assert client.reply().code == 220
        assert client.reply().code == 250
        assert client.send(BODY).code == 250
    with behind() as server, Talk(server.address) as client:  # half of a command
        client.raw(header + b"EH")
        assert client.reply().code == 220
        client.expect("LO client.example", 250)


def test_who_speaks_before_the_banner_is_told_so_behind_a_proxy_too() -> None:
    with behind(greet_delay_s=5.0) as server, Talk(server.address) as client:
        client.raw(V1 + b"EHLO client.example\r\n")
        assert client.reply().code == 554
        client.ended()


def test_tlvs_are_on_the_session() -> None:
    hooks = Seen()
    with behind(hooks) as server, came(server, V2_WITH_TLVS):
        pass
    proxy = hooks.sessions[0].proxy
    assert proxy is not None
    assert (proxy.alpn, proxy.authority, proxy.unique_id, proxy.netns) == ("smtp", "mx.ours.example", "id-1", "inside")
    assert proxy.ssl == TLVS.ssl
    assert proxy.aws_vpce_id == "vpce-08d2bf15fac5001c9"
    assert proxy.others == TLVS.others
    assert (hooks.sessions[0].secure, hooks.sessions[0].servername) == (False, "")


def test_a_client_of_the_proxys_unix_socket_has_no_address() -> None:
    """It is a client all the same, and in no network."""
    hooks = Seen()
    endpoints = Endpoints("", 0, "/run/proxy.sock", 0, unix=True)
    with behind(hooks, use_xclient=HERE) as server, came(server, build_v2(endpoints)) as client:
        client.expect("XCLIENT ADDR=192.0.2.9", 550)
        assert client.send(BODY).code == 250
    [session] = hooks.sessions
    assert (session.remote_address, session.remote_port, session.trust_address) == ("", 0, "")
    assert session.proxy is not None
    assert not session.proxy.local


def test_the_hook_judges_the_client_and_not_the_proxy() -> None:
    class Closed192(Hooks):
        def on_connect(self, session: Session) -> None:
            if session.remote_address == ADDRESS:
                raise Reject("Not you")

    with behind(Closed192()) as server, Talk(server.address) as client:
        client.raw(V1)
        assert str(client.reply()) == "554 5.7.1 Not you"
        client.ended()


@pytest.mark.parametrize(
    ("exempt", "code"), [(CLIENTS, 250), (HERE, 550), (ELSEWHERE, 550)], ids=["the client", "the proxy", "others"]
)
def test_who_may_send_bare_newlines_is_judged_by_the_clients_address(exempt: object, code: int) -> None:
    with behind(bare_newline="reject", bare_newline_exempt=exempt) as server, came(server, V2) as client:
        client.envelope("a@b.example", ["c@d.example"])
        client.raw(b"Subject: x\n\nx\r\n.\r\n")
        assert client.reply().code == code


# -- fails closed ----------------------------------------------------------------------------------------------------

REFUSED = [
    (b"EHLO client.example\r\n", "signature"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "signature"),
    (b"PROXY SCTP4 192.0.2.1 192.0.2.2 1 2\r\n", "family"),
    (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "address"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 25\r\n", "port"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 00025 25\r\n", "port"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25 x\r\n", "malformed"),
    (b"PROXY " + b"x" * 200, "too_long"),
    (V2_SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12), "version"),
    (V2_SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12), "command"),
    (V2_SIGNATURE + b"\x21\x11\xff\xff", "too_long"),
    (V2_SIGNATURE + b"\x21\x11\x00\x04" + bytes(4), "too_short"),
    (build_v2(CLIENT, checksum=True)[:-1] + b"\x00", "checksum"),
    (V2[:15] + b"\x0d" + V2[16:] + b"\x01", "tlv"),
]


@pytest.mark.parametrize(("said", "reason"), REFUSED, ids=[f"{reason}-{n}" for n, (_, reason) in enumerate(REFUSED)])
def test_a_trusted_peer_without_a_good_header_is_cut_without_a_word(said: bytes, reason: str) -> None:
    hooks = Seen()
    with behind(hooks, proxy_timeout_s=60.0) as server:
        with Talk(server.address) as client:
            client.raw(said)
            assert client.ended()
        await_end(server)
        assert server.noted.proxy_refused_for == [reason]
        assert (server.noted.opened, server.noted.closed, hooks.calls) == (0, [], [])


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("said", [b"", V1[:-1], V2[:20]])
def test_a_header_that_does_not_come_in_time_ends_the_connection(said: bytes, secure: bool) -> None:
    with behind(proxy_timeout_s=0.1, secure=secure) as server, Talk(server.address) as client:
        client.raw(said)
        assert client.ended()
        until(lambda: server.noted.proxy_refused_for == ["timeout"])


def test_a_drip_buys_no_time() -> None:
    sent = 0
    with behind(proxy_timeout_s=0.1) as server, Talk(server.address) as client:
        client.raw(V2_SIGNATURE + struct.pack(">BBH", 0x21, 0x11, 4000))
        while not server.noted.proxy_refused_for and sent < 3000:
            with suppress(Closed):
                client.raw(b"\0")
            with suppress(AssertionError):  # the pace of the drip
                until(lambda: server.noted.proxy_refused_for, timeout_s=0.01)
            sent += 1
        assert server.noted.proxy_refused_for == ["timeout"]


@pytest.mark.parametrize("said", [b"", V1[:20], V2[:-1]])
@pytest.mark.parametrize("reset", [False, True])
def test_a_proxy_that_goes_away_is_counted(said: bytes, reset: bool) -> None:
    with behind(proxy_timeout_s=60.0) as server:
        with Talk(server.address) as client:
            client.raw(said)
            let_it_read(server)
            if reset:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: server.noted.proxy_refused_for == ["lost"])
        await_end(server)


def test_a_drain_waits_for_no_header() -> None:
    with behind(proxy_timeout_s=60.0) as server, Talk(server.address) as client:
        client.raw(V1[:10])
        until(lambda: server.call(lambda running: running.sessions) == 1)
        assert server.call(lambda running: running.drain(20.0)) is True
        assert client.ended()
        assert server.noted.proxy_refused_for == ["drain"]
        with Talk(server.address) as late:  # accepted in the last moment
            assert late.ended()
        until(lambda: server.noted.proxy_refused_for == ["drain", "drain"])


def test_who_owes_a_header_counts_among_max_clients() -> None:
    with behind(max_clients=1, proxy_timeout_s=60.0) as server:
        with Talk(server.address) as waiting:
            until(lambda: server.call(lambda running: running.sessions) == 1)
            with Talk(server.address) as second:
                second.raw(V1)
                assert second.reply().code == 421
            waiting.raw(V1)
            waiting.greeting()
        await_end(server)
        with Talk(server.address) as refused:
            refused.raw(b"x")
            assert refused.ended()
        await_end(server)
        with came(server, V1):
            pass


# -- peers that are no proxies ---------------------------------------------------------------------------------------


def until_554(client: Talk) -> None:
    """The last word. Octets of a signature that came one by one may have been answered as the commands they make."""
    answer = client.reply()
    while answer.code == 500:
        answer = client.reply()
    assert str(answer).startswith("554 5.5.0 ")
    assert client.ended()


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("trusted", [False, ELSEWHERE])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("waits", [True, False])
def test_a_header_from_anybody_else_ends_the_session(header: bytes, trusted: object, whole: bool, waits: bool) -> None:
    hooks = Seen()
    with behind(hooks, use_proxy=trusted) as server:
        with Talk(server.address) as client:
            if waits:
                assert client.reply().code == 220
            try:
                for part in [header] if whole else [bytes([octet]) for octet in header]:
                    client.raw(part)
                    let_it_read(server)
            except Closed:
                assert not whole
            if not waits:
                assert client.reply().code == 220
            until_554(client)
        await_end(server)
        assert server.noted.proxy_refused_for == ["untrusted"]
        assert server.noted.closed == ["refused"]
    assert [session.remote_address for session in hooks.sessions] == ["127.0.0.1"]
    assert hooks.sessions[0].proxy is None


def test_anybody_else_is_served_without_a_header() -> None:
    hooks = Seen()
    with behind(hooks, use_proxy=ELSEWHERE) as server, Talk(server.address) as client:
        client.greeting()
        assert client.send(BODY).code == 250
    assert hooks.sessions[0].remote_address == "127.0.0.1"


def test_one_port_serves_proxies_and_others() -> None:
    hooks = Seen()
    with (
        behind(hooks, use_proxy=(ip_network("127.0.0.1"),)) as server,
        came(server, V1),
        socket.create_connection(server.address, 10.0, source_address=("127.0.0.2", 0)) as other,
    ):
        assert other.recv(1024).startswith(b"220 ")
    assert [session.remote_address for session in hooks.sessions] == [ADDRESS, "127.0.0.2"]


@pytest.mark.parametrize("opening", [b"P", b"PROX", b"\r", b"\r\n\r\n", V2_SIGNATURE[:-1]])
def test_what_only_begins_like_a_header_is_a_command(opening: bytes) -> None:
    with behind(use_proxy=ELSEWHERE) as server, Talk(server.address) as client:
        assert client.reply().code == 220
        client.raw(opening)
        let_it_read(server)
        client.raw(b"!\r\nNOOP\r\n")
        answers = [client.reply().code]
        while answers[-1] != 250:
            answers.append(client.reply().code)
        assert set(answers[:-1]) == {500}
        assert server.noted.proxy_refused_for == []


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("glued", [True, False])
def test_a_second_header_is_the_clients_invention(header: bytes, glued: bool) -> None:
    hooks = Seen()
    with behind(hooks) as server:
        with Talk(server.address) as client:
            client.raw(header)
            if not glued:
                assert client.reply().code == 220
            client.raw(build_v1(Endpoints("203.0.113.7", 1, "198.51.100.2", 25)))
            if glued:
                assert client.reply().code == 220
            until_554(client)
        await_end(server)
        assert server.noted.proxy_refused_for == ["untrusted"]
    assert [session.remote_address for session in hooks.sessions] == [ADDRESS]


def test_later_than_that_it_is_an_unknown_command() -> None:
    hooks = Seen()
    with behind(hooks) as server, came(server, V2) as client:
        client.expect("PROXY TCP4 203.0.113.7 198.51.100.2 1 25", 500)
        assert client.send(BODY).code == 250
    assert hooks.calls[:2] == [("connect", ADDRESS), ("data", ADDRESS)]


# -- TLS -------------------------------------------------------------------------------------------------------------


def test_starttls_behind_a_proxy() -> None:
    hooks = Seen()
    with behind(hooks) as server, came(server, V2) as client:
        client.expect("STARTTLS", 220)
        client.secure(trusting())
        client.expect("EHLO client.example", 250)
        assert client.send(BODY).code == 250
    assert hooks.calls[:3] == [(name, ADDRESS) for name in ("connect", "secure", "data")]
    assert hooks.sessions[0].transmission_type == "ESMTPS"


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("cut", [0, 1, 20])
def test_implicit_tls_behind_a_proxy(header: bytes, cut: int) -> None:
    """The ClientHello is glued to the header; `cut`: but for so many octets of it."""
    hooks = Seen()
    with behind(hooks, secure=True) as server, Talk(server.address) as client:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting().wrap_bio(incoming, outgoing, server_hostname="mx.ours.example")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        client.raw(header + hello[: len(hello) - cut])
        let_it_read(server)
        client.raw(hello[len(hello) - cut :])
        banner = b""
        while not banner:
            incoming.write(client.sock.recv(65536))
            try:
                banner = tls.read()
            except ssl.SSLWantReadError:
                client.raw(outgoing.read())
        assert banner.startswith(b"220 ")
    assert hooks.calls[:2] == [("secure", ADDRESS), ("connect", ADDRESS)]
    assert hooks.sessions[0].servername == "mx.ours.example"


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_in_the_place_of_tls_is_no_tls(header: bytes) -> None:
    with behind(secure=True, use_proxy=ELSEWHERE) as server:
        with Talk(server.address) as client:
            client.raw(header)
            with pytest.raises((Closed, AssertionError)):
                client.reply()
        await_end(server)
        assert len(server.noted.tls_failed_for) == 1


@pytest.mark.parametrize("implicit", [True, False])
def test_a_header_inside_tls_is_the_clients_invention(implicit: bool) -> None:
    hooks = Seen()
    with behind(hooks, secure=implicit) as server:
        with Talk(server.address) as client:
            client.raw(V2)
            if not implicit:
                client.greeting()
                client.expect("STARTTLS", 220)
            client.secure(trusting())
            if implicit:
                assert client.reply().code == 220
            client.raw(V1)
            until_554(client)
        await_end(server)
        assert server.noted.proxy_refused_for == ["untrusted"]


def header_of(client: int, verify: int = 0) -> bytes:
    """As a proxy that ends TLS sends it; `client`: bits of the SSL TLV (0: HAProxy says so of clients in clear)."""
    said = Ssl(client, verify, version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384") if client else Ssl(0, 0)
    return build_v2(CLIENT, Tlvs(authority="mx.ours.example", ssl=said))


def words(lines: tuple[str, ...]) -> set[str]:
    return {line.split()[0] for line in lines}


@pytest.mark.parametrize("implicit", [True, False])
def test_tls_that_the_proxy_ended_makes_a_session_secure(implicit: bool) -> None:
    hooks = Seen()
    with behind(hooks, proxy_tls_trusted=True, secure=implicit) as server, Talk(server.address) as client:
        client.raw(header_of(1))
        offered = words(client.greeting().lines)
        assert "AUTH" in offered
        assert "STARTTLS" not in offered
        client.expect("STARTTLS", 503)
        client.expect("AUTH PLAIN AHVzZXIAc2VjcmV0", 235)
        assert client.send(BODY).code == 250
    [session] = hooks.sessions
    assert (session.secure, session.servername, session.user) == (True, "mx.ours.example", "user")
    assert session.transmission_type == "ESMTPSA"
    assert session.tls_options is not None
    assert (session.tls_options.name, session.tls_options.version) == ("TLS_AES_256_GCM_SHA384", "TLSv1.3")


@pytest.mark.parametrize(("client_bits", "trusted"), [(0, True), (6, True), (1, False)])
def test_without_the_bit_or_the_option_it_does_not(client_bits: int, trusted: bool) -> None:
    """HAProxy sends the TLV for clients in clear too (DECISIONS W10)."""
    hooks = Seen()
    with behind(hooks, proxy_tls_trusted=trusted) as server, Talk(server.address) as client:
        client.raw(header_of(client_bits))
        offered = words(client.greeting().lines)
        assert "STARTTLS" in offered
        assert "AUTH" not in offered
        client.expect("AUTH PLAIN AHVzZXIAc2VjcmV0", 538)
    [session] = hooks.sessions
    assert (session.secure, session.servername, session.tls_options) == (False, "", None)


def test_a_client_in_clear_at_a_proxy_still_owes_tls_where_it_is_implicit() -> None:
    with behind(proxy_tls_trusted=True, secure=True) as server, Talk(server.address) as client:
        client.raw(header_of(0))
        client.secure(trusting())
        client.greeting()
