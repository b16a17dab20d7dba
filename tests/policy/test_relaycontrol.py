"""Never an open relay: the table of DECISIONS W2, as paths on the wire."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from mta_front.policy.relaycontrol import DomainSet, Networks, RelayControl
from mta_front.smtp import grammar
from mta_front.smtp.address import Address
from mta_front.smtp.errors import BadSyntax

OURS = RelayControl(["ours.example", "*.below.example", "bücher.example"], [])


def recipient(path: str) -> Address:
    local, domain, _ = grammar.rcpt_path(b"TO:" + path.encode())
    return Address(local, domain)


@pytest.mark.parametrize(
    "path",
    [
        "<user@ours.example>",
        "<user@OURS.Example>",
        "<user@a.below.example>",
        "<user@a.b.BELOW.example>",
        "<user@xn--bcher-kva.example>",
        "<user@bücher.example>",
        "<user@BÜCHER.example>",
        "<postmaster>",
        "<PostMaster>",
        "<postmaster@ours.example>",
        '<"quoted user"@ours.example>',
        "<user+tag@ours.example>",
    ],
)
def test_ours(path: str) -> None:
    assert OURS.allows(recipient(path), "192.0.2.1")


@pytest.mark.parametrize(
    "path",
    [
        "<user@other.example>",
        "<user%other.example@ours.example>",
        '<"user@other.example"@ours.example>',
        "<other.example!user@ours.example>",
        "<@ours.example:user@other.example>",
        "<@ours.example,@ours.example:user@other.example>",
        "<user@[127.0.0.1]>",
        "<user@[IPv6:::1]>",
        "<user@below.example>",
        "<user@xbelow.example>",
        "<user@notours.example>",
        "<user@ours.example.other.example>",
        "<user@ours.exampl>",
        "<user@оurs.example>",  # Cyrillic o
        "<user@xn--urs-tfd.example>",
        "<postmaster@other.example>",
    ],
)
def test_not_ours(path: str) -> None:
    assert not OURS.allows(recipient(path), "192.0.2.1")


@pytest.mark.parametrize(
    "path", ["<user@>", "<user@.>", "<user@ours.example.>", "<@ours.example>", "<user@ours .example>"]
)
def test_no_path_at_all(path: str) -> None:
    with pytest.raises(BadSyntax):
        recipient(path)


def test_no_domains_means_none() -> None:
    assert not RelayControl([], []).allows(recipient("<user@ours.example>"), "127.0.0.1")


def test_a_star_takes_every_name_but_no_literal_and_no_routing() -> None:
    everything = RelayControl(["*"], [])
    assert everything.allows(recipient("<user@any.example>"), "192.0.2.1")
    assert not everything.allows(recipient("<user@[192.0.2.9]>"), "192.0.2.1")
    assert not everything.allows(recipient("<user%x.example@any.example>"), "192.0.2.1")


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fd00::1", True),
        ("11.0.0.1", False),
        ("fe80::1%eth0", False),
        ("", False),
    ],
)
def test_trusted_networks_may_send_anywhere(client: str, allowed: bool) -> None:
    control = RelayControl([], [ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
    assert control.allows(recipient("<user@other.example>"), client) is allowed


def test_no_address_is_in_no_network() -> None:
    assert "" not in Networks([ip_network("0.0.0.0/0"), ip_network("::/0")])


def test_names_that_idna_does_not_allow_match_only_themselves() -> None:
    strange = "a" * 70 + "ü.example"
    assert strange in DomainSet([strange])
    assert strange not in DomainSet(["example"])
