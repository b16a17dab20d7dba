"""SCRAM-SHA-256 and -PLUS: the example of RFC 7677, an independent client, and everything that must fail."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta_front.smtp.errors import LocalError
from mta_front.smtp.replies import AUTH_FAILED, AUTH_MALFORMED
from mta_front.smtp.saslprep import prepared_password
from mta_front.smtp.scram import DEFAULT_ITERATIONS, ScramKeys, decoy_keys
from tests.smtp.sasl_talk import CHANNEL, NONCE, SALT, ScramClient, answering, b64, credentials, refusal

KEYS = ScramKeys.of_password("pencil", SALT, 4096)
PLUS_HEADER = "p=tls-exporter,,"
METHODS = ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")


def client_of(method: str, password: str = "pencil", channel: bytes = CHANNEL) -> ScramClient:
    plus = method.endswith("-PLUS")
    return ScramClient(password, header=PLUS_HEADER if plus else "n,,", channel=channel if plus else b"")


def played(method: str, client: ScramClient, keys: ScramKeys = KEYS) -> bool:
    shown = credentials(method, client.first())
    shown.ask = client.ask
    proven = shown.scram(keys)
    assert shown.proven == proven
    return proven


# -- the whole exchange ------------------------------------------------------------------------------------------------


def test_the_example_of_rfc_7677() -> None:
    shown = credentials("SCRAM-SHA-256", "n,,n=user,r=rOprNGfwEbeRWgbNEkqO", nonce="%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    answers = [
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"",
    ]
    heard = []

    def ask(challenge: bytes) -> bytes:
        heard.append(challenge)
        return answers.pop(0)

    shown.ask = ask
    assert (shown.method, shown.username, shown.authzid) == ("SCRAM-SHA-256", "user", "")
    assert shown.scram(ScramKeys.of_password("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096))
    assert heard == [
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_each_side_proves_itself(method: str) -> None:
    client = client_of(method)
    assert played(method, client)
    assert len(client.heard) == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_password_hears_no_proof_of_ours(method: str) -> None:
    client = client_of(method, "pencils")
    assert not played(method, client)
    assert len(client.heard) == 1


def test_the_channel_is_part_of_the_proof() -> None:
    client = client_of("SCRAM-SHA-256-PLUS", channel=CHANNEL[::-1])
    assert not played("SCRAM-SHA-256-PLUS", client)
    assert not played("SCRAM-SHA-256-PLUS", client_of("SCRAM-SHA-256-PLUS", channel=b""))
    assert not played("SCRAM-SHA-256-PLUS", client_of("SCRAM-SHA-256-PLUS", channel=CHANNEL + b"\0"))


@pytest.mark.parametrize("method", METHODS)
def test_a_hook_that_has_the_password_needs_no_keys(method: str) -> None:
    for password, right in (("pencil", True), ("pencils", False)):
        shown, client = credentials(method, client_of(method).first()), client_of(method)
        shown.ask = client.ask
        assert shown.validate_password(password) is right


def test_the_exchange_is_played_once() -> None:
    client = client_of("SCRAM-SHA-256")
    shown = credentials("SCRAM-SHA-256", client.first())
    with pytest.raises(LocalError):
        shown.scram(KEYS)
    shown.ask = client.ask
    assert shown.scram(KEYS)
    with pytest.raises(LocalError):
        shown.scram(KEYS)


class CancelledError(Exception):
    """What an owner raises when the client sends "*"."""


@pytest.mark.parametrize("at", [0, 1])
def test_what_ask_raises_comes_through(at: int) -> None:
    client = client_of("SCRAM-SHA-256")
    shown = credentials("SCRAM-SHA-256", client.first())

    def ask(challenge: bytes) -> bytes:
        if len(client.heard) == at:
            raise CancelledError
        return client.ask(challenge)

    shown.ask = ask
    with pytest.raises(CancelledError):
        shown.scram(KEYS)
    assert not shown.proven


def test_the_answer_to_our_proof_is_empty() -> None:
    client = client_of("SCRAM-SHA-256")
    shown = credentials("SCRAM-SHA-256", client.first())
    shown.ask = lambda challenge: client.ask(challenge) or b"more"
    assert not shown.scram(KEYS)


NAMES = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
PASSWORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None)
@given(
    name=NAMES,
    authzid=st.none() | NAMES,
    password=PASSWORDS,
    salt=st.binary(min_size=8, max_size=40),
    channel=st.binary(min_size=1, max_size=64),
    method=st.sampled_from(METHODS),
)
def test_any_name_password_salt_and_channel(
    name: str, authzid: str | None, password: str, salt: bytes, channel: bytes, method: str
) -> None:
    flag = "p=tls-exporter" if method.endswith("-PLUS") else "y"
    asked = "" if authzid is None else "a=" + authzid.replace("=", "=3D").replace(",", "=2C")
    bound = channel if method.endswith("-PLUS") else b""
    client = ScramClient(prepared_password(password), header=f"{flag},{asked},", name=name, channel=bound)
    shown = credentials(method, client.first(), channel_binding=channel)
    shown.ask = client.ask
    assert (shown.username, shown.authzid) == (name, authzid or "")
    assert shown.scram(ScramKeys.of_password(password, salt, 4096))


# -- the client's first message ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ("n,,n=a=2Cb=3Dc,r=x", "a,b=c"),
        ("n,,n=a=3D2C,r=x", "a=2C"),
        ("y,,n=user,r=x", "user"),
        ("n,,n=user,r=x,a=ext,z=1=2", "user"),
        ("n,,n=jürgen,r=x", "jürgen"),
    ],
)
def test_first_messages(first: str, name: str) -> None:
    assert credentials("SCRAM-SHA-256", first).username == name
    assert credentials("SCRAM-SHA-256", None, first).username == name


@pytest.mark.parametrize("first", [
    "", ",", "n", "n,", "n,,", "n,,n=user", "n,,n=user,", "n,,n=user,r=", "n,,r=x,n=user", "n,,n=,r=x", "n,,user,r=x",
    "n,,n=a=b,r=x", "n,,n=a=2c,r=x", "n,,n=a=,r=x", "n,,n=user,r=a b", "n,,n=user,r=é", "n,,n=user,r=a\x7f",
    "n,,N=user,r=x", "n,,n=user,R=x", "n,,n=user,r=x,", "n,,n=user,r=x,1=a", "n,,n=user,r=x,a", "n,,n=user,r=x,a=",
    "n,,n=user,r=x,m=y",
    "n,,n=user,r=x\0", "n,,n=us\0er,r=x", "x,,n=user,r=x", "N,,n=user,r=x", "n,a=,n=user,r=x", "n,b=x,n=user,r=x",
    "n,a=a=b,n=user,r=x", "n, ,n=user,r=x", "p=,,n=user,r=x", "p,,n=user,r=x", "p=a b,,n=user,r=x", " n,,n=user,r=x",
    "n,,n=user,r=" + "x" * 513, "n,,n=" + "u" * 321 + ",r=x", "n,a=" + "u" * 321 + ",n=user,r=x",
])  # fmt: skip
def test_malformed_first_messages(first: str) -> None:
    assert refusal("SCRAM-SHA-256", first) == AUTH_MALFORMED
    assert refusal("SCRAM-SHA-256", None, first) == AUTH_MALFORMED


def test_a_first_message_is_utf8() -> None:
    assert refusal("SCRAM-SHA-256", b"n,,n=\xff,r=x") == AUTH_MALFORMED


def test_mandatory_extensions_are_refused() -> None:
    assert refusal("SCRAM-SHA-256", "n,,m=x,n=user,r=x") == AUTH_FAILED


@pytest.mark.parametrize(
    ("method", "header", "plus_offered", "taken"),
    [
        ("SCRAM-SHA-256", "n", False, True),
        ("SCRAM-SHA-256", "n", True, True),
        ("SCRAM-SHA-256", "y", False, True),
        ("SCRAM-SHA-256", "y", True, False),  # somebody took -PLUS out of our EHLO
        ("SCRAM-SHA-256", "p=tls-exporter", True, False),
        ("SCRAM-SHA-256", "p=tls-exporter", False, False),
        ("SCRAM-SHA-256-PLUS", "p=tls-exporter", True, True),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique", True, False),
        ("SCRAM-SHA-256-PLUS", "p=tls-server-end-point", True, False),
        ("SCRAM-SHA-256-PLUS", "n", True, False),
        ("SCRAM-SHA-256-PLUS", "y", True, False),
        ("SCRAM-SHA-256-PLUS", "y", False, False),
    ],
)
def test_the_flag_of_channel_binding(method: str, header: str, plus_offered: bool, taken: bool) -> None:
    first = f"{header},,n=user,r=x"
    if taken:
        assert credentials(method, first, plus_offered=plus_offered).username == "user"
    else:
        assert refusal(method, first, plus_offered=plus_offered) == AUTH_FAILED


def test_no_plus_without_a_channel() -> None:
    for channel in (None, b""):
        assert refusal("SCRAM-SHA-256-PLUS", f"{PLUS_HEADER}n=user,r=x", channel_binding=channel) == AUTH_FAILED


# -- the client's final message ----------------------------------------------------------------------------------------


def final_with(change: Callable[[str, str], str]) -> bool:
    """Whether a final message passes when its parts, (c= and r=) and (p=), are changed like this and nothing else."""
    client = client_of("SCRAM-SHA-256")
    shown = credentials("SCRAM-SHA-256", client.first())

    def ask(challenge: bytes) -> bytes:
        if client.heard:
            return b""
        without_proof, proof = client.ask(challenge).decode().rsplit(",", 1)
        return change(without_proof, proof).encode("utf-8", "surrogateescape")

    shown.ask = ask
    return shown.scram(KEYS)


def test_an_unchanged_final_message_passes() -> None:
    assert final_with(lambda without_proof, proof: f"{without_proof},{proof}")


@pytest.mark.parametrize(
    "change",
    [
        lambda w, p: "",
        lambda w, p: w,
        lambda w, p: p,
        lambda w, p: f",{p}",
        lambda w, p: f"{w}{p}",
        lambda w, p: f"{w},{p},",
        lambda w, p: f"{w},{p}\n",
        lambda w, p: f"{w},{p},{p}",
        lambda w, p: f"{w},{p[:-4]}",
        lambda w, p: f"{w},{p.rstrip('=')}",
        lambda w, p: f"{w},p=",
        lambda w, p: f"{w},p={b64(bytes(32))}",
        lambda w, p: f"{w},p={b64(bytes(31))}",
        lambda w, p: f"{w},p=\udcff",
        lambda w, p: f"{w},P{p[1:]}",
        lambda w, p: f"{w}x,{p}",
        lambda w, p: f"{w[:-1]},{p}",
        lambda w, p: f"{w.replace(NONCE, NONCE[:-1])},{p}",
        lambda w, p: f"{w.replace('c=biws', 'c=eSws')},{p}",  # "y,,": what was said first was another thing
        lambda w, p: f"{w.replace('c=biws', 'c=')},{p}",
        lambda w, p: f"{w.replace('c=biws', 'c=biws=')},{p}",
        lambda w, p: f"{w.replace('c=biws', 'm=x,c=biws')},{p}",
        lambda w, p: f"{','.join(reversed(w.split(',')))},{p}",
        lambda w, p: f"{w},m=x,{p}",
        lambda w, p: f"{w},x,{p}",
        lambda w, p: f"{w},x=,{p}",
        lambda w, p: f"{w},x=1,{p}",  # well formed, but not what was signed
    ],
)
def test_changed_final_messages(change: Callable[[str, str], str]) -> None:
    assert not final_with(change)


@pytest.mark.parametrize(
    ("extensions", "right"),
    [
        (",x=1", True),
        (",x=1,Y==2", True),
        (",x=é", True),
        (",m=1", False),
        (",x=1,m=1", False),
        (",x", False),
        (",", False),
    ],
)
def test_extensions_are_passed_over_but_for_mandatory_ones(extensions: str, right: bool) -> None:
    client = client_of("SCRAM-SHA-256")
    client.extensions = extensions
    assert played("SCRAM-SHA-256", client) is right


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120))
def test_any_final_message_is_only_wrong(final: bytes) -> None:
    shown = credentials("SCRAM-SHA-256", "n,,n=user,r=x")
    shown.ask = answering(final, b"")
    assert not shown.scram(KEYS)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_keys_as_postgresql_writes_them() -> None:
    text = (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
    keys = ScramKeys.of_password("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    assert keys.text() == text
    assert ScramKeys.parse(text).text() == text
    assert ScramKeys.parse(text).matches("pencil")
    assert not ScramKeys.parse(text).matches("pencils")


@pytest.mark.parametrize("text", [
    "", "pencil", "SCRAM-SHA-256$", KEYS.text() + "\n", " " + KEYS.text(), KEYS.text().replace("256", "1"),
    KEYS.text().replace("4096", "4095"), KEYS.text().replace("4096", "04096"), KEYS.text().replace("4096", "-4096"),
    KEYS.text().replace("4096", "1" * 5000), KEYS.text().replace("4096", "４０９６"), KEYS.text().replace("=:", ":"),
    KEYS.text().replace(b64(SALT), b64(SALT[:7])), KEYS.text().replace(b64(SALT), ""), KEYS.text()[:-4],
    KEYS.text().replace(b64(SALT), "!" + b64(SALT)), KEYS.text() + ":AAAA", KEYS.text().replace(":", "$"),
])  # fmt: skip
def test_what_is_no_text_of_keys(text: str) -> None:
    with pytest.raises(ValueError):
        ScramKeys.parse(text)


def test_weak_keys_are_not_made() -> None:
    for salt, iterations in ((SALT, 4095), (SALT[:7], 4096), (b"", 4096)):
        with pytest.raises(ValueError):
            ScramKeys.of_password("pencil", salt, iterations)
    for key in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError):
            ScramKeys(SALT, 4096, key, bytes(32))
        with pytest.raises(ValueError):
            ScramKeys(SALT, 4096, bytes(32), key)


def test_keys_are_of_the_prepared_password() -> None:
    keys = ScramKeys.of_password("I\u00adX \u2168", SALT, 4096)
    assert keys.text() == ScramKeys.of_password("IX IX", SALT, 4096).text()
    raw = ScramKeys.of_password("tab\there", SALT, 4096)
    assert raw.matches("tab\there")
    assert not raw.matches("tabhere")


def test_decoys_look_like_keys_and_fit_nothing() -> None:
    decoy = decoy_keys(b"fleet", "nobody")
    assert decoy.text() == decoy_keys(b"fleet", "nobody").text()
    assert (len(decoy.salt), decoy.iterations) == (16, DEFAULT_ITERATIONS)
    others = [decoy_keys(b"fleet", "nobody2"), decoy_keys(b"other", "nobody")]
    assert len({keys.salt for keys in (decoy, *others)}) == 3
    assert len({decoy.stored_key, decoy.server_key, decoy.salt * 2}) == 3
    assert not decoy.matches("")
    client = client_of("SCRAM-SHA-256", "nobody")
    assert not played("SCRAM-SHA-256", client, decoy_keys(b"fleet", "nobody", 4096))
    assert client.heard[0].endswith(b",i=4096")
