"""The grammar of paths, parameters and xtext: what is built by it is read back, what is not of it is refused."""

from __future__ import annotations

import ipaddress
import string
import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mta_front.smtp import grammar, replies
from mta_front.smtp.connection import Connection, ConnectionOptions
from mta_front.smtp.errors import BadSyntax
from mta_front.smtp.events import Answered, Event, Mail, Rcpt
from mta_front.smtp.params import mail_parameters, rcpt_parameters
from mta_front.smtp.state import Verb

ATEXT = string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~"
LET_DIG = string.ascii_letters + string.digits
CONTROLS = [bytes((octet,)) for octet in (*range(0x20), 0x7F)]
DEADLINE_S = 0.5
"""Of CPU time for one line of 2,048 octets: a thousand times what the slowest needs, a tenth of one that backtracks."""

anything = st.characters(exclude_categories=["Cs"])
non_ascii = st.characters(min_codepoint=0xA0, exclude_categories=("Cs", "Cc", "Zl", "Zp"))
letters = st.characters(min_codepoint=0xA0, categories=("L", "Mn", "Nd")).filter(
    lambda sign: unicodedata.is_normalized("NFKC", sign)
)


def texts(alphabet: st.SearchStrategy[str] | str, at_most: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=1, max_size=at_most)


def quoted(content: str) -> str:
    return '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"'


def local_parts(sign: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    atom = texts(sign, 12)
    dots = st.lists(atom, min_size=1, max_size=4).map(".".join)
    printable = st.one_of(sign, st.characters(min_codepoint=0x20, max_codepoint=0x7E))
    return st.one_of(dots, st.text(printable, max_size=15).map(quoted)).filter(lambda local: len(local.encode()) <= 64)


def domains(sign: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    label = st.tuples(sign, st.text(st.one_of(sign, st.just("-")), max_size=8), sign).map("".join)
    return st.lists(st.one_of(sign, label), min_size=1, max_size=5).map(".".join)


ascii_locals = local_parts(st.sampled_from(ATEXT))
ascii_domains = domains(st.sampled_from(LET_DIG))
utf8_locals = local_parts(st.one_of(st.sampled_from(ATEXT), non_ascii))
utf8_domains = domains(st.one_of(st.sampled_from(LET_DIG), letters))
literals = st.one_of(
    st.ip_addresses(v=4).map(lambda address: f"[{address}]"),
    st.ip_addresses(v=6).map(lambda address: f"[IPv6:{address}]"),
    st.ip_addresses(v=6).map(lambda address: f"[ipv6:{address.exploded}]"),
)
routes = st.lists(ascii_domains, max_size=3).map(
    lambda hosts: ",".join(f"@{host}" for host in hosts) + ":" * bool(hosts)
)
keyword = st.from_regex(r"[A-Z0-9][A-Z0-9-]{0,10}", fullmatch=True)
value = st.one_of(
    st.just(""), st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="="), min_size=1)
)


@given(routes, st.one_of(ascii_locals, utf8_locals), st.one_of(ascii_domains, utf8_domains, literals), st.booleans())
def test_a_path_is_read_as_it_was_built(route: str, local: str, domain: str, lenient: bool) -> None:
    path = f"<{route}{local}@{domain}>"
    assume(len(path.encode()) <= 256)
    assert grammar.mail_path(f"FROM:{path} SIZE=1".encode(), lenient) == (local, domain, b"SIZE=1")
    assert grammar.rcpt_path(f"TO:{path}".encode(), lenient) == (local, domain, b"")


@given(st.dictionaries(keyword, value, max_size=6), st.integers(1, 3))
def test_parameters_are_read_as_they_were_built(wanted: dict[str, str], spaces: int) -> None:
    words = [f"{name}={content}" if content else name for name, content in wanted.items()]
    assert grammar.parameters((" " * spaces).join(words).encode()) == wanted


@given(st.text())
def test_xtext_is_read_as_it_was_built(text: str) -> None:
    built = "".join(
        chr(octet) if 0x21 <= octet <= 0x7E and octet not in b"+=" else f"+{octet:02X}" for octet in text.encode()
    )
    if text.isprintable():
        assert grammar.xtext(built) == text
    else:
        with pytest.raises(BadSyntax):
            grammar.xtext(built)


@given(st.text(anything, min_size=1, max_size=40))
def test_embedded_unicode_is_read_as_it_was_built(text: str) -> None:
    built = "".join(sign if sign.isascii() and sign.isalnum() else f"\\x{{{ord(sign):02X}}}" for sign in text)
    if text.isprintable():
        assert rcpt_parameters({"ORCPT": f"utf-8;{built}"}).orcpt == f"utf-8;{text}"
    else:
        with pytest.raises(BadSyntax):
            rcpt_parameters({"ORCPT": f"utf-8;{built}"})


@given(st.permutations(["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH"]), st.integers(0, 10**20 - 1))
def test_the_order_of_parameters_means_nothing(order: list[str], size: int) -> None:
    args = {"SIZE": str(size), "BODY": "8bitmime", "SMTPUTF8": "", "RET": "hdrs", "ENVID": "a+2Bb", "AUTH": "<>"}
    read = mail_parameters({name: args[name] for name in order})
    assert (read.size_bytes, read.body_type, read.smtp_utf8, read.auth) == (size, "8bitmime", True, "<>")
    assert (read.dsn.ret, read.dsn.envid) == ("HDRS", "a+b")


