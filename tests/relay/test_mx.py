"""Mail exchangers: found by a real name server on loopback, tried in the right order, with the TLS that they owe us."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import gevent
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mta_front.relay import dns as dns_module
from mta_front.relay.dns import Dns
from mta_front.relay.mxsecurity import MxSecurity
from mta_front.relay.ourselves import Ourselves
from mta_front.relay.tlspolicy import Mode
from mta_front.relay.transports.mx import MxTransport
from mta_front.relay.transports.opener import SmtpOptions, Trust
from mta_front.settings.values import Bind
from tests.dnsserver import DnsServer
from tests.ports import free_port
from tests.relay.attempts import Noted, Try, deliver
from tests.relay.hub import eventually
from tests.relay.scripted import ScriptedHop, Talk, polite
from tests.relay.tlshops import TlsHop, server_context
from tests.tls.authority import Authority, Pair


@pytest.fixture
def names() -> Iterator[DnsServer]:
    with DnsServer() as server:
        yield server


class Net:
    """Exchangers at 127.0.0.2, .3, … on one port, and a transport that finds them by `names`."""

    def __init__(self, names: DnsServer) -> None:
        self.names = names
        self.port = free_port()
        self.noted = Noted()
        self.stack = contextlib.ExitStack()

    def hop(self, last: int, script: Callable[[Talk], None] = polite) -> ScriptedHop:
        return self.stack.enter_context(ScriptedHop(script, target=(f"127.0.0.{last}", self.port)))

    def tls_hop(self, last: int, tmp_path: Path, pair: Pair, **more: Any) -> TlsHop:
        target = (f"127.0.0.{last}", self.port)
        return self.stack.enter_context(TlsHop(server_context(tmp_path, pair), target=target, **more))

    def transport(
        self,
        mode: Mode = "may",
        *,
        dane: bool = False,
        ourselves: Ourselves | None = None,
        trust: Trust | None = None,
        families: Any = "any",
        seed: int = 1,
        **more: Any,
    ) -> MxTransport:
        dns = Dns([self.names.address])
        options = SmtpOptions("smtp", "me.example", 4, 5.0, 5.0, trust=trust or Trust(), **more)
        security = MxSecurity(mode, dns, dane=dane, port=self.port)
        return MxTransport(
            dns, security, options, ourselves or Ourselves(["me.example"]), self.noted,
            port=self.port, families=families, dice=random.Random(seed).random,
        )  # fmt: skip


@pytest.fixture
def net(names: DnsServer) -> Iterator[Net]:
    net = Net(names)
    with net.stack:
        yield net
    assert net.noted.faults == []


def sent(transport: MxTransport, recipient: str = "b@y.example", **more: Any) -> Try:
    deliver(transport, one := Try([recipient], **more))
    return one


# -- which hosts, in which order ---------------------------------------------------------------------------------------


def test_the_most_preferred_exchanger_gets_it(net: Net) -> None:
    net.names.records = {
        "y.example": ["MX 20 two.y.example.", "MX 10 one.y.example."],
        "one.y.example": ["A 127.0.0.2"],
        "two.y.example": ["A 127.0.0.3"],
    }
    one, two = net.hop(2), net.hop(3)
    transport = net.transport()
    for _ in range(3):
        message = sent(transport)
        assert message.kinds == ["delivered"]
        assert message.next_hop == f"one.y.example[127.0.0.2]:{net.port}"
    assert (len(one.bodies), len(two.bodies)) == (3, 0)
    assert len(one.talks) == 1, "the connection is kept"
    assert net.names.asked["MX y.example"] == 1, "so is the answer"


def test_the_next_one_where_it_is_down_or_refuses_the_session(net: Net) -> None:
    net.names.records = {
        "y.example": ["MX 10 one.y.example.", "MX 20 two.y.example.", "MX 30 three.y.example."],
        "one.y.example": ["A 127.0.0.2"],
        "two.y.example": ["A 127.0.0.3"],
        "three.y.example": ["A 127.0.0.4"],
    }
    net.hop(3, lambda talk: talk.say(b"554 not here\r\n"))
    three = net.hop(4)
    transport = net.transport()
    assert sent(transport).kinds == ["delivered"]
    assert len(three.bodies) == 1
    three.stop()
    assert sent(transport).only.kind == "deferred"


def test_equal_ones_share_the_load(net: Net) -> None:
    net.names.records = {"y.example": ["MX 10 one.y.example.", "MX 10 two.y.example."]}
    net.names.records |= {"one.y.example": ["A 127.0.0.2"], "two.y.example": ["A 127.0.0.3"]}
    hops = [net.hop(2), net.hop(3)]
    transport = net.transport()
    for _ in range(30):
        sent(transport)
    assert min(len(hop.bodies) for hop in hops) > 6


def test_an_exchanger_with_several_addresses(net: Net) -> None:
    net.names.records = {"y.example": ["MX 10 one.y.example."], "one.y.example": ["A 127.0.0.2", "A 127.0.0.3"]}
    net.hop(3)
    transport = net.transport()
    for _ in range(5):
        assert sent(transport).kinds == ["delivered"]


@pytest.mark.parametrize(("families", "delivered"), [("any", "delivered"), ("ipv6", "delivered"), ("ipv4", "deferred")])
def test_both_families(net: Net, families: str, delivered: str) -> None:
    net.names.records = {"y.example": ["MX 10 one.y.example."], "one.y.example": ["A 127.0.0.2", "AAAA ::1"]}
    with ScriptedHop(family=10, target=("::1", net.port)):
        assert sent(net.transport(families=families)).kinds == [delivered]


def test_without_mx_the_domain_itself(net: Net) -> None:
    net.names.records = {"y.example": ["A 127.0.0.2"]}
    net.hop(2)
    assert sent(net.transport()).kinds == ["delivered"]


def test_address_literals_and_names_in_any_script(net: Net) -> None:
    net.names.records = {"xn--mnchen-3ya.example": ["MX 1 mx.y.example."], "mx.y.example": ["A 127.0.0.3"]}
    two, three = net.hop(2), net.hop(3, partial(polite, offer=b"250-hop\r\n250 SMTPUTF8\r\n"))
    transport = net.transport()
    assert sent(transport, "b@[127.0.0.2]").kinds == ["delivered"]
    assert sent(transport, "b@München.example.").kinds == ["delivered"]
    assert (len(two.bodies), len(three.bodies)) == (1, 1)


FATES: dict[str, tuple[dict[str, list[str]], str]] = {
    "null MX": ({"y.example": ["MX 0 .", "A 127.0.0.2"]}, "failed 556 5.1.10 y.example takes no mail (null MX)"),
    "no such domain": ({}, "failed 550 5.1.2 There is no domain y.example"),
    "a domain with nothing": (
        {"y.example": ["TXT x"]}, "failed 550 5.4.4 The exchangers of y.example have no address"
    ),
    "an exchanger that does not exist": (
        {"y.example": ["MX 10 gone.example."]}, "failed 550 5.4.4 The exchangers of y.example have no address"
    ),
    "nobody can say": ({"y.example": []}, "deferred 451 4.4.3 The DNS does not say who takes mail for y.example"),
    "nobody can say where": (
        {"y.example": ["MX 10 broken.example."]},
        "deferred 451 4.4.3 The DNS has no address for the exchangers of y.example now",
    ),
    "we are the best": (
        {"y.example": ["MX 10 ME.example.", "MX 10 one.y.example.", "MX 20 one.y.example."],
         "one.y.example": ["A 127.0.0.2"]},
        "failed 554 5.4.6 Mail for y.example loops back to us: we are its best exchanger",
    ),
    "we are the best, under another name": (
        {"y.example": ["MX 10 other.example."], "other.example": ["A 127.0.0.9"]},
        "failed 554 5.4.6 Mail for y.example loops back to us: we are its best exchanger",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fate", FATES)
def test_mail_that_goes_nowhere(net: Net, fate: str) -> None:
    records, expected = FATES[fate]
    net.names.records = dict(records)
    net.names.failing = {"broken.example"} | ({"y.example"} if fate == "nobody can say" else set())
    net.hop(2)
    ourselves = Ourselves(["me.example"], [Bind("tcp", "127.0.0.9", net.port)])
    one = sent(net.transport(ourselves=ourselves))
    assert f"{one.only.kind} {one.only}" == expected


def test_only_those_that_are_preferred_to_us(net: Net) -> None:
    net.names.records = {
        "y.example": ["MX 10 one.y.example.", "MX 20 me.example.", "MX 30 three.y.example."],
        "one.y.example": ["A 127.0.0.2"],
        "three.y.example": ["A 127.0.0.4"],
    }
    three = net.hop(4)
    assert sent(net.transport()).only.kind == "deferred"
    net.hop(2)
    assert sent(net.transport()).kinds == ["delivered"]
    assert three.talks == []


def test_listeners_on_all_addresses_are_ours_on_this_host_only() -> None:
    ourselves = Ourselves([], [Bind("tcp", "0.0.0.0", 25)])
    assert ourselves.serves("127.0.0.7", 25)
    assert not ourselves.serves("127.0.0.7", 26)
    assert not ourselves.serves("192.0.2.1", 25)
    assert not ourselves.serves("::1", 25)


def test_domains_do_not_wait_for_each_other(net: Net) -> None:
    net.names.records = {"y.example": ["A 127.0.0.2"], "z.example": ["A 127.0.0.3"]}
    net.hop(2, lambda talk: time.sleep(0.5))
    net.hop(3)
    transport = net.transport(max_messages=10)
    slow = Try()
    transport.deliver(slow.attempt)
    assert sent(transport, "b@z.example").kinds == ["delivered"]
    assert slow.reports == 0
    eventually(lambda: slow.reports == 1, 5.0)


def test_hosts_that_nobody_needs_are_forgotten(net: Net) -> None:
    net.names.records = {"y.example": ["A 127.0.0.2"]}
    net.hop(2)
    transport = net.transport()
    sent(transport)
    now = time.monotonic()
    transport.look(now + 1e6)
    assert len(transport._hops) == 1, "its connection is open"
    transport.close()
    eventually(lambda: next(iter(transport._hops.values())).unused)
    transport.look(now + 1e6)
    assert len(transport._hops) == 0


# -- the questions -----------------------------------------------------------------------------------------------------


def test_a_large_answer_comes_by_tcp(net: Net) -> None:
    net.names.records = {"y.example": ["A 127.0.0.2"]}
    net.names.truncating = True
    assert Dns([net.names.address]).ask("y.example", "A").status == "found"
    assert net.names.by_tcp == 1


def test_a_silent_server_is_passed_over(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_module, "TRY_S", 0.2)
    net.names.records = {"y.example": ["A 127.0.0.2"]}
    with DnsServer() as silent:
        silent.silent = {"y.example"}
        assert Dns([silent.address, net.names.address]).ask("y.example", "A").status == "found"
        assert Dns([silent.address]).ask("y.example", "A").status == "unknown"
    assert Dns([("127.0.0.1", free_port())]).ask("y.example", "A").status == "unknown"


def test_answers_are_kept_as_long_as_they_say(net: Net) -> None:
    net.names.records = {"y.example": ["A 127.0.0.2"]}
    net.names.ttl_s = 1
    dns = Dns([net.names.address])
    for _ in range(3):
        dns.ask("Y.example.", "A")
    assert net.names.asked["A y.example"] == 1
    gevent.sleep(1.05)
    dns.ask("y.example", "A")
    assert net.names.asked["A y.example"] == 2


def test_who_asks_the_same_at_once_shares_one_question(net: Net) -> None:
    dns = Dns([net.names.address])
    asking = [gevent.spawn(dns.ask, "y.example", "MX") for _ in range(50)]
    gevent.joinall(asking, 5.0)
    assert {asked.value.status for asked in asking} == {"nowhere"}
    assert net.names.asked["MX y.example"] == 1


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "a" * 300, "ü.example"])
def test_what_is_no_name_is_nowhere(net: Net, name: str) -> None:
    assert Dns([net.names.address]).ask(name, "A").status == "nowhere"


def test_aliases_are_followed_and_only_as_secure_as_each_step(net: Net) -> None:
    net.names.records = {"y.example": ["CNAME z.example"], "z.example": ["A 127.0.0.2"]}
    for secure in ({"y.example", "z.example"}, {"y.example"}, {"z.example"}):
        net.names.secure = secure
        answer = Dns([net.names.address]).ask("y.example", "A")
        assert (answer.status, answer.canonical) == ("found", "z.example")
        assert answer.secure == (len(secure) == 2)


# -- TLS ---------------------------------------------------------------------------------------------------------------


def one_exchanger(net: Net) -> None:
    net.names.records = {"y.example": ["MX 10 mx.y.example."], "mx.y.example": ["A 127.0.0.2"]}


def test_requiretls_needs_more_than_the_word_of_the_dns(
    net: Net, tmp_path: Path, authority: Authority, trust: Trust
) -> None:
    """RFC 8689 §4.2.1: whoever forges MX records would else choose whom to trust."""
    one_exchanger(net)
    net.tls_hop(2, tmp_path, authority.issue("mx.y.example"))
    assert sent(net.transport(trust=trust)).kinds == ["delivered"]
    assert "did not prove who it is" in sent(net.transport(trust=trust), require_tls=True).only.text
    net.names.secure = {"*"}
    assert sent(net.transport(trust=trust), require_tls=True).kinds == ["delivered"]


def tlsa(port: int, pair: Pair, usage: int = 3) -> str:
    key = pair.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"TLSA {usage} 1 1 {sha256(key).hexdigest()}"


def test_dane_where_dnssec_proves_everything(net: Net, tmp_path: Path) -> None:
    pair = Authority("Nobody").issue("whatever.example")
    one_exchanger(net)
    record = f"_{net.port}._tcp.mx.y.example"
    net.names.records[record] = [tlsa(net.port, pair)]
    net.names.secure = {"*"}
    hop = net.tls_hop(2, tmp_path, pair)
    one = sent(net.transport(dane=True), require_tls=True)
    assert one.kinds == ["delivered"], one.only.text
    assert hop.secured == 1

    net.names.records[record] = ["TLSA 3 1 1 " + "00" * 32]
    one = sent(net.transport(dane=True))
    assert one.only.kind == "deferred"
    assert one.only.text.endswith("no TLSA record matches its certificate")
    assert sent(net.transport(dane=False)).kinds == ["delivered"], "nobody asked"


def test_dane_is_not_turned_off_by_who_keeps_answers_from_us(net: Net, tmp_path: Path) -> None:
    one_exchanger(net)
    record = f"_{net.port}._tcp.mx.y.example"
    net.names.secure = {"*"}
    net.names.failing = {record}
    hop = net.tls_hop(2, tmp_path, Authority().issue("mx.y.example"))
    one = sent(net.transport(dane=True))
    assert str(one.only) == "451 4.7.0 The DNS does not say what certificate mx.y.example has"
    assert hop.talks == []


def test_dane_needs_tls_where_its_records_cannot_be_used(net: Net) -> None:
    one_exchanger(net)
    net.names.records[f"_{net.port}._tcp.mx.y.example"] = ["TLSA 1 1 1 " + "00" * 32]
    net.names.secure = {"*"}
    net.hop(2)
    assert sent(net.transport(dane=True)).only.text.startswith("4.7.4 TLS is required")


@pytest.mark.parametrize("insecure", ["y.example", "mx.y.example", "_tcp"])
def test_what_dnssec_does_not_prove_is_no_dane(net: Net, insecure: str) -> None:
    one_exchanger(net)
    record = f"_{net.port}._tcp.mx.y.example"
    net.names.records[record] = ["TLSA 3 1 1 " + "00" * 32]
    net.names.secure = {"y.example", "mx.y.example", record} - {record if insecure == "_tcp" else insecure}
    net.hop(2)
    assert sent(net.transport(dane=True)).kinds == ["delivered"]


def test_dane_follows_an_alias_of_the_exchanger(net: Net, tmp_path: Path) -> None:
    pair = Authority("Nobody").issue("whatever.example")
    net.names.records = {
        "y.example": ["MX 10 mx.y.example."],
        "mx.y.example": ["CNAME real.example"],
        "real.example": ["A 127.0.0.2"],
        f"_{net.port}._tcp.real.example": [tlsa(net.port, pair)],
    }
    net.names.secure = {"*"}
    hop = net.tls_hop(2, tmp_path, pair)
    assert sent(net.transport(dane=True), require_tls=True).kinds == ["delivered"]
    assert hop.secured == 1
