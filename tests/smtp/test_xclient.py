"""XCLIENT and XFORWARD: the examples of Postfix's documents, what each attribute may be, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta_front.smtp.dsnparams import xtext
from mta_front.smtp.errors import BadSyntax
from mta_front.smtp.xclient import XCLIENT_KEYWORD, XFORWARD_KEYWORD, xclient_attributes, xforward_attributes

READERS = {"XCLIENT": xclient_attributes, "XFORWARD": xforward_attributes}


def refused(verb: str, argument: str | bytes) -> None:
    """It is, with the reply that the documents have: 501."""
    with pytest.raises(BadSyntax) as error:
        READERS[verb](argument.encode() if isinstance(argument, str) else argument)
    assert (error.value.reply.code, error.value.reply.enhanced) == (501, "5.5.4")


def test_what_is_advertised() -> None:
    assert XCLIENT_KEYWORD == "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
    assert XFORWARD_KEYWORD == "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"


@pytest.mark.parametrize(
    ("verb", "argument", "attributes"),
    [
        # the examples of XCLIENT_README and XFORWARD_README
        (
            "XCLIENT",
            "NAME=spike.porcupine.org ADDR=168.100.189.2",
            {"NAME": "spike.porcupine.org", "ADDR": "168.100.189.2"},
        ),
        (
            "XFORWARD",
            "NAME=spike.porcupine.org ADDR=168.100.189.2 PROTO=ESMTP",
            {"NAME": "spike.porcupine.org", "ADDR": "168.100.189.2", "PROTO": "ESMTP"},
        ),
        ("XFORWARD", "HELO=spike.porcupine.org", {"HELO": "spike.porcupine.org"}),
        # everything at once
        (
            "XCLIENT",
            "NAME=mx.example ADDR=IPV6:::1 PORT=5 PROTO=ESMTP HELO=[::1] LOGIN=u+40e DESTADDR=192.0.2.2 DESTPORT=25",
            {
                "NAME": "mx.example",
                "ADDR": "::1",
                "PORT": "5",
                "PROTO": "ESMTP",
                "HELO": "[::1]",
                "LOGIN": "u@e",
                "DESTADDR": "192.0.2.2",
                "DESTPORT": "25",
            },
        ),
        (
            "XFORWARD",
            "NAME=mx.example ADDR=192.0.2.1 PORT=0 PROTO=HTTP/1.1 HELO=x IDENT=4WxYz01 SOURCE=local",
            {
                "NAME": "mx.example",
                "ADDR": "192.0.2.1",
                "PORT": "0",
                "PROTO": "HTTP/1.1",
                "HELO": "x",
                "IDENT": "4WxYz01",
                "SOURCE": "LOCAL",
            },
        ),
        # "although command and attribute names are shown in upper case, they are in fact case insensitive"
        ("XCLIENT", "name=a.example  AdDr=ipv6:::1 proto=smtp", {"NAME": "a.example", "ADDR": "::1", "PROTO": "SMTP"}),
        # upper case, lower case or mixed case
        (
            "XCLIENT",
            "NAME=[TEMPUNAVAIL] ADDR=[unavailable] PORT=[Unavailable] LOGIN=[UNAVAILABLE] HELO=+5BUNAVAILABLE+5D",
            dict.fromkeys(["NAME", "ADDR", "PORT", "LOGIN", "HELO"]),
        ),
        ("XFORWARD", "ADDR=[UNAVAILABLE] SOURCE=[unavailable]", {"ADDR": None, "SOURCE": None}),
    ],
)
def test_what_is_read(verb: str, argument: str, attributes: dict[str, str | None]) -> None:
    assert READERS[verb](argument.encode()) == attributes


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("IPV6:2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("Ipv6:::ffff:192.0.2.1", "192.0.2.1"),
        ("IPV6:::FFFF:c000:0201", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("IPv6+3A2001+3Adb8+3A+3A1", "2001:db8::1"),
    ],
)
@pytest.mark.parametrize(("verb", "name"), [("XCLIENT", "ADDR"), ("XCLIENT", "DESTADDR"), ("XFORWARD", "ADDR")])
def test_an_address_has_one_form(verb: str, name: str, value: str, address: str) -> None:
    assert READERS[verb](f"{name}={value}".encode()) == {name: address}


@pytest.mark.parametrize("value", ["192.0.2", "192.0.2.256", "192.0.2.01", "1.2.3.4.5", "IPV6:192.0.2.1", "IPV6:::g"])
@pytest.mark.parametrize("value_for", ["XCLIENT ADDR={}", "XCLIENT DESTADDR={}", "XFORWARD ADDR={}"])
def test_what_is_no_address(value_for: str, value: str) -> None:
    verb, _, argument = value_for.format(value).partition(" ")
    refused(verb, argument)


@pytest.mark.parametrize("value", ["local", "[192.0.2.1]", "IPV6:", "fe80::1%eth0", "::1/128", "x:y"])
def test_only_xforward_knows_addresses_that_are_none(value: str) -> None:
    """There it "may be a non-IP address" (XFORWARD_README)."""
    refused("XCLIENT", f"ADDR={value}")
    if value != "IPV6:":
        assert xforward_attributes(f"ADDR={value}".encode()) == {"ADDR": value}


@pytest.mark.parametrize("value", ["65536", "-1", "+1", "+2B1", "1_0", "00025", "", "x", "999999", "+C2+B2", "1+20"])
@pytest.mark.parametrize("value_for", ["XCLIENT PORT={}", "XCLIENT DESTPORT={}", "XFORWARD PORT={}"])
def test_what_is_no_port(value_for: str, value: str) -> None:
    verb, _, argument = value_for.format(value).partition(" ")
    refused(verb, argument)


@pytest.mark.parametrize(
    "name", ["localhost", "a_b.example", "xn--bcher-kva.example", "1.example", "7f3c2d", "a.example."]
)
def test_host_names(name: str) -> None:
    assert xclient_attributes(f"NAME={name}".encode()) == {"NAME": name}


@pytest.mark.parametrize(
    "name",
    [
        "192.0.2.1",
        "a..example",
        ".example",
        "-a.example",
        "a-.example",
        "a.7",
        f"{'a' * 64}.example",
        "a/b",
        "[a]",
        "a:1",
    ],
)
def test_what_is_no_host_name(name: str) -> None:
    """A client has no name that is an address, or that a list could take for one."""
    refused("XCLIENT", f"NAME={name}")


@pytest.mark.parametrize("verb", READERS)
@pytest.mark.parametrize(
    "argument",
    [
        "",
        "   ",
        "NAME",
        "NAME=",
        "=a",
        "NAME= a",
        "NAME =a",
        "NAME=a=b",
        "NAME=a NAME=a",
        "NAME=a name=b",
        "NAME=a,ADDR=192.0.2.1",
        "NAME=a\tADDR=192.0.2.1",
        "NAME=a\x0bADDR=192.0.2.1",
        "COLOUR=red",
        "NAME=a COLOUR=red",
        "REVERSE_NAME=a",  # Postfix knows it, and does not say so in its document
        "PROTO=\u017fmtp",
        "PROTO=+C5+BFMTP",
        "HELO=a+",
        "HELO=a+4",
        "HELO=a+4x",
        "HELO=a+4a",  # hexchar is upper case (RFC 3461 §4)
        "HELO=a+20b",
        "HELO=ü",
        "HELO=+C3+BC",
        "HELO=\u202e",
        b"HELO=\xff",
        b"HELO=+FF",
        b"\xff=a",
        *[f"HELO=a+{code:02X}b" for code in (0, 7, 9, 10, 13, 27, 127)],
        *[f"NAME=a+{code:02X}b" for code in (0, 10, 13)],
        "HELO=+C2+85",  # a control character of Latin-1
        "HELO=+E2+80+A8",  # a line separator
        "HELO=" + "a" * 256,
        "HELO=" + "+61" * 256,
        "HELO=" + "a" * 1_000_000,
    ],
)
def test_what_is_refused(verb: str, argument: str | bytes) -> None:
    refused(verb, argument)


@pytest.mark.parametrize(
    ("verb", "argument"),
    [
        ("XCLIENT", "PROTO=HTTP"),
        ("XCLIENT", "SOURCE=LOCAL"),
        ("XCLIENT", "IDENT=a"),
        ("XFORWARD", "LOGIN=a"),
        ("XFORWARD", "DESTADDR=192.0.2.1"),
        ("XFORWARD", "DESTPORT=25"),
        ("XFORWARD", "SOURCE=elsewhere"),
        ("XFORWARD", "PROTO=" + "a" * 65),
        *[("XFORWARD", f"{name}=a{sign}b") for name in ("NAME", "IDENT", "ADDR", "PROTO") for sign in '"()<>@;\\'],
        ("XCLIENT", "LOGIN=a+00b"),
        ("XCLIENT", "LOGIN=a+0D+0Ab"),
        ("XCLIENT", "LOGIN=" + "+C3+BC" * 128),
        ("XCLIENT", "LOGIN="),
    ],
)
def test_what_one_of_them_refuses(verb: str, argument: str) -> None:
    refused(verb, argument)


def test_values_of_255_octets() -> None:
    for reader in READERS.values():
        assert reader(b"HELO=" + b"a" * 255) == {"HELO": "a" * 255}
        assert reader(b"HELO=" + b"+61" * 255) == {"HELO": "a" * 255}
    name = ".".join(["a" * 63] * 4)
    assert xclient_attributes(f"NAME={name}".encode()) == {"NAME": name}


def test_a_login_is_any_name_that_auth_takes() -> None:
    argument = b"LOGIN=J+C3+BCrgen+20+F0+9F+94+91"
    assert xclient_attributes(argument) == {"LOGIN": "J\u00fcrgen \U0001f511"}
    assert xclient_attributes(b"LOGIN=[unava+C4+B1lable]") == {"LOGIN": "[unava\u0131lable]"}  # capital: "I"


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255))
def test_what_is_xtext_comes_back(helo: str) -> None:
    for reader in READERS.values():
        expected = None if helo.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]") else helo
        assert reader(f"HELO={xtext(helo)}".encode()) == {"HELO": expected}


words = st.sampled_from([*XCLIENT_KEYWORD.split(), *XFORWARD_KEYWORD.split(), "IPV6:", "[UNAVAILABLE]", "+0A", "::1"])
signs = st.sampled_from(["=", "=", "=", " ", " ", "+", "%", "1", "\n", "\xff"])


@given(
    st.sampled_from(sorted(READERS)), st.binary() | st.lists(words | signs).map(lambda w: "".join(w).encode("latin-1"))
)
def test_anything_is_read_or_refused(verb: str, argument: bytes) -> None:
    keyword = XCLIENT_KEYWORD if verb == "XCLIENT" else XFORWARD_KEYWORD
    try:
        attributes = READERS[verb](argument)
    except BadSyntax:
        refused(verb, argument)
        return
    assert attributes
    assert set(attributes) <= set(keyword.split()[1:])
    for value in attributes.values():
        assert value is None or (value.isprintable() and 1 <= len(value.encode()) <= 255)
