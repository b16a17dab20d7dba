"""Bearer tokens: XOAUTH2 and OAUTHBEARER, and what a client hears of a token that is not good."""

from __future__ import annotations

import pytest

from mta_front.smtp import sasl
from mta_front.smtp.errors import LocalError
from mta_front.smtp.replies import AUTH_CANCELLED, AUTH_FAILED, AUTH_MALFORMED, Reply
from tests.smtp.sasl_talk import b64, credentials, exchange, refusal

BEARER = "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmT==\x01\x01"
LATER = Reply(454, "4.7.0", "Try again later")


def test_xoauth2_as_google_documents_it() -> None:
    outcome = exchange("XOAUTH2").begin(
        "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="
    )
    assert isinstance(outcome, sasl.Ready)
    shown = outcome.credentials
    assert (shown.method, shown.username) == ("XOAUTH2", "someuser@example.com")
    assert shown.access_token == "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
    assert (shown.password, shown.authzid, shown.challenge_response) == ("", "", "")


def test_oauthbearer_as_in_its_rfc() -> None:
    outcome = exchange("OAUTHBEARER").begin(
        "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3AWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNS"
        "bGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
    )
    assert isinstance(outcome, sasl.Ready)
    shown = outcome.credentials
    assert (shown.method, shown.username, shown.authzid) == ("OAUTHBEARER", "user@example.com", "user@example.com")
    assert shown.access_token == "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="


def test_oauthbearer_need_not_name_anybody() -> None:
    for header in ("n,,", "y,,"):
        shown = credentials("OAUTHBEARER", f"{header}\x01auth=bEARER  t\x01\x01")
        assert (shown.username, shown.authzid, shown.access_token) == ("", "", "t")
    assert credentials("OAUTHBEARER", "n,a=a=2Cb=3Dc,\x01auth=Bearer t\x01\x01").username == "a,b=c"


@pytest.mark.parametrize("message", [
    b"", b"\x01", b"\x01\x01", b"user=u", b"user=u\x01", b"user=u\x01auth=Bearer t", b"user=u\x01auth=Bearer t\x01",
    b"user=u\x01auth=Bearer t\x01\x01\x01", b"user=u\x01\x01auth=Bearer t\x01\x01", b"auth=Bearer t\x01\x01",
    b"auth=Bearer t\x01user=u\x01\x01", b"user=\x01auth=Bearer t\x01\x01", b"user=u\x01auth=\x01\x01",
    b"user=u\x01auth=Bearer\x01\x01", b"user=u\x01auth=Bearer \x01\x01", b"user=u\x01auth=Basic dDp0\x01\x01",
    b"user=u\x01auth=Bearer a b\x01\x01", b"user=u\x01auth=Bearer a\r\nX: y\x01\x01",
    b"user=u\x01auth=Bearer \xc3\xa9\x01\x01", b"user=u\x01auth=Bearer t\x01auth=Bearer s\x01\x01",
    b"User=u\x01auth=Bearer t\x01\x01", b"user=u\x01x\x01auth=Bearer t\x01\x01",
    b"user=\xff\x01auth=Bearer t\x01\x01", b"user=u\0\x01auth=Bearer t\x01\x01",
    b"user=" + b"u" * 321 + b"\x01auth=Bearer t\x01\x01",
])  # fmt: skip
def test_malformed_xoauth2(message: bytes) -> None:
    assert refusal("XOAUTH2", message) == AUTH_MALFORMED
    assert refusal("XOAUTH2", None, message) == AUTH_MALFORMED


@pytest.mark.parametrize("message", [
    b"", b"\x01", b"n,,", b"n,,\x01", b"n,,\x01\x01", b"n,,\x01auth=Bearer t", b"n,,\x01auth=Bearer t\x01",
    b"n,,auth=Bearer t\x01\x01", b"n,,xauth=Bearer t\x01\x01", b"n,,\x01auth=Bearer t\x01\x01\x01",
    b"n,,\x01host=h\x01\x01",
    b"n,,\x01auth=Bearer t\x01auth=Bearer s\x01\x01", b"n,,\x01auth=Bearer t\x01p=1\x01p=2\x01\x01",
    b"n,,\x01=x\x01auth=Bearer t\x01\x01", b"n,,\x01a1=x\x01auth=Bearer t\x01\x01", b"x,,\x01auth=Bearer t\x01\x01",
    b"n,a=,\x01auth=Bearer t\x01\x01", b"n,a==,\x01auth=Bearer t\x01\x01", b"n,a=a=2c,\x01auth=Bearer t\x01\x01",
    b"n,\x01auth=Bearer t\x01\x01", b"user=u\x01auth=Bearer t\x01\x01", b"N,,\x01auth=Bearer t\x01\x01",
    b"n,a=\xff,\x01auth=Bearer t\x01\x01", b"n,,\x01auth=Bearer \0\x01\x01", b"n,b=c,\x01auth=Bearer t\x01\x01",
])  # fmt: skip
def test_malformed_oauthbearer(message: bytes) -> None:
    assert refusal("OAUTHBEARER", message) == AUTH_MALFORMED
    assert refusal("OAUTHBEARER", None, message) == AUTH_MALFORMED


