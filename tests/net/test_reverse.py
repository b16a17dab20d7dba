"""The client's name: asked of a real name server on loopback (dnspython speaks for it), and of odd ones."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import gevent
import pytest

from mta_front.hooks import Hooks, Session
from mta_front.net.reverse import SystemResolver, client_hostname
from tests.net.live import live
from tests.smtp_talk import Talk

Respond = Callable[[dns.message.Message], Sequence[bytes]]


@contextmanager
def name_server(respond: Respond) -> Iterator[tuple[tuple[str, int], list[str]]]:
    """Answers each query with the datagrams of `respond`; gives its address and the names that were asked for."""
    asked: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.05)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    data, peer = sock.recvfrom(4096)
                except TimeoutError:
                    continue
                query = dns.message.from_wire(data)
                asked.append(str(query.question[0].name))
                for answer in respond(query):
                    sock.sendto(answer, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname(), asked
        finally:
            ended.set()
            thread.join(5)


def named(*names: str) -> Respond:
    def respond(query: dns.message.Message) -> Sequence[bytes]:
        answer = dns.message.make_response(query)
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "PTR", *names))
        return [answer.to_wire()]

    return respond


def failing(rcode: dns.rcode.Rcode) -> Respond:
    def respond(query: dns.message.Message) -> Sequence[bytes]:
        answer = dns.message.make_response(query)
        answer.set_rcode(rcode)
        return [answer.to_wire()]

    return respond


def forged(query: dns.message.Message) -> Sequence[bytes]:
    """Garbage, an answer to another query, then the right one."""
    other = dns.message.make_query("1.2.0.192.in-addr.arpa.", "PTR")
    return [b"\xff" * 20, *named("evil.example.")(other), *named("mail.example.")(query)]


@pytest.mark.parametrize(
    ("address", "question"),
    [
        ("192.0.2.7", "7.2.0.192.in-addr.arpa."),
        ("2001:db8::1", "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa."),
    ],
)
def test_the_name_of_an_address(address: str, question: str) -> None:
    with name_server(named("mail.example.")) as (server, asked):
        resolver = SystemResolver([server])
        assert client_hostname(resolver, address, 2.0) == "mail.example"
        assert client_hostname(resolver, address, 2.0) == "mail.example"
    assert asked == [question]  # the second answer was kept


def test_an_answer_counts_only_if_it_answers() -> None:
    with name_server(forged) as (server, _):
        assert client_hostname(SystemResolver([server]), "192.0.2.7", 2.0) == "mail.example"


@pytest.mark.parametrize(
    "respond",
    [
        failing(dns.rcode.NXDOMAIN),
        failing(dns.rcode.SERVFAIL),
        lambda query: [],
        named("a\\032b.example."),
        named("a\\013\\010b.example."),
        named("[192.0.2.1]."),
        named("."),
    ],
    ids=["nxdomain", "servfail", "silence", "space", "newline", "brackets", "root"],
)
def test_who_has_no_good_name_is_called_by_the_address(respond: Respond) -> None:
    with name_server(respond) as (server, _):
        assert client_hostname(SystemResolver([server]), "192.0.2.7", 0.5) == "[192.0.2.7]"


def test_a_name_server_that_is_not_there_or_knows_nothing_is_passed_over() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()
    with name_server(failing(dns.rcode.REFUSED)) as (useless, _), name_server(named("m.example.")) as (server, _):
        assert client_hostname(SystemResolver([nobody, useless, server]), "192.0.2.7", 3.0) == "m.example"


def test_loopback_is_never_asked_about() -> None:
    with name_server(named("evil.example.")) as (server, asked):
        resolver = SystemResolver([server])
        assert "evil" not in client_hostname(resolver, "127.0.0.1", 1.0)
        assert "evil" not in client_hostname(resolver, "::1", 1.0)
    assert asked == []


class Slow:
    def reverse(self, address: str) -> list[str]:
        gevent.sleep(30)
        return ["late.example"]


class Broken:
    def reverse(self, address: str) -> list[str]:
        raise RuntimeError("out of order")


class Odd:
    """What a resolver of somebody's own may give."""

    def __init__(self, names: Any) -> None:
        self.names = names

    def reverse(self, address: str) -> Any:
        if isinstance(self.names, BaseException):
            raise self.names
        return self.names


@pytest.mark.parametrize("names", [None, [None], [b"x"], 5, [], (), SystemExit(1), [""], ["."], ["a b"], ["x" * 300]])
def test_whatever_a_resolver_gives_the_client_is_served(names: Any) -> None:
    assert client_hostname(Odd(names), "192.0.2.7", 1.0) == "[192.0.2.7]"


@pytest.mark.parametrize("names", ["m.example", ["m.example."], ("m.example",), {"m.example"}, iter(["m.example"])])
def test_names_may_come_in_any_shape(names: Any) -> None:
    assert client_hostname(Odd(names), "192.0.2.7", 1.0) == "m.example"


@pytest.mark.parametrize("resolver", [Slow(), Broken()])
def test_a_resolver_that_fails_delays_a_client_no_longer_than_its_time(resolver: Slow | Broken) -> None:
    names: list[str] = []

    class Note(Hooks):
        def on_connect(self, session: Session) -> None:
            names.append(session.client_hostname)

    began = time.monotonic()
    with live(Note(), resolver=resolver, reverse_lookup_timeout_s=0.3) as server, Talk(server.address) as client:
        assert client.greeting().lines[0].endswith("[127.0.0.1]")
    assert time.monotonic() - began < 5
    assert names == ["[127.0.0.1]"]


def test_no_lookup_where_it_is_off() -> None:
    with live(Hooks(), resolver=Broken(), reverse_lookup=False) as server, Talk(server.address) as client:
        assert client.greeting().lines[0].endswith("[127.0.0.1]")
