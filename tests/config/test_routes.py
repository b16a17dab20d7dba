"""What may be said of a route, and what is refused, in one line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta_front.config import load
from mta_front.settings.routes import NextHop, Route, parse_dns_server, parse_next_hop, parse_sender
from mta_front.settings.values import Bind
from tests.config.test_faults import faults

HERE = "relay.routes[0]"


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("next_hops = ['h:25 weight=0']", ':2: R.next_hops[0] = "h:25 weight=0": must have a weight from 1 to 1000'),
        (
            "next_hops = ['h:25 w=3']",
            ':2: R.next_hops[0] = "h:25 w=3": must be an address, or an address with a weight: "HOST:PORT weight=3"',
        ),
        ("next_hops = ['h']", ':2: R.next_hops[0] = "h": must be "HOST:PORT", "[IPV6]:PORT" or "unix:PATH", with a'),
        ("transport = 'mx'\nnext_hops = ['h:25']", ':3: R.next_hops = ["h:25"]: has no use for mx'),
        ("transport = 'http'", ":1: R.url: must name a URL for http"),
        ("transport = 'http'\nurl = 'ftp://x'", ':3: R.url = "ftp://x": must be an URL like'),
        (
            "transport = 'http'\nurl = 'http://x'\nsource_address = '::1'",
            ':4: R.source_address = "::1": has no use for',
        ),
        (
            "transport = 'http'\nurl = 'http://x.example'\npassword = 'secret'",
            ':3: R.url = "http://x.example": must be https:// for a login',
        ),
        (
            "transport = 'mx'\ndns_servers = ['ns.example']",
            ':3: R.dns_servers[0] = "ns.example": must be the address of',
        ),
        ("NEXT\ndane = true", ":3: R.dane = true: has no use for smtp"),
        ("NEXT\nport = 26", ":3: R.port = 26: has no use for smtp"),
        ("transport = 'mx'\ntls = 'none'\ndane = true", ':4: R.dane = true: cannot be with tls = "none"'),
        ("transport = 'mx'\nusername = 'u'\npassword = 'p'", ':3: R.username = "u": has no use for mx'),
        ("NEXT\ntls = 'yes'", ':3: R.tls = "yes": must be "none", "may", "encrypt" or "verify"'),
        ("NEXT\nsecure = true\ntls = 'none'", ':3: R.secure = true: cannot be with tls = "none"'),
        ("NEXT\ntls_cert = 'a'", ':3: R.tls_cert = "a": needs tls_key beside it'),
        (
            "next_hops = ['unix:s']\ntls = 'encrypt'",
            ':2: R.next_hops[0] = "unix:s": is a Unix socket, which has no tls = "encrypt"',
        ),
        ("NEXT\nusername = 'u'", ':3: R.username = "u": needs password or password_file beside it'),
        ("NEXT\npassword = 'p'", ":3: R.password = <redacted>: needs username beside it"),
        (
            "NEXT\nusername = 'u'\npassword = 'p'\npassword_file = 'f'",
            ':5: R.password_file = "f": stands beside password; give one of them',
        ),
        (
            "NEXT\ntls = 'none'\nusername = 'u'\npassword = 'p'\nauth_methods = ['PLAIN']",
            ':3: R.tls = "none": would say the password in clear; set allow_insecure_auth = true if you mean it',
        ),
        ("NEXT\nauth_methods = ['CRAM-MD5']", ':3: R.auth_methods[0] = "CRAM-MD5": must be "SCRAM-SHA-256-PLUS", '),
        ("NEXT\nrate = '10'", ':3: R.rate = "10": must be COUNT/PERIOD as in "60/1m"'),
        ("NEXT\nsource_address = 'host'", ':3: R.source_address = "host": must be an IP address of this host'),
        ("NEXT\nsenders = ['@x.example']", ':3: R.senders[0] = "@x.example": must be "<>", an address, or a domain'),
        ("NEXT\nsenders = ['a@*.example']", ':3: R.senders[0] = "a@*.example": must have no star after its @'),
        ("NEXT\nusers = ['']", ':3: R.users[0] = "": must be the name of a user'),
        (
            "NEXT\nlisteners = ['mx']\n[[listeners]]\nname = 'in'",
            ':3: R.listeners[0] = "mx": is not the name of a listener',
        ),
        ("NEXT\nsend_proxy = 'v3'", ':3: R.send_proxy = "v3": must be "", "v1" or "v2"'),
    ],
)
def test_faults(tmp_path: Path, lines: str, fault: str) -> None:
    text = "[[relay.routes]]\n" + lines.replace("NEXT", "next_hops = ['h:25']")
    (line,) = faults(tmp_path / "f.toml", text)
    assert line.startswith("f.toml" + fault.replace("R.", f"{HERE}."))
    assert "secret" not in line


@pytest.mark.parametrize(
    "condition", ["senders = ['a@x.example']", "users = ['ann']", "listeners = ['other']", "senders = ['<>']"]
)
def test_a_route_with_conditions_takes_no_domain_whole(tmp_path: Path, condition: str) -> None:
    text = (
        "[[listeners]]\nname = 'in'\nrelay_domains = ['y.example']\n[[listeners]]\nname = 'other'\nbind = ['h:1']\n"
        f"[[relay.routes]]\nnext_hops = ['h:25']\n{condition}\n"
    )
    (line,) = faults(tmp_path / "f.toml", text)
    assert 'no route takes "y.example"' in line


def test_a_route_for_a_listener_takes_all_that_comes_in_there(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text(
        "[[listeners]]\nname = 'in'\nrelay_domains = ['y.example']\n"
        "[[relay.routes]]\nnext_hops = ['h:25']\nlisteners = ['in']\nsenders = ['*']\n"
    )
    assert load(file, {}, {}).relay.routes[0].listeners == ["in"]


def test_a_relay_alone_knows_no_listeners(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text("[[relay.routes]]\nnext_hops = ['h:25']\nlisteners = ['in']\n")
    load(file, {}, {})


def test_values() -> None:
    assert parse_next_hop("[::1]:25 weight=3") == NextHop(Bind("tcp", "::1", 25), 3)
    assert parse_next_hop("unix:/a b") == NextHop(Bind("unix", path="/a b"))
    assert [parse_sender(text) for text in ("<>", "a@x.example", "*.x.example", "*")]
    assert parse_dns_server("::1") == ("::1", 53)
    assert parse_dns_server("127.0.0.1:5353") == ("127.0.0.1", 5353)


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Route.model_validate({"password": "secret"}, strict=False))