def test_oauthbearer_binds_no_channel() -> None:
    assert refusal("OAUTHBEARER", "p=tls-exporter,,\x01auth=Bearer t\x01\x01") == AUTH_FAILED


@pytest.mark.parametrize("auth", ["", "Basic dDp0", "Bearer", "Bearer ", "Bearer a b", "Bearer a\r\nX: y"])
def test_a_client_without_a_token_is_told_and_refused(auth: str) -> None:
    ours = exchange("OAUTHBEARER")
    assert ours.begin(b64(f"n,,\x01auth={auth}\x01\x01")) == sasl.Challenge(b'{"status":"invalid_token"}')
    assert ours.respond("AQ==") == sasl.Refused(AUTH_FAILED)


def ready(mechanism: str) -> sasl.Exchange:
    ours = exchange(mechanism)
    message = {"XOAUTH2": "user=u\x01auth=Bearer t\x01\x01", "OAUTHBEARER": BEARER, "PLAIN": "\0user\0pencil"}[
        mechanism
    ]
    assert isinstance(ours.begin(b64(message)), sasl.Ready)
    return ours


def test_the_error_challenge_as_in_rfc_7628() -> None:
    ours = ready("OAUTHBEARER")
    outcome = ours.reject(AUTH_FAILED, {
        "status": "invalid_token", "scope": "example_scope",
        "openid-configuration": "https://example.com/.well-known/openid-configuration",
    })  # fmt: skip
    assert isinstance(outcome, sasl.Challenge)
    assert b64(outcome.data) == (
        "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NvcGUiOiJleGFtcGxlX3Njb3BlIiwib3BlbmlkLWNvbmZpZ3VyYXRpb24iOiJodHRwczovL2V4"
        "YW1wbGUuY29tLy53ZWxsLWtub3duL29wZW5pZC1jb25maWd1cmF0aW9uIn0="
    )
    assert ours.respond("AQ==") == sasl.Refused(AUTH_FAILED)


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("dummy", ["", "AQ==", "AAAA"])
def test_the_hooks_words_reach_the_client_of_a_bad_token(mechanism: str, dummy: str) -> None:
    ours, reply = ready(mechanism), Reply(535, "5.7.8", "Token expired")
    outcome = ours.reject(reply, {"status": "401", "schemes": "bearer", "scope": "mail"})
    assert outcome == sasl.Challenge(b'{"status":"401","schemes":"bearer","scope":"mail"}')
    assert ours.respond(dummy) == sasl.Refused(reply)
    with pytest.raises(LocalError):
        ours.respond(dummy)


def test_a_client_may_give_up_at_the_error_challenge() -> None:
    ours = ready("XOAUTH2")
    ours.reject(AUTH_FAILED, {})
    assert ours.respond("*") == sasl.Refused(AUTH_CANCELLED)


def test_who_is_told_why() -> None:
    assert ready("OAUTHBEARER").reject(AUTH_FAILED) == sasl.Challenge(b'{"status":"invalid_token"}')
    assert ready("XOAUTH2").reject(AUTH_FAILED) == sasl.Refused(AUTH_FAILED)
    assert ready("XOAUTH2").reject(AUTH_FAILED, {}) == sasl.Challenge(b"{}")
    assert ready("PLAIN").reject(AUTH_FAILED, {"status": "401"}) == sasl.Refused(AUTH_FAILED)
    for mechanism in ("OAUTHBEARER", "XOAUTH2", "PLAIN"):
        assert ready(mechanism).reject(LATER, {"status": "401"}) == sasl.Refused(LATER)


def test_an_error_challenge_that_cannot_be_sent_is_the_hooks_bug() -> None:
    with pytest.raises(TypeError):
        ready("XOAUTH2").reject(AUTH_FAILED, {"status": object()})
    with pytest.raises(ValueError):
        ready("XOAUTH2").reject(AUTH_FAILED, {"status": "x" * 9_000})
    with pytest.raises(ValueError):
        ready("XOAUTH2").reject(AUTH_FAILED, {"status": float("nan")})
