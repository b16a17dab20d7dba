"""Stored passwords: made here, made by others, faulty, decoys."""

from __future__ import annotations

import pickle
import subprocess

import pytest

from mta_front.policy.auth import hashing
from mta_front.policy.auth.hashing import Bcrypt, Password
from tests.needs import program
from tests.policy.auth.people import CHEAP_ARGON2, PASSWORD, SCRAM_KEYS

OTHERS = {
    "argon2id": CHEAP_ARGON2,
    "doveadm's ARGON2ID": "{ARGON2ID}$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$UNU2jmwcmRP9mijkew8o8A",
    "doveadm's BLF-CRYPT": "{BLF-CRYPT}$2y$04$vQ842eOz73oLO/9VFYHpHubRSdn6zZ4kZG3zxV7QUe47o2j1L6WXi",
    "doveadm's SCRAM-SHA-256": "{SCRAM-SHA-256}4096,kU/ypetXGPXSGqLPR9whLw==,"
    "cjd0Dn3qJj10nLr5tft+DhWhQm3aakJEkocJScZ25/4=,7v1IdgaMc8qG5iW7rfp7TlkaAud9tsdJDJ9bnB4ck50=",
    "RFC 5803": "{SCRAM-SHA-256}SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0$kn4rLc4DMj4j6Bm6cE3e2gYJuBaywTAJWOdxjvJPNk0="
    ":9Y+DR3RvQoiKbbEvAXfFQuvtSAJQ/NB9rc9Avro2ekY=",
    "plain": "{PLAIN}" + PASSWORD,
    "a scheme in lower case": "{plain}" + PASSWORD,
}


@pytest.mark.parametrize("stored", OTHERS.values(), ids=OTHERS.keys())
def test_a_stored_password_is_read(stored: str) -> None:
    password = hashing.parse(stored)
    assert password.matches(PASSWORD)
    assert not password.matches(PASSWORD + "x")
    assert not password.matches("")


@pytest.mark.parametrize("kind", hashing.SCHEMES.values(), ids=hashing.SCHEMES.keys())
def test_a_new_password_is_its_own_and_no_other(kind: type[Password]) -> None:
    made = kind.of("pässwörd ²")
    assert hashing.parse(made.stored()).matches("pässwörd ²")
    assert made.matches("pa\u0308sswo\u0308rd 2"), "prepared by SASLprep: NFKC"
    assert not made.matches("passwort")
    if kind.slow:
        assert kind.of("pässwörd ²").stored() != made.stored(), "salted"


@pytest.mark.parametrize("scheme", ["ARGON2ID", "BLF-CRYPT", "SCRAM-SHA-256"])
def test_what_doveadm_makes_is_read(scheme: str) -> None:
    rounds = {"ARGON2ID": ["-r", "3"], "BLF-CRYPT": ["-r", "4"]}.get(scheme, [])
    made = subprocess.run(
        [program("doveadm"), "-c", "/dev/null", "pw", "-s", scheme, "-p", PASSWORD, *rounds],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert hashing.parse(made.stdout.strip()).matches(PASSWORD)


def test_what_we_make_doveadm_reads() -> None:
    for kind in (hashing.Bcrypt, hashing.Scram):
        shown = subprocess.run(
            [program("doveadm"), "-c", "/dev/null", "pw", "-t", kind.of(PASSWORD).stored(), "-p", PASSWORD],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "(verified)" in shown.stdout, shown


@pytest.mark.parametrize("stored", OTHERS.values(), ids=OTHERS.keys())
def test_a_decoy_is_of_the_same_cost_and_nobodys(stored: str) -> None:
    password = hashing.parse(stored)
    decoy = password.decoy()
    assert type(decoy) is type(password)
    assert not decoy.matches(PASSWORD)
    hashing.parse(decoy.stored())
    if decoy.keys and password.keys:
        assert (decoy.keys.iterations, decoy.keys.salt) == (password.keys.iterations, password.keys.salt)
    elif decoy.slow:
        assert decoy.stored()[:30] == password.stored()[:30], "parameters and salt"
        assert len(decoy.stored()) == len(password.stored())


FAULTY = {
    "no scheme": "hunter22",
    "unknown scheme": "{MD5}hunter22",
    "empty": "",
    "empty plain": "{PLAIN}",
    "argon2i under ARGON2ID": "{ARGON2ID}$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$hunter22hunter22hunter22",
    "argon2 with too much memory": "{ARGON2ID}$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$hunter22hunter22hunter22",
    "argon2 with too many passes": "{ARGON2ID}$argon2id$v=19$m=64,t=900,p=1$c2FsdHNhbHQ$hunter22hunter22hunter22",
    "argon2 with too little memory": "{ARGON2ID}$argon2id$v=19$m=8,t=1,p=2$c2FsdHNhbHQ$hunter22hunter22hunter22",
    "bcrypt, cut": "{BLF-CRYPT}$2y$04$hunter22",
    "bcrypt that takes a day": "{BLF-CRYPT}$2y$31$vQ842eOz73oLO/9VFYHpHubRSdn6zZ4kZG3zxV7QUe47o2j1L6WXi",
    "scrypt with too much memory": "{SCRYPT}$scrypt$ln=31,r=8,p=1$c2FsdHNhbHRzYWx0$hunter22hunter22hunter22",
    "scrypt, bad Base64": "{SCRYPT}$scrypt$ln=4,r=8,p=1$c2FsdHNhbHRzYWx0c$hunter22hunter22hunter22",
    "SCRAM with few iterations": "{SCRAM-SHA-256}100,hunter22,hunter22,hunter22",
    "SCRAM with short keys": "{SCRAM-SHA-256}4096,c2FsdHNhbHRzYWx0,hunter22,hunter22",
    "SCRAM with iterations for an hour": SCRAM_KEYS.replace("4096", "999999999"),
    "SCRAM, one field": "{SCRAM-SHA-256}hunter22",
}


@pytest.mark.parametrize("stored", FAULTY.values(), ids=FAULTY.keys())
def test_a_faulty_one_is_refused_without_being_shown(stored: str) -> None:
    with pytest.raises(ValueError) as raised:
        hashing.parse(stored)
    assert "hunter22" not in str(raised.value)


def test_bcrypt_says_what_it_cannot_hold() -> None:
    """Only 72 octets count: the rest of a longer one would be worth nothing. Old hashes of such ones still work."""
    with pytest.raises(ValueError, match="72"):
        Bcrypt.of("x" * 73)
    old = Bcrypt.of("x" * 72)
    assert old.matches("x" * 72 + "and more, as every other bcrypt takes it")


@pytest.mark.parametrize("kind", hashing.SCHEMES.values(), ids=hashing.SCHEMES.keys())
def test_it_does_not_print_or_pickle(kind: type[Password]) -> None:
    made = hashing.parse(
        {"SCRAM-SHA-256": SCRAM_KEYS, "ARGON2ID": CHEAP_ARGON2}.get(kind.scheme) or kind.of("hunter22").stored()
    )
    secret = made.stored().removeprefix(f"{{{kind.scheme}}}")
    assert secret not in f"{made!r} {made!s} {made} {[made]}"
    with pytest.raises(TypeError):
        pickle.dumps(made)
