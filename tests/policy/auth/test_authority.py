"""Sender authority: which address which user may give."""

from __future__ import annotations

import pytest

from mta_front.policy.auth.authority import Unlisted, check_pattern, may_send_as
from mta_front.policy.auth.backend import User
from mta_front.smtp.address import Address


def address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(local, domain)


@pytest.mark.parametrize(
    ("pattern", "asked", "may"),
    [
        ("ann@example.net", "ann@example.net", True),
        ("ann@example.net", "Ann@EXAMPLE.net", True),
        ("ann@example.net", "ann@example.net.", True),
        ("ann@example.net", '"ann"@example.net', True),
        ("ann@example.net", '"an\\n"@example.net', True),
        ('"a b"@example.net', '"A b"@example.net', True),
        ("ann@example.net", "bob@example.net", False),
        ("ann@example.net", "ann@example.org", False),
        ("ann@example.net", "ann@sub.example.net", False),
        ("ann@example.net", "ann+tag@example.net", False),
        ("ann@example.net", "\u0430nn@example.net", False),  # a Cyrillic a
        ("ann@example.net", "an\u0274@example.net", False),
        ("straße@example.net", "strasse@example.net", False),
        ("i@example.net", "\u0130@example.net", False),
        ("*@example.net", "anybody@example.net", True),
        ("@example.net", "anybody@example.net", True),
        ("*@example.net", "anybody@sub.example.net", False),
        ("*@example.net", "anybody@notexample.net", False),
        ("*@example.net", '"x@example.net"@example.org', False),
        ("*@bücher.example", "ann@xn--bcher-kva.example", True),
        ("*@xn--bcher-kva.example", "ann@BÜCHER.example", True),
        ("ann@[192.0.2.1]", "ann@[192.0.2.1]", True),
        ("*", "anybody@anywhere.example", True),
    ],
)
def test_patterns(pattern: str, asked: str, may: bool) -> None:
    assert check_pattern(pattern) == pattern
    assert may_send_as(User("u", ("other@example.com", pattern)), address(asked)) is may


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "ann",
        "@",
        "*@",
        "ann@",
        "a*@example.net",
        "ann@*.example.net",
        "a b@example.net",
        "a,b@example.net",
        "<a@b>",
        "a@b@c",
    ],
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="must be an address"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    ("unlisted", "own", "other"), [("any", True, True), ("own", True, False), ("none", False, False)]
)
def test_users_without_a_list(unlisted: Unlisted, own: bool, other: bool) -> None:
    """Also users that a hook made, which have no such thing as addresses."""
    for user in (User("Ann@example.net"), "ann@example.net"):
        assert may_send_as(user, address("ann@example.net"), unlisted=unlisted) is own
        assert may_send_as(user, address("bob@example.net"), unlisted=unlisted) is other
    assert may_send_as("ann", address("ann@example.net"), unlisted=unlisted) is (unlisted == "any")


def test_a_list_is_not_widened_by_what_holds_without_one() -> None:
    assert not may_send_as(User("ann@example.net", ("a@example.net",)), address("ann@example.net"), unlisted="any")


@pytest.mark.parametrize("addresses", [(), ("ann@example.net",)])
def test_the_null_sender(addresses: tuple[str, ...]) -> None:
    user = User("ann", addresses)
    assert may_send_as(user, Address("", ""))
    assert not may_send_as(user, Address("", ""), null_sender=False)
