"""MTA-STS: policies as they are written, fetched over HTTPS, kept, and what they do to mail."""

from __future__ import annotations

import http.server
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import gevent
import pytest

from mta_front.relay import mtasts as mtasts_module
from mta_front.relay.dns import Dns
from mta_front.relay.mtasts import MtaSts, Policy, parse_policy
from mta_front.relay.mxsecurity import MxSecurity
from mta_front.relay.ourselves import Ourselves
from mta_front.relay.transports.mx import MxTransport
from mta_front.relay.transports.opener import SmtpOptions, Trust
from mta_front.store.options import StoreOptions
from mta_front.store.policies import Policies
from tests.dnsserver import DnsServer
from tests.ports import free_port
from tests.relay.attempts import Noted, Try, deliver
from tests.relay.scripted import ScriptedHop, Talk
from tests.relay.tlshops import TlsHop, server_context
from tests.stores import Store
from tests.tls.authority import Authority

ENFORCE = "version: STSv1\r\nmode: enforce\r\nmx: mx.y.example\r\nmx: *.pool.example\r\nmax_age: 3600\r\n"

# -- policies ----------------------------------------------------------------------------------------------------------


def test_a_policy() -> None:
    assert parse_policy(ENFORCE) == Policy("enforce", 3600, ("mx.y.example", "*.pool.example"))
    assert parse_policy("version:STSv1\nmode:none\nmax_age : 99999999999".replace(" ", "")[:-1]).mode == "none"
    assert parse_policy(ENFORCE.replace("3600", "9999999999")).max_age_s == 31_557_600
    assert parse_policy("later: x\n\n" + ENFORCE + "mode: none\n").mode == "enforce", "of several the first counts"


