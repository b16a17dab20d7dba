"""Next hops that share the load or stand by; and how a connection to one begins."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mta_front.proxyproto import Header, parse
from mta_front.relay.smarthosts import in_order
from mta_front.relay.transports.opener import SmtpOptions, Target
from mta_front.relay.transports.smtp import SmtpTransport
from mta_front.settings.values import parse_bind
from tests.relay.attempts import Noted, Try, deliver
from tests.relay.scripted import ScriptedHop, Talk, polite


def test_without_weights_in_the_order_of_their_names() -> None:
    assert in_order([0, 0, 0], random.random) == [0, 1, 2]


def test_load_is_shared_by_weight_and_who_has_none_stands_by() -> None:
    dice = random.Random(1).random
    orders = [in_order([0, 3, 1, 0], dice) for _ in range(4000)]
    assert {tuple(order[2:]) for order in orders} == {(0, 3)}
    first = Counter(order[0] for order in orders)
    assert first.keys() == {1, 2}
    assert 2850 < first[1] < 3150


def test_each_weighted_one_is_the_others_fail_over() -> None:
    dice = random.Random(2).random
    assert {tuple(in_order([1, 1, 1], dice)) for _ in range(200)} == {
        (0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)
    }  # fmt: skip


@pytest.fixture
def make() -> Iterator[Callable[..., SmtpTransport]]:
    noted, made = Noted(), list[SmtpTransport]()

    def transport(*hops: str, weights: tuple[int, ...] = (), **more: Any) -> SmtpTransport:
        options = SmtpOptions("smtp", "me.example", 4, 5.0, 5.0, **more)
        targets = [Target(parse_bind(hop)) for hop in hops]
        made.append(SmtpTransport(targets, options, noted, weights, random.Random(3).random))
        return made[-1]

    yield transport
    for each in made:
        each.close()
    assert noted.faults == []


def test_a_hop_that_is_down_leaves_its_share_to_the_others(make: Callable[..., SmtpTransport]) -> None:
    with ScriptedHop() as one, ScriptedHop() as two, ScriptedHop() as spare:
        transport = make(one.address, two.address, spare.address, weights=(1, 1, 0))
        for _ in range(20):
            deliver(transport, Try())
        assert min(len(one.bodies), len(two.bodies)) > 3
        assert len(one.bodies + two.bodies) == 20
        one.stop()
        deliver(transport, *(tries := [Try() for _ in range(20)]))
        assert {each.only.kind for each in tries} == {"delivered"}
        assert spare.bodies == []
        two.stop()
        deliver(transport, *(tries := [Try() for _ in range(5)]))
        assert {each.only.kind for each in tries} == {"delivered"}
        assert len(spare.bodies) == 5


def test_it_comes_from_the_source_address(make: Callable[..., SmtpTransport]) -> None:
    peers: list[str] = []

    def script(talk: Talk) -> None:
        peers.append(talk.stream.getpeername()[0])
        polite(talk)

    with ScriptedHop(script) as hop:
        deliver(make(hop.address, source_address="127.0.0.9"), one := Try())
        assert one.kinds == ["delivered"]
        assert peers == ["127.0.0.9"]
        deliver(make(hop.address, source_address="::1"), one := Try())
        assert one.only.text == f"connect to {hop.address}: no address that ::1 could reach"
        deliver(make(hop.address, source_address="192.0.2.1"), one := Try())
        assert one.only.text == f"connect to {hop.address}: Cannot assign requested address"


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("unix", [False, True])
def test_a_proxy_header_names_the_ends_of_the_connection(
    make: Callable[..., SmtpTransport], tmp_path: Path, version: str, unix: bool
) -> None:
    headers: list[Header] = []
    ends: list[tuple[str, int]] = []

    def script(talk: Talk) -> None:
        found = None
        data = b""
        while not isinstance(found, Header):
            data += talk.stream.recv(1)
            found = parse(data)
        headers.append(found)
        ends.append(talk.stream.getpeername()[:2])
        polite(talk)

    place = {"family": socket.AF_UNIX, "target": str(tmp_path / "s")} if unix else {}
    with ScriptedHop(script, **place) as hop:  # type: ignore[arg-type]
        deliver(make(hop.address, send_proxy=version), one := Try())
        assert one.kinds == ["delivered"]
    (header,) = headers
    assert header.version == int(version[1])
    if unix:
        assert header.endpoints is None
        assert header.local == (version == "v2")
    else:
        assert header.endpoints
        assert (header.endpoints.source_address, header.endpoints.source_port) == ends[0]
        assert f"{header.endpoints.destination_address}:{header.endpoints.destination_port}" == hop.address
