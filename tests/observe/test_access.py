"""Who is let in at the admin port: the token, and the name that we are called by."""

from __future__ import annotations

import pytest

from mta_front.observe.access import Access

TOKEN = "Kanarienvogel-4711"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:9580", "192.0.2.1:80", "[::1]:9580", "[2001:db8::1]", "localhost", "LocalHost:9580"),
        *("mx.example.net", "MX.example.net:9580", "mx.example.net.", "mx.example.net.:80"),
    ],
)
def test_our_names(host: str) -> None:
    assert Access(TOKEN, ["mx.Example.net"]).host_known({"HTTP_HOST": host})


@pytest.mark.parametrize(
    "host",
    [
        *("", ":9580", "evil.example", "evil.example:9580", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("mx.example.net@evil.example", "[::1].evil.example", "evil.example:[::1]", "2130706433", "0x7f.1"),
    ],
)
def test_other_names(host: str) -> None:
    """A page whose name leads here (DNS rebinding) calls us by that name, which its browser does not let it change."""
    access = Access(TOKEN, ["mx.example.net"])
    assert not access.host_known({"HTTP_HOST": host})
    assert not access.host_known({})


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer  {TOKEN} "])
def test_the_token(header: str) -> None:
    assert Access(TOKEN).token_shown({"HTTP_AUTHORIZATION": header})


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        "Bearer Kanarienv\xf6gel",
        "Bearer \udce9",
    ],
)
def test_not_the_token(header: str) -> None:
    assert not Access(TOKEN).token_shown({"HTTP_AUTHORIZATION": header})
    assert not Access(TOKEN).token_shown({})


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer x"])
def test_without_a_token_nobody_has_it(header: str) -> None:
    access = Access()
    assert not access.open
    assert not access.token_shown({"HTTP_AUTHORIZATION": header})
    assert not access.token_shown({})