@pytest.mark.parametrize(
    "text",
    ["", "<html>", ENFORCE.replace("STSv1", "STSv2"), ENFORCE.replace("enforce", "force"),
     ENFORCE.replace("3600", "-1"), ENFORCE.replace("max_age", "maxage"), "version: STSv1\nmode: enforce\nmax_age: 1\n",
     ENFORCE.replace("mx.y.example", "mx y"), ENFORCE.replace("*.pool", "*.*.pool")],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_policy(text)


@pytest.mark.parametrize(
    ("host", "named"),
    [("mx.y.example", True), ("MX.Y.EXAMPLE.", True), ("a.pool.example", True), ("a.b.pool.example", False),
     ("pool.example", False), ("x.y.example", False)],
)  # fmt: skip
def test_exchangers_of_a_policy(host: str, named: bool) -> None:
    assert parse_policy(ENFORCE).names(host) == named


# -- fetched -----------------------------------------------------------------------------------------------------------


class PolicySite:
    """https://mta-sts.y.example on 127.0.0.1, in a thread. `status`, `headers` and `body` may be changed."""

    def __init__(self, context: ssl.SSLContext) -> None:
        site = self
        self.status = 200
        self.headers = {"Content-Type": "text/plain; charset=utf-8"}
        self.body = ENFORCE
        self.paths: list[tuple[str, str]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.paths.append((self.headers["Host"], self.path))
                self.send_response(site.status)
                for name, value in site.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(site.body.encode())

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:  # who does not trust us hangs up
                pass

        self.port = free_port()
        self.server = Server(("127.0.0.1", self.port), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5.0)


@pytest.fixture
def names() -> Iterator[DnsServer]:
    with DnsServer(
        {
            "y.example": ["MX 10 mx.y.example."],
            "mx.y.example": ["A 127.0.0.2"],
            "mta-sts.y.example": ["A 127.0.0.1"],
            "_mta-sts.y.example": ['TXT "v=STSv1; id=1;"'],
        }
    ) as server:
        server.ttl_s = 1
        yield server


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[PolicySite]:
    with PolicySite(server_context(tmp_path, authority.issue("mta-sts.y.example"))) as site:
        yield site


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


Ask = Callable[..., MtaSts]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sts(names: DnsServer, site: PolicySite, trust: Trust, clock: Clock) -> MtaSts:
    return MtaSts(Dns([names.address]), lambda: trust.outbound, site.port, clock)


def test_fetched_once_and_kept(sts: MtaSts, site: PolicySite) -> None:
    for _ in range(3):
        assert sts.policy("y.example") == parse_policy(ENFORCE)
    assert site.paths == [(f"mta-sts.y.example:{site.port}", "/.well-known/mta-sts.txt")]


def test_not_asked_for_without_a_record(trust: Trust, site: PolicySite, names: DnsServer) -> None:
    for texts in ([], ['TXT "v=spf1 -all"'], ['TXT "v=STSv1; id=1"', 'TXT "v=STSv1; id=2"'], ['TXT "v=STSv1; id=!"']):
        names.records["_mta-sts.y.example"] = texts
        sts = MtaSts(Dns([names.address]), lambda: trust.outbound, site.port)
        assert sts.policy("y.example") is None
    assert site.paths == []


REFUSED: dict[str, dict[str, Any]] = {
    "not found": {"status": 404},
    "a redirect": {"status": 302, "headers": {"Location": "https://mta-sts.y.example/", "Content-Type": "text/plain"}},
    "a page": {"headers": {"Content-Type": "text/html"}},
    "too large": {"body": ENFORCE + "x: y\r\n" * 20_000},
    "no policy": {"body": "hello"},
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_is_not_taken_for_a_policy(sts: MtaSts, site: PolicySite, clock: Clock, refused: str) -> None:
    for name, value in REFUSED[refused].items():
        setattr(site, name, value)
    for _ in range(2):
        assert sts.policy("y.example") is None
    assert len(site.paths) == 1, "not asked again at once"
    clock.now += 301.0
    sts.policy("y.example")
    assert len(site.paths) == 2


def test_a_stranger_s_policy_is_none(names: DnsServer, tmp_path: Path, trust: Trust, authority: Authority) -> None:
    for pair in (Authority("Other").issue("mta-sts.y.example"), authority.issue("y.example")):
        with PolicySite(server_context(tmp_path, pair)) as site:
            assert MtaSts(Dns([names.address]), lambda: trust.outbound, site.port).policy("y.example") is None
            assert site.paths == []


def test_it_holds_while_nobody_answers_until_its_end(
    sts: MtaSts, site: PolicySite, names: DnsServer, clock: Clock
) -> None:
    assert sts.policy("y.example")
    site.status = 500
    names.records["_mta-sts.y.example"] = ['TXT "v=STSv1; id=2"']
    gevent.sleep(1.05)  # the life of the record
    clock.now += 1000.0
    assert sts.policy("y.example"), "the new one cannot be had"
    assert len(site.paths) == 2
    names.records["_mta-sts.y.example"] = []
    clock.now += 2599.0
    assert sts.policy("y.example"), "nor is there a record"
    clock.now += 2.0
    gevent.sleep(1.05)
    assert sts.policy("y.example") is None


def test_another_id_is_another_policy(sts: MtaSts, site: PolicySite, names: DnsServer) -> None:
    assert sts.policy("y.example")
    site.body = ENFORCE.replace("enforce", "testing")
    names.records["_mta-sts.y.example"] = ['TXT "v=STSv1; id=2"']
    gevent.sleep(1.05)
    policy = sts.policy("y.example")
    assert policy
    assert policy.mode == "testing"


def test_a_hundred_at_once_fetch_it_once(sts: MtaSts, site: PolicySite) -> None:
    asking = [gevent.spawn(sts.policy, "y.example") for _ in range(100)]
    gevent.joinall(asking, 10.0)
    assert all(asked.value for asked in asking)
    assert len(site.paths) == 1


def test_a_site_that_is_silent_costs_its_time_and_no_more(
    names: DnsServer, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtasts_module, "FETCH_S", 0.3)

    def silence(talk: Talk) -> None:
        while talk.stream.recv(65_536):
            pass

    with ScriptedHop(silence) as silent:
        sts = MtaSts(Dns([names.address]), lambda: trust.outbound, silent.port)
        with gevent.Timeout(3.0):
            assert sts.policy("y.example") is None


def test_relays_share_what_one_has_fetched(names: DnsServer, site: PolicySite, trust: Trust, tmp_path: Path) -> None:
    store = Store("valkey", tmp_path).start()
    policies = Policies(StoreOptions(url=f"unix://{store.socket}"))
    policies.start()

    def started() -> MtaSts:
        return MtaSts(Dns([names.address]), lambda: trust.outbound, site.port, fleet=policies)

    assert started().policy("y.example") == parse_policy(ENFORCE)
    assert started().policy("y.example") == parse_policy(ENFORCE)
    assert len(site.paths) == 1
    names.records["_mta-sts.y.example"] = []
    assert started().policy("y.example"), "whoever hides the record does not turn it off"
    names.records["_mta-sts.y.example"] = ['TXT "v=STSv1; id=2"']
    site.body = ENFORCE.replace("enforce", "none")
    policy = started().policy("y.example")
    assert policy
    assert policy.mode == "none"
    assert len(site.paths) == 2
    found = policies.load("y.example")
    assert found
    assert 3500 < found[1] <= 3600
    policies.keep("y.example", "no JSON", 60.0)
    assert started().policy("y.example"), "what cannot be read is fetched"
    store.end()
    assert started().policy("y.example"), "so is what cannot be asked for"
    policies.close()


def test_the_number_that_is_kept_is_bounded(sts: MtaSts, names: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtasts_module, "KEPT_MAX", 10)
    for number in range(25):
        names.records[f"_mta-sts.d{number}.example"] = ['TXT "v=STSv1; id=1"']
        assert sts.policy(f"d{number}.example") is None
    assert len(sts._kept) <= 10


# -- what it does to mail ----------------------------------------------------------------------------------------------


@pytest.fixture
def send(names: DnsServer, trust: Trust, sts: MtaSts) -> Iterator[Callable[[int], Try]]:
    noted = Noted()
    made = list[MxTransport]()

    def send(port: int, **more: Any) -> Try:
        dns = Dns([names.address])
        options = SmtpOptions("smtp", "me.example", 4, 5.0, 5.0, trust=trust)
        security = MxSecurity("may", dns, sts=sts, port=port)
        transport = MxTransport(dns, security, options, Ourselves(), noted, port=port, dice=random.Random(1).random)
        made.append(transport)
        deliver(transport, one := Try(**more))
        return one

    yield send
    for each in made:
        each.close()
    assert noted.faults == []


def test_enforce_wants_a_certificate_of_the_exchanger(
    send: Callable[..., Try], tmp_path: Path, authority: Authority
) -> None:
    for name, kind in (("mx.y.example", "delivered"), ("other.example", "deferred")):
        context = server_context(tmp_path, authority.issue(name))
        with TlsHop(context, target=("127.0.0.2", free_port())) as hop:
            one = send(hop.port, require_tls=True)
            assert one.kinds == [kind], one.only.text
    assert "its certificate is not for mx.y.example" in one.only.text


def test_enforce_wants_an_exchanger_of_the_policy(send: Callable[..., Try], names: DnsServer) -> None:
    names.records["y.example"] = ["MX 10 evil.example."]
    names.records["evil.example"] = ["A 127.0.0.2"]
    with ScriptedHop(target=("127.0.0.2", free_port())) as hop:
        one = send(hop.port)
        assert str(one.only) == (
            "451 4.7.0 evil.example takes mail for y.example, says the DNS, and its MTA-STS policy does not"
        )
        assert hop.talks == []


def test_testing_and_none_change_nothing(send: Callable[..., Try], site: PolicySite) -> None:
    site.body = ENFORCE.replace("enforce", "testing")
    with ScriptedHop(target=("127.0.0.2", free_port())) as hop:
        assert send(hop.port).kinds == ["delivered"]