def test_what_is_xtext_is_decoded_for_hooks_too() -> None:
    mail = parsed(Verb.MAIL, b"FROM:<a@b.example> ENVID=foo+2Bbar AUTH=e+3Dmc2@example.com SMTPUTF8 size=5", False)
    assert isinstance(mail, Mail)
    assert mail.address.args == {"ENVID": "foo+bar", "AUTH": "e=mc2@example.com", "SMTPUTF8": "", "SIZE": "5"}
    rcpt = parsed(Verb.RCPT, b"TO:<a@b.example> ORCPT=rfc822;a+2Bb@c NOTIFY=delay", False)
    assert isinstance(rcpt, Rcpt)
    assert rcpt.address.args == {"ORCPT": "rfc822;a+b@c", "NOTIFY": "delay"}


def parsed(verb: Verb, argument: bytes, lenient: bool) -> Event:
    """The event that a command is. Raises BadSyntax with the reply of the core if it is refused."""
    connection = Connection(ConnectionOptions(lenient_address_parsing=lenient))
    connection.reply(replies.banner("mx.ours.example"))
    connection.receive(b"EHLO c\r\n" + b"MAIL FROM:<> SMTPUTF8\r\n" * (verb is Verb.RCPT))
    while connection.next_event() is not None:
        connection.reply(replies.OK)
    connection.receive(verb.name.encode() + b" " + argument + b"\r\n")
    event = connection.next_event()
    assert event is not None
    if isinstance(event, Answered):
        raise BadSyntax(event.reply)
    return event


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    ("verb", "line"),
    [
        (Verb.MAIL, b'FROM:<@x.example:"a b"@b.example> SIZE=1 BODY=8BITMIME'),
        (Verb.MAIL, b"FROM:<a@[IPv6:::1]> ENVID=a+2Bb AUTH=<>"),
        (Verb.RCPT, b"TO:<a.b@c.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b"),
        (Verb.RCPT, b"TO:<postmaster>"),
    ],
)
def test_no_control_character_passes_wherever_it_stands(verb: Verb, line: bytes, lenient: bool) -> None:
    assert isinstance(parsed(verb, line, lenient), Mail | Rcpt)
    for control in CONTROLS:
        # A tab is white space that is tolerated at the end of a line.
        for position in range(len(line) + (control != b"\t")):
            with pytest.raises(BadSyntax):
                parsed(verb, line[:position] + control + line[position:], lenient)


@given(st.binary(max_size=40), st.booleans())
def test_an_address_that_is_taken_is_clean(octets: bytes, lenient: bool) -> None:
    """Whatever the bytes: what comes out of the grammar has no control character and no bracket outside quotes."""
    try:
        event = parsed(Verb.MAIL, b"FROM:<a" + octets + b"@b.example>", lenient)
    except BadSyntax:
        return
    assert isinstance(event, Mail)
    local, domain = event.address.local_part, event.address.domain
    assert not any(ord(sign) < 0x20 or 0x7F <= ord(sign) < 0xA0 for sign in local + domain)
    assert not set("<>@ ") & set(domain)
    assert local.startswith('"') or not set("<>@ ") & set(local)
    assert len(local.encode()) <= 64


@given(st.ip_addresses(v=6), st.text(string.hexdigits + ":.%", max_size=20))
def test_an_ipv6_literal_is_what_the_standard_library_says(address: ipaddress.IPv6Address, text: str) -> None:
    def taken(literal: str) -> bool:
        try:
            grammar.mail_path(f"FROM:<a@[{literal}]>".encode())
        except BadSyntax:
            return False
        return True

    try:
        valid = ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        valid = False
    assert taken(f"IPv6:{text}") == valid
    assert not taken(str(address))


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    "octets",
    [
        b"FROM:" + b" " * 2000,
        b"FROM" + b" " * 1000 + b":" + b" " * 1000,
        b"FROM:" + b" " * 900 + b"<" + b" " * 900,
        b"FROM: " + b" " * 900 + b"a@b" + b" " * 900 + b"\0",
        b"FROM:<" + b"a." * 1000,
        b'FROM:<"' + b"\\ " * 1000,
        b"FROM:<" + b"@a," * 660,
        b"FROM:<@" + b"a." * 990 + b">",
        b"FROM:<a@" + b"a-" * 1000,
        b"FROM:<a@" + b"a" * 2000 + b"-",
        b"FROM:<a@[" + b"a-" * 900,
        b"FROM:<a@b> " + b"a=+" * 600,
        b"FROM:<a@b> ENVID=" + b"+4" * 600,
    ],
    ids=range(13),
)
def test_no_line_costs_more_than_its_length(octets: bytes, lenient: bool) -> None:
    before = time.process_time()
    with pytest.raises(BadSyntax):
        parsed(Verb.MAIL, octets, lenient)
    assert time.process_time() - before < DEADLINE_S


def refused(parse: Callable[[bytes], object], octets: bytes) -> bool:
    try:
        parse(octets)
    except BadSyntax:
        return True
    return False


@given(st.integers(1, 80), st.integers(1, 70), st.sampled_from("aü"))
def test_lengths_are_octets_and_have_one_edge(local: int, label: int, sign: str) -> None:
    path = f"FROM:<{sign * local}@{'b' * label}.example>".encode()
    assert refused(grammar.mail_path, path) == (len((sign * local).encode()) > 64 or label > 63)


@given(st.integers(1, 300))
def test_a_path_has_256_octets_at_most(octets: int) -> None:
    host = ("." + "b" * 63) * 4
    path = f"<a@{host[1 : octets + 1].rstrip('.')}>"
    assert refused(grammar.mail_path, f"FROM:{path}".encode()) == (len(path) > 256)
