"""The mechanisms: the examples of their RFCs octet for octet, and everything that is not as they say."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta_front.smtp import replies, sasl
from mta_front.smtp.errors import LocalError
from mta_front.smtp.replies import AUTH_CANCELLED, AUTH_FAILED, AUTH_MALFORMED, AUTH_NOT_BASE64, Reply
from tests.smtp.sasl_talk import HOST, NONCE, after, b64, credentials, exchange, refusal

FIRST_OF_CLIENT = ("PLAIN", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL")


# -- the exchange, whatever the mechanism ------------------------------------------------------------------------------


def test_what_must_be_known_before_a_mechanism_is_offered() -> None:
    mechanisms = sasl.MECHANISMS
    assert [m for m in mechanisms if mechanisms[m].sends_secret] == ["OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN"]
    assert [m for m in mechanisms if mechanisms[m].needs_tls] == ["EXTERNAL", "SCRAM-SHA-256-PLUS"]
    assert [m for m in mechanisms if mechanisms[m].needs_channel_binding] == ["SCRAM-SHA-256-PLUS"]
    assert [m for m in mechanisms if mechanisms[m].needs_certificate] == ["EXTERNAL"]
    assert set(mechanisms) == {*FIRST_OF_CLIENT, "CRAM-MD5", "LOGIN"}


@pytest.mark.parametrize("mechanism", FIRST_OF_CLIENT)
@pytest.mark.parametrize("initial", [None, ""])
def test_without_an_initial_response_the_client_is_asked_for_it(mechanism: str, initial: str | None) -> None:
    assert exchange(mechanism).begin(initial) == sasl.Challenge(b"")
    assert replies.challenge(b"").wire == b"334 \r\n"


@pytest.mark.parametrize("mechanism", sasl.MECHANISMS)
def test_a_star_cancels(mechanism: str) -> None:
    ours = exchange(mechanism)
    assert isinstance(ours.begin(None), sasl.Challenge)
    assert ours.respond("*") == sasl.Refused(AUTH_CANCELLED)
    with pytest.raises(LocalError):
        ours.respond("*")


@pytest.mark.parametrize("mechanism", sasl.MECHANISMS)
@pytest.mark.parametrize("line", [
    "=AAA", "AAA=BBB", "AAA", "AA=A", "A===", "AAAA=", "AA==AAAA", "AB==", "AAAA ", "-_-_", "AA\nAA", "=", "==", "**",
    "é", "\udc80", "\0",
])  # fmt: skip
def test_only_base64_as_an_encoder_writes_it(mechanism: str, line: str) -> None:
    ours = exchange(mechanism)
    assert isinstance(ours.begin(None), sasl.Challenge)
    assert ours.respond(line) == sasl.Refused(AUTH_NOT_BASE64)
    if line != "=":
        assert exchange(mechanism).begin(line) == sasl.Refused(AUTH_NOT_BASE64)
    assert sasl.decoded_answer(line) == sasl.Refused(AUTH_NOT_BASE64)


def test_the_owner_of_ask_decodes_with_the_same_rules() -> None:
    assert sasl.decoded_answer("") == b""
    assert sasl.decoded_answer("AAE=") == b"\0\1"
    assert sasl.decoded_answer("*") == sasl.Refused(AUTH_CANCELLED)


@given(st.binary(max_size=200))
def test_base64_of_anything_is_read_back(data: bytes) -> None:
    assert sasl.decoded_answer(b64(data)) == data


def test_out_of_turn_is_a_bug_of_the_owner() -> None:
    ours = exchange("PLAIN")
    with pytest.raises(LocalError):
        ours.respond("")
    ours.begin(b64("\0user\0pencil"))
    with pytest.raises(LocalError):
        ours.respond("")
    with pytest.raises(LocalError):
        ours.begin(None)
    for mechanism, nonce in (("GSSAPI", NONCE), ("PLAIN", ""), ("PLAIN", "a,b"), ("PLAIN", "a b"), ("PLAIN", "é")):
        with pytest.raises(LocalError):
            exchange(mechanism, nonce=nonce)


def test_a_refused_beginning_is_the_end() -> None:
    ours = exchange("LOGIN")
    assert ours.begin("!") == sasl.Refused(AUTH_NOT_BASE64)
    with pytest.raises(LocalError):
        ours.begin(None)


def test_a_long_challenge_is_sent_whole() -> None:
    assert len(replies.challenge(b"x" * 9_000).wire) == 12_000 + len("334 \r\n")


# -- PLAIN -------------------------------------------------------------------------------------------------------------


def test_plain_as_in_its_rfc() -> None:
    shown = credentials("PLAIN", "\0tim\0tanstaaftanstaaf")
    assert (shown.method, shown.username, shown.password, shown.authzid) == ("PLAIN", "tim", "tanstaaftanstaaf", "")
    assert shown.validate_password("tanstaaftanstaaf")
    assert not shown.validate_password("tanstaaftanstaaf ")
    shown = credentials("PLAIN", None, "Ursel\0Kurt\0xipj3plmq")
    assert (shown.username, shown.password, shown.authzid) == ("Kurt", "xipj3plmq", "Ursel")


def test_plain_as_in_rfc_4954() -> None:
    outcome = exchange("PLAIN").begin("dGVzdAB0ZXN0ADEyMzQ=")
    assert isinstance(outcome, sasl.Ready)
    shown = outcome.credentials
    assert (shown.authzid, shown.username, shown.password) == ("test", "test", "1234")


@pytest.mark.parametrize("message", [
    b"", b"user", b"\0user", b"user\0pencil", b"\0user\0pencil\0", b"\0\0user\0pencil", b"\0user\0pen\0cil",
    b"\0\0pencil", b"\0user\0", b"\0\0", b"\0\xff\0pencil", b"\0user\0\xff", b"\xff\0user\0pencil",
    b"\0user\0\xed\xa0\x80", b"\0user\0\xc0\x80", b"\0" + b"u" * 321 + b"\0pencil", b"\0user\0" + b"p" * 1025,
    b"a" * 321 + b"\0user\0pencil",
])  # fmt: skip
def test_malformed_plain(message: bytes) -> None:
    assert refusal("PLAIN", message) == AUTH_MALFORMED
    assert refusal("PLAIN", None, message) == AUTH_MALFORMED


NO_NAMES = [
    "a\tb", "a\r\nb", "a\x7fb", "a\x1b[2Jb", "a\u0085b", "a\u2028b", "a\u202eb", "a\u2066b", "a\ufffdb", "\u00ad",
    "\u0627\u0031", "\ue000",
]  # fmt: skip


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_name_holds_what_nobody_sees(name: str) -> None:
    assert refusal("PLAIN", f"\0{name}\0pencil") == AUTH_FAILED
    assert refusal("PLAIN", f"{name}\0user\0pencil") == AUTH_FAILED
    assert refusal("LOGIN", name) == AUTH_FAILED
    assert refusal("CRAM-MD5", None, f"{name} {'0' * 32}") == AUTH_FAILED
    assert refusal("XOAUTH2", f"user={name}\x01auth=Bearer t\x01\x01") == AUTH_FAILED
    assert refusal("OAUTHBEARER", f"n,a={name},\x01auth=Bearer t\x01\x01") == AUTH_FAILED
    assert refusal("SCRAM-SHA-256", f"n,,n={name},r=abc") == AUTH_FAILED
    assert refusal("SCRAM-SHA-256", f"n,a={name},n=user,r=abc") == AUTH_FAILED
    assert refusal("EXTERNAL", name) == AUTH_FAILED


def test_one_user_has_one_name() -> None:
    for name in ("Ⅸ", "IX", "I\u00adX", "\uff29\uff38"):
        assert credentials("PLAIN", f"{name}\0{name}\0pencil").username == "IX"
        assert credentials("PLAIN", f"{name}\0{name}\0pencil").authzid == "IX"
        assert credentials("LOGIN", name, "pencil").username == "IX"
        assert credentials("SCRAM-SHA-256", f"n,,n={name},r=abc").username == "IX"


def test_a_password_is_as_sent_and_compared_prepared() -> None:
    shown = credentials("PLAIN", "\0user\0a\u00a0b\tc½")
    assert shown.password == "a\u00a0b\tc½"
    assert shown.validate_password("a\u00a0b\tc½")
    assert credentials("PLAIN", "\0user\0a\u00a0b").validate_password("a b")
    assert credentials("PLAIN", "\0user\0é").validate_password("e\u0301")
    assert not credentials("PLAIN", "\0user\0E\u0301").validate_password("e\u0301")


def test_the_longest_that_are_taken() -> None:
    shown = credentials("PLAIN", "a" * 320 + "\0" + "é" * 160 + "\0" + "p" * 1024)
    assert (len(shown.authzid), len(shown.username), len(shown.password)) == (320, 160, 1024)


NAMES = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
PASSWORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)


@given(authzid=st.just("") | NAMES, name=NAMES, password=PASSWORDS, wrong=PASSWORDS)
def test_plain_and_login_say_what_the_client_said(authzid: str, name: str, password: str, wrong: str) -> None:
    for shown in (
        credentials("PLAIN", f"{authzid}\0{name}\0{password}"),
        credentials("LOGIN", name, password),
        credentials("LOGIN", None, name, password),
    ):
        assert (shown.username, shown.password) == (name, password)
        assert shown.authzid == (authzid if shown.method == "PLAIN" else "")
        assert [shown.proven, shown.validate_password(password), shown.proven] == [False, True, True]
        if wrong.isascii() and wrong != password:
            assert [shown.validate_password(wrong), shown.proven] == [False, False]


# -- LOGIN -------------------------------------------------------------------------------------------------------------


def test_login_asks_twice() -> None:
    ours = exchange("LOGIN")
    assert ours.begin(None) == sasl.Challenge(b"Username:")
    assert ours.respond("dGVzdHVzZXI=") == sasl.Challenge(b"Password:")
    outcome = ours.respond("dGVzdHBhc3M=")
    assert isinstance(outcome, sasl.Ready)
    assert (outcome.credentials.username, outcome.credentials.password) == ("testuser", "testpass")


def test_login_takes_the_name_with_auth() -> None:
    assert after("LOGIN", "testuser") == sasl.Challenge(b"Password:")
    assert credentials("LOGIN", "testuser", "testpass").password == "testpass"


@pytest.mark.parametrize("answers", [[b""], [b"\xff"], [b"a\0b"], [b"u" * 321], [b"user", b""], [b"user", b"\xff"],
                                     [b"user", b"a\0b"], [b"user", b"p" * 1025]])  # fmt: skip
def test_malformed_login(answers: list[bytes]) -> None:
    assert refusal("LOGIN", *answers) == AUTH_MALFORMED
    assert refusal("LOGIN", None, *answers) == AUTH_MALFORMED


# -- CRAM-MD5 ----------------------------------------------------------------------------------------------------------


def test_cram_md5_as_in_its_rfc() -> None:
    ours = exchange("CRAM-MD5", nonce="1896.697170952", host="postoffice.reston.mci.net")
    challenge = ours.begin(None)
    assert isinstance(challenge, sasl.Challenge)
    said = replies.challenge(challenge.data).wire
    assert said == b"334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n"
    outcome = ours.respond("dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw")
    assert isinstance(outcome, sasl.Ready)
    shown = outcome.credentials
    assert (shown.method, shown.username) == ("CRAM-MD5", "tim")
    assert shown.challenge == "<1896.697170952@postoffice.reston.mci.net>"
    assert shown.challenge_response == "b913a602c7eda7a495b4e6e7334d3890"
    assert shown.validate_password("tanstaaftanstaaf")
    assert not shown.validate_password("tanstaaftanstaaF")


def test_cram_md5_speaks_first() -> None:
    assert refusal("CRAM-MD5", "tim b913a602c7eda7a495b4e6e7334d3890") == Reply(
        501, "5.7.0", "This mechanism takes no initial response"
    )
    assert exchange("CRAM-MD5").begin("=") == sasl.Refused(replies.AUTH_SERVER_FIRST)


def test_a_name_with_spaces() -> None:
    assert credentials("CRAM-MD5", None, "a b c " + "0" * 32).username == "a b c"


@pytest.mark.parametrize("answer", [b"", b" ", b"tim", b"tim ", b" " + b"0" * 32, b"tim " + b"0" * 31, b"0" * 32,
                                    b"tim " + b"0" * 33, b"tim " + b"A" * 32, b"tim " + b"0" * 32 + b"\n",
                                    b"\xff " + b"0" * 32, b"t\0m " + b"0" * 32, b"u" * 321 + b" " + b"0" * 32,
                                    b"tim " + "٠".encode() * 32])  # fmt: skip
def test_malformed_cram_md5(answer: bytes) -> None:
    assert refusal("CRAM-MD5", None, answer) == AUTH_MALFORMED


@pytest.mark.parametrize("typed", ["a\u00a0½", "a 1\u20442"])
def test_a_client_of_cram_md5_may_prepare_the_password_or_not(typed: str) -> None:
    digest = hmac.new(typed.encode(), f"<{NONCE}@{HOST}>".encode(), "md5").hexdigest()
    assert credentials("CRAM-MD5", None, f"user {digest}").validate_password("a\u00a0½")


def test_the_digest_is_of_this_challenge() -> None:
    digest = "b913a602c7eda7a495b4e6e7334d3890"
    assert not credentials("CRAM-MD5", None, f"tim {digest}").validate_password("tanstaaftanstaaf")


# -- EXTERNAL ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("authzid", ["", "boss@example.com"])
def test_external_is_who_the_certificate_says(authzid: str) -> None:
    for shown in (credentials("EXTERNAL", authzid), credentials("EXTERNAL", None, authzid)):
        assert (shown.method, shown.username, shown.authzid) == ("EXTERNAL", "client.example", authzid)


def test_external_without_a_certificate() -> None:
    for identity in (None, ""):
        assert refusal("EXTERNAL", "", certificate_identity=identity) == AUTH_FAILED
        assert refusal("EXTERNAL", "client.example", certificate_identity=identity) == AUTH_FAILED


@pytest.mark.parametrize("authzid", [b"\xff", b"a\0b", b"a" * 321])
def test_malformed_external(authzid: bytes) -> None:
    assert refusal("EXTERNAL", authzid) == AUTH_MALFORMED


def test_the_challenge_names_us() -> None:
    assert exchange("CRAM-MD5").begin(None) == sasl.Challenge(f"<{NONCE}@{HOST}>".encode())
