"""Credentials in the hands of a hook: what may not happen by mistake, and what may not be seen anywhere."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import traceback
from collections.abc import Iterator

import pytest

from mta_front.smtp import sasl
from mta_front.smtp.credentials import Credentials
from mta_front.smtp.errors import LocalError
from mta_front.smtp.oauth import parse_xoauth2
from mta_front.smtp.replies import AUTH_FAILED
from mta_front.smtp.scram import ScramKeys
from tests.smtp.sasl_talk import NONCE, SALT, ScramClient, b64, credentials, exchange


def shown_by(mechanism: str) -> Credentials:
    """What a client shows as "user" with "pencil"; with CRAM-MD5 a digest of something else."""
    client = ScramClient("pencil", header="p=tls-exporter,," if mechanism.endswith("PLUS") else "n,,", channel=b"")
    answers: dict[str, list[str | None]] = {
        "PLAIN": ["\0user\0pencil"],
        "LOGIN": ["user", "pencil"],
        "CRAM-MD5": [None, "user " + "0" * 32],
        "XOAUTH2": ["user=user\x01auth=Bearer t\x01\x01"],
        "OAUTHBEARER": ["n,a=user,\x01auth=Bearer t\x01\x01"],
        "EXTERNAL": [""],
    }
    return credentials(mechanism, *answers.get(mechanism, [client.first()]))


@pytest.mark.parametrize("mechanism", sasl.MECHANISMS)
def test_a_user_who_is_not_found_has_no_password_that_compares_equal(mechanism: str) -> None:
    shown = shown_by(mechanism)
    passwords: dict[str, str] = {}
    for field in ("password", "access_token", "challenge_response", "authzid"):
        assert getattr(shown, field) != passwords.get("nobody"), field


@pytest.mark.parametrize("mechanism", sasl.MECHANISMS)
def test_an_empty_password_is_nobodys(mechanism: str) -> None:
    shown = shown_by(mechanism)
    assert not shown.validate_password("")
    assert not shown.proven


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER", "EXTERNAL"])
def test_without_a_password_none_is_right(mechanism: str) -> None:
    shown = shown_by(mechanism)
    assert not shown.validate_password("pencil")
    assert not shown.scram(ScramKeys.of_password("pencil", SALT, 4096))
    assert not shown.proven


def test_keys_judge_plain_passwords_too() -> None:
    keys = ScramKeys.of_password("pencil", SALT, 4096)
    assert credentials("PLAIN", "\0user\0pencil").scram(keys)
    assert not credentials("LOGIN", "user", "pencils").scram(keys)
    assert not shown_by("CRAM-MD5").scram(keys)


def test_any_string_of_a_developer_can_be_compared() -> None:
    for shown in (shown_by("PLAIN"), shown_by("CRAM-MD5")):
        assert not shown.validate_password("\udc80\0é")


# -- the canary: a secret that must be found nowhere -------------------------------------------------------------------

CANARY = "cAnArY-7f3a"
DIGEST = "c0ffee" * 5 + "c0"


def secrets_held() -> Iterator[object]:
    """Each kind of object that holds one."""
    keys = ScramKeys.of_password("pencil", CANARY.encode(), 4096)
    yield keys
    yield parse_xoauth2(f"user={CANARY}\x01auth=Bearer {CANARY}\x01\x01")
    for shown in (
        credentials("PLAIN", f"{CANARY}\0user\0{CANARY}"),
        credentials("LOGIN", "user", CANARY),
        credentials("CRAM-MD5", None, f"user {DIGEST}"),
        credentials("XOAUTH2", f"user=u\x01auth=Bearer {CANARY}\x01\x01"),
        credentials("OAUTHBEARER", f"n,,\x01auth=Bearer {CANARY}\x01\x01"),
        credentials("SCRAM-SHA-256", f"n,,n=user,r={CANARY}"),
    ):
        yield shown
        yield sasl.Ready(shown)
        yield [shown]
    waiting = exchange("LOGIN")
    waiting.begin(b64(CANARY))
    yield waiting


def is_clean(text: str) -> bool:
    return not any(leak in text for leak in (CANARY, DIGEST, b64(CANARY)))


@pytest.mark.parametrize("held", list(secrets_held()), ids=lambda held: type(held).__name__)
def test_no_secret_in_any_text(held: object, caplog: pytest.LogCaptureFixture) -> None:
    assert is_clean(f"{held} {held!r} {held!s} {held:} %s %r" % (held, held))
    logging.getLogger("canary").error("%s", held, extra={"credentials": held})
    assert is_clean(caplog.text)
    if not isinstance(held, list | sasl.Ready):
        assert not hasattr(held, "__dict__")


@pytest.mark.parametrize("held", list(secrets_held()), ids=lambda held: type(held).__name__)
def test_secrets_are_neither_pickled_nor_copied(held: object) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError) as caught:
            pickle.dumps(held, protocol)
        assert is_clean(str(caught.value))
    with pytest.raises(TypeError):
        copy.deepcopy(held)


def whole(error: BaseException) -> str:
    """An error as a reporter sees it: its chain, attributes, and our variables in each frame."""
    text = ""
    seen: BaseException | None = error
    while seen is not None:
        report = traceback.TracebackException.from_exception(seen, capture_locals=True)
        ours = [frame for frame in report.stack if "/mta_front/" in frame.filename]
        text += f"{seen!r} {seen} {vars(seen)} {[frame.locals for frame in ours]} "
        seen = seen.__cause__ or seen.__context__
    return text


MALFORMED = f"SCRAM-SHA-256$4096:{CANARY}$!${CANARY}:{CANARY}"


@pytest.mark.parametrize(
    "text",
    [MALFORMED, CANARY, MALFORMED.replace("!", ""), f"SCRAM-SHA-256$4096:{b64(SALT)}${b64(CANARY)}:{b64(CANARY)}"],
)
def test_no_secret_in_the_errors_of_a_users_file(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        ScramKeys.parse(text)
    assert is_clean(f"{caught.value!r} {vars(caught.value)} {caught.value.__context__!r}")


class GoneAwayError(Exception):
    """What an owner raises out of `ask`."""


@pytest.mark.parametrize("answers", [0, 1])
@pytest.mark.parametrize("by_keys", [True, False])
def test_no_secret_in_what_an_error_in_the_middle_shows_of_us(answers: int, by_keys: bool) -> None:
    client = ScramClient(CANARY)
    shown = credentials("SCRAM-SHA-256", client.first())
    finals: list[bytes] = []
    keys = ScramKeys.of_password(CANARY, SALT, 4096)

    def ask(challenge: bytes) -> bytes:
        if len(finals) == answers:
            raise GoneAwayError
        finals.append(client.final(challenge))
        return finals[-1]

    shown.ask = ask
    with pytest.raises(GoneAwayError) as caught:
        _ = shown.scram(keys) if by_keys else shown.validate_password(CANARY)
    text = whole(caught.value)
    assert is_clean(text)
    assert "server_final" in text or not answers, "the frames were looked at"
    assert not any(final.decode().rpartition(",p=")[2] in text for final in finals)


def test_no_secret_in_an_error_of_the_owner() -> None:
    ours = exchange("PLAIN")
    with pytest.raises(LocalError) as caught:
        ours.respond(b64(CANARY))
    assert is_clean(whole(caught.value))


def test_nothing_keeps_a_password_when_the_credentials_are_gone() -> None:
    ours = exchange("LOGIN", nonce=NONCE)
    ours.begin(b64("user"))
    outcome = ours.respond(b64(CANARY + "-gone"))
    assert isinstance(outcome, sasl.Ready)
    ours.reject(AUTH_FAILED)
    del outcome
    gc.collect()
    held = [part for part in gc.get_objects() if isinstance(part, Credentials)]
    assert not any(part.password == CANARY + "-gone" for part in held)
