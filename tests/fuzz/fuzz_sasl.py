"""Whatever a client sends after AUTH, it ends in one of our outcomes, and only who knows the password is proven."""

from __future__ import annotations

import base64
import unicodedata

from mta_front.smtp import sasl
from mta_front.smtp.replies import AUTH_FAILED, Reply
from mta_front.smtp.scram import ScramKeys, decoy_keys

PASSWORD = "pencil"
LINE_MAX_OCTETS = 12_288
KEYS = ScramKeys.of_password(PASSWORD, b"\x5bm\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81", 4096)
DECOY = decoy_keys(b"fleet", "user", 4096)
NAMES = tuple(sasl.MECHANISMS)
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="

SEEDS = [
    b"\0user\0pencil",
    b"user\npencil",
    b"\ntim b913a602c7eda7a495b4e6e7334d3890",
    b"user=u@example.com\x01auth=Bearer ya29.x\x01\x01\n\n",
    b"n,a=user@example.com,\x01host=h\x01port=587\x01auth=Bearer x==\x01\x01\n\x01",
    b"n,,\x01auth=\x01\x01\n\x01",
    b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO\n" + FINAL + b"\n",
    b"p=tls-exporter,a=x=2Cy,n=user,r=abc,z=1\nc=cD10bHMtZXhwb3J0ZXIsLA==,r=abc,p=AAAA\n",
    b"y,,m=x,n=user,r=abc\n\n",
    "\0j\u00fcrgen\0\u2168\u00ad\U0001f511\n\u0627\u0031".encode(),
]

TOKENS = [
    "\x01auth=Bearer ",
    "\x01\x01",
    "user=",
    "n,,",
    "y,,",
    "p=tls-exporter,,",
    "a=",
    "n=",
    ",r=",
    ",p=",
    "c=biws",
    "m=",
    "=2C",
]


class EndedError(Exception):
    """The client of `ask` has no more to say."""


def one_input(data: bytes) -> None:
    """Three octets choose mechanism and owner; the rest are the client's answers, a line each."""
    choice, owner, form = (*data[:3], 0, 0, 0)[:3]
    lines = [_text(line, form) for line in data[3:].split(b"\n")]
    name = NAMES[choice % len(NAMES)]
    exchange = sasl.Exchange(
        name,
        nonce="%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        host="mx.example",
        channel_binding=None if owner & 1 else bytes(32),
        plus_offered=bool(owner & 2),
        certificate_identity=None if owner & 4 else "client.example",
    )
    initial = None if owner & 8 else lines.pop(0) or "="
    outcome = exchange.begin(initial)
    for _ in range(4):
        if isinstance(outcome, sasl.Challenge) and lines:
            assert len(base64.b64encode(outcome.data)) <= LINE_MAX_OCTETS
            outcome = exchange.respond(lines.pop(0))
    if isinstance(outcome, sasl.Ready):
        _judge(exchange, outcome, name, lines, owner)
    else:
        assert isinstance(outcome, sasl.Refused) or not lines


def _judge(exchange: sasl.Exchange, outcome: sasl.Ready, name: str, lines: list[str], owner: int) -> None:
    """As a hook would."""
    shown = outcome.credentials
    assert shown.method == name
    assert shown.username or name == "OAUTHBEARER"
    assert not any(unicodedata.category(char).startswith("C") for char in shown.username + shown.authzid)
    assert "\0" not in shown.username + shown.authzid + shown.password + shown.access_token

    def ask(challenge: bytes) -> bytes:
        assert len(base64.b64encode(challenge)) <= LINE_MAX_OCTETS
        answer = sasl.decoded_answer(lines.pop(0)) if lines else None
        if not isinstance(answer, bytes):
            raise EndedError
        return answer

    shown.ask = ask
    try:
        proven = shown.scram(DECOY if owner & 16 else KEYS) if owner & 32 else shown.validate_password(PASSWORD)
    except EndedError:
        proven = False
    assert proven == shown.proven
    assert not (proven and owner & 32 and owner & 16), "nobody knows the password of a decoy"
    assert not (proven and shown.password not in ("", PASSWORD) and shown.password.isascii())
    reply = Reply(454, "4.7.0", "later") if owner & 64 else AUTH_FAILED
    after = exchange.reject(reply, {"status": "401"} if owner & 128 else None)
    if isinstance(after, sasl.Challenge):
        after = exchange.respond(lines.pop(0) if lines else "")
    assert isinstance(after, sasl.Refused)


def _text(line: bytes, form: int) -> str:
    """In Base64, since the fuzzer would not find that by itself; or, now and then, as it is."""
    return line.decode("latin-1") if form & 7 == 7 else base64.b64encode(line).decode()
