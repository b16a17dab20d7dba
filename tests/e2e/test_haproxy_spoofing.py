"""Who may not say who the client is, and who says it wrongly, is cut: against `serve`, from addresses of its own.

127.0.0.1 is the proxy that is trusted; 127.0.1.9 is not.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mta_front.proxyproto import V2_SIGNATURE
from tests import front, processes
from tests.haproxy import Balancer, Caller, listen
from tests.ports import free_port
from tests.smtp_talk import Closed
from tests.tls.authority import Authority
from tests.wait import until

PROXY, STRANGER = "127.0.0.1", "127.0.1.9"
NAME = "mx.ours.example"
VICTIM = b"PROXY TCP4 127.0.1.7 127.0.0.1 4321 25\r\n"
"""What an attacker would like to be believed: 127.0.1.7 may relay."""
VICTIM_V2 = V2_SIGNATURE + b"\x21\x11\x00\x0c" + bytes((127, 0, 1, 7, 127, 0, 0, 1)) + b"\x10\xe1\x00\x19"
GOOD = VICTIM.replace(b"127.0.1.7", b"127.0.1.6")
"""What the proxy itself says in these tests."""
TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Target:
    """The server, with a listener in clear and one of TLS; and a door of HAProxy's to the first."""

    server: front.Front
    mx: int
    submissions: int
    behind: int
    context: ssl.SSLContext

    def notes(self) -> str:
        """What its hooks saw."""
        path = self.server.directory / "notes.jsonl"
        return path.read_text("utf-8") if path.exists() else ""

    def refusals(self, listener: str, reason: str) -> float:
        """How often it refused a header for this reason."""
        text = self.server.get("/metrics")[1]
        start = f'mta_front_proxy_refusals_total{{listener="{listener}",reason="{reason}"}} '
        return sum(float(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """For all tests of this file."""
    directory = tmp_path_factory.mktemp("target")
    authority = Authority()
    key, cert = authority.issue(NAME).files(directory, "server")
    (directory / "root.pem").write_bytes(authority.pem)
    mx, submissions, behind = free_port(), free_port(), free_port()
    common = {"use_proxy": [f"{PROXY}/32"], "proxy_timeout_s": TIMEOUT_S, "reverse_lookup": False}
    common |= {"auth_optional": True, "relay_domains": ["ours.example"], "trusted_networks": ["127.0.1.6/31"]}
    server = front.make(
        directory,
        {"recipients": ["*"], "transport": "discard"},
        listeners=[
            common | {"name": "mx", "bind": [f"127.0.0.1:{mx}"]},
            common | {"name": "submissions", "bind": [f"127.0.0.1:{submissions}"], "secure": True},
        ],
        tls={"key": str(key), "cert": str(cert)},
        hooks={"class": "tests.e2e.hooks_that_tell:Telling"},
        log={"level": "debug"},
    ).start()
    Balancer(directory, listen("mx", behind, {"a": mx}, server="send-proxy-v2")).start()
    started = processes.started.copy()
    processes.started.clear()  # they outlive the first test
    context = ssl.create_default_context(cafile=str(directory / "root.pem"))
    yield Target(server, mx, submissions, behind, context)
    for program in started:
        program.end()


def v2(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    """A binary header."""
    return V2_SIGNATURE + bytes((command, family)) + (len(body) if length is None else length).to_bytes(2, "big") + body


WRONG = {
    "IPv6 as TCP4": (b"PROXY TCP4 ::1 127.0.0.1 1 25\r\n", "address"),
    "IPv4 as TCP6": (b"PROXY TCP6 127.0.1.7 127.0.0.1 1 25\r\n", "address"),
    "port 65536": (b"PROXY TCP4 127.0.1.7 127.0.0.1 65536 25\r\n", "port"),
    "port -1": (b"PROXY TCP4 127.0.1.7 127.0.0.1 -1 25\r\n", "port"),
    "port +1": (b"PROXY TCP4 127.0.1.7 127.0.0.1 +1 25\r\n", "port"),
    "port 1_0": (b"PROXY TCP4 127.0.1.7 127.0.0.1 1_0 25\r\n", "port"),
    "port 00025": (b"PROXY TCP4 127.0.1.7 127.0.0.1 1 00025\r\n", "port"),
    "octal address": (b"PROXY TCP4 127.0.01.7 127.0.0.1 1 25\r\n", "address"),
    "two blanks": (b"PROXY TCP4  127.0.1.7 127.0.0.1 1 25\r\n", "malformed"),
    "LF alone": (b"PROXY TCP4 127.0.1.7 127.0.0.1 1 25\n", "malformed"),
    "lower case": (b"proxy TCP4 127.0.1.7 127.0.0.1 1 25\r\n", "signature"),
    "UDP4": (b"PROXY UDP4 127.0.1.7 127.0.0.1 1 25\r\n", "family"),
    "108 octets": (b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n", "too_long"),
    "no header": (b"EHLO client.example\r\n", "signature"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "signature"),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", "signature"),
    "v2 of 64 KiB": (v2(0x21, 0x11, b"", 0xFFFF), "too_long"),
    "v2 too short": (v2(0x21, 0x21, bytes(12)), "too_short"),
    "version 3": (v2(0x31, 0x11, bytes(12)), "version"),
    "command 2": (v2(0x22, 0x11, bytes(12)), "command"),
    "UDP in v2": (v2(0x21, 0x12, bytes(12)), "family"),
    "a TLV beyond the end": (v2(0x21, 0x11, bytes(12) + b"\x02\xff\xff"), "tlv"),
    "a wrong checksum": (v2(0x21, 0x11, bytes(12) + b"\x03\x00\x04abcd"), "checksum"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_trusted_peer_that_is_wrong_hears_nothing(target: Target, name: str) -> None:
    """No banner, no reply, no hook; counted by reason."""
    header, reason = WRONG[name]
    before, noted = target.refusals("mx", reason), target.notes()
    with Caller(target.mx, PROXY) as caller:
        caller.raw(header)
        assert caller.ended(5.0)
    until(lambda: target.refusals("mx", reason) == before + 1, message=f"counted as {reason}")
    assert target.notes() == noted


@pytest.mark.parametrize("said", [b"", b"PROXY TCP4 127.0.1.7", VICTIM_V2[:20]])
@pytest.mark.parametrize("listener", ["mx", "submissions"])
def test_a_trusted_peer_that_does_not_finish_is_cut_in_time(target: Target, listener: str, said: bytes) -> None:
    before = target.refusals(listener, "timeout")
    with Caller(getattr(target, listener), PROXY) as caller:
        began_at = time.monotonic()
        if said:
            caller.raw(said)
        assert caller.ended(5.0)
        assert time.monotonic() - began_at > TIMEOUT_S - 0.1
    until(lambda: target.refusals(listener, "timeout") == before + 1, message="counted")


@pytest.mark.parametrize("header", [VICTIM, VICTIM_V2, b"PROXY UNKNOWN\r\n", v2(0x20, 0, b"")])
def test_an_untrusted_peer_gets_the_banner_and_its_header_ends_it(target: Target, header: bytes) -> None:
    before = target.refusals("mx", "untrusted")
    with Caller(target.mx, STRANGER) as caller:
        assert caller.reply().code == 220
        caller.raw(header + b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n")
        answer = caller.reply()
        assert (answer.code, answer.text[:5]) == (554, "5.5.0")
        assert caller.ended()
    until(lambda: target.refusals("mx", "untrusted") == before + 1, message="counted")
    assert '"127.0.1.7"' not in target.notes()


def test_an_untrusted_peer_says_it_before_tls(target: Target) -> None:
    """On a port of TLS it is no handshake: an alert at most, and no word in clear."""
    with Caller(target.submissions, STRANGER) as caller:
        caller.raw(VICTIM)
        received = b"".join(iter(lambda: caller.sock.recv(1000), b""))
    assert received[:1] in {b"", b"\x15"}, "nothing, or an alert of TLS"
    assert len(received) <= 7, "and nothing behind it"


@pytest.mark.parametrize("second", [VICTIM, VICTIM_V2])
def test_a_second_header_is_not_believed(target: Target, second: bytes) -> None:
    """Glued to the first, and after the banner: what a client behind the proxy may try."""
    first = b"PROXY TCP4 127.0.1.9 127.0.0.1 1234 25\r\n"
    with Caller(target.mx, PROXY) as caller:
        caller.raw(first + second)
        code = caller.reply().code
        if code == 220:
            code = caller.reply().code
        assert code == 554
        assert caller.ended()
    with Caller(target.mx, PROXY) as caller:
        caller.raw(first)
        assert caller.reply().code == 220
        caller.raw(second)
        assert caller.reply().code == 554
        assert caller.ended()
    assert '"127.0.1.7"' not in target.notes()


@pytest.mark.parametrize("header", [VICTIM, VICTIM_V2])
def test_a_client_behind_haproxy_says_who_it_is(target: Target, header: bytes) -> None:
    with Caller(target.behind, STRANGER) as caller:
        assert caller.reply().code == 220
        caller.raw(header)
        assert caller.reply().code == 554
        assert caller.ended()
    assert '"127.0.1.7"' not in target.notes()


@pytest.mark.parametrize("header", [VICTIM, VICTIM_V2])
@pytest.mark.parametrize("way", ["implicit", "starttls"])
def test_inside_tls_it_is_not_believed(target: Target, way: str, header: bytes) -> None:
    """Before and after the handshake are two places: the header belongs before."""
    implicit = way == "implicit"
    with Caller(target.submissions if implicit else target.mx, STRANGER) as caller:
        if not implicit:
            caller.greeting()
            caller.expect("STARTTLS", 220)
        caller.secure(target.context, NAME)
        if implicit:
            assert caller.reply().code == 220
        caller.raw(header)
        assert caller.reply().code == 554
        assert caller.ended()
    assert '"127.0.1.7"' not in target.notes()


def test_the_good_header_is_believed(target: Target) -> None:
    """The instruments work: the same header from the proxy makes the session 127.0.1.6's."""
    with Caller(target.mx, PROXY) as caller:
        caller.raw(GOOD)
        caller.greeting()
        caller.expect("MAIL FROM:<a@client.example>", 250)
        caller.expect("RCPT TO:<somebody@elsewhere.example>", 250)
    until(lambda: '"127.0.1.6"' in target.notes(), message="the hooks saw it")


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", v2(0x20, 0, b""), v2(0x21, 0, b""), v2(0x20, 0x11, VICTIM_V2[16:])]
)
def test_a_check_that_sends_mail_is_the_proxys_own_and_may_nothing(target: Target, header: bytes) -> None:
    with Caller(target.mx, PROXY) as caller:
        caller.raw(header)
        caller.greeting()
        caller.expect("MAIL FROM:<a@client.example>", 250)
        caller.expect("RCPT TO:<somebody@elsewhere.example>", 554)
        caller.expect("RCPT TO:<b@ours.example>", 250)
    assert '"127.0.1.7"' not in target.notes()


def test_a_header_that_comes_with_a_reset_is_no_traceback(target: Target) -> None:
    """Hundreds that connect and are gone, at every stage."""
    for size in (0, 1, 5, 20, len(GOOD)):
        for _ in range(20):
            with Caller(target.mx, PROXY) as caller:
                try:
                    caller.raw(GOOD[:size])
                except Closed:
                    continue
    with Caller(target.mx, PROXY) as caller:
        caller.raw(GOOD)
        caller.greeting()
    assert "Traceback" not in target.server.log_text()
    assert target.server.metric("mta_front_faults_total") == 0
