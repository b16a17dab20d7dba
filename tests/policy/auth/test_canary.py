"""Passwords, hashes and tokens never come out: not in logs, exceptions, reports, `repr`, nor in what a crash shows.

Every backend is asked with canaries, for yes, no and "cannot know", and in each way in which a peer may throw what it
was sent back at us; then everything that was written or raised is searched, also in the encodings it travels in.
"""

from __future__ import annotations

import base64
import gc
import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mta_front.policy.auth.backend import Unavailable
from mta_front.policy.auth.build import build
from mta_front.policy.auth.chain import Chain
from mta_front.settings.auth import Auth
from mta_front.store.options import StoreOptions
from tests.policy.auth.asker import Asker
from tests.policy.auth.people import SESSION, ScramClient, cram, plain
from tests.policy.auth.webserver import Answer, Heard, serving
from tests.stores import Store

CANARY = "canary-9f3b71"
TOKEN = "eyJjYW5hcnkiOiI5ZjNiNzEi.Y2FuYXJ5LTlmM2I3MQ.c2lnbmF0dXJlLTlmM2I3MQ"


def searched(text: str) -> list[str]:
    """The canaries in a text, in any of their forms."""
    secret = CANARY.encode()
    forms = [CANARY, TOKEN, quote(CANARY), secret.hex(), repr(secret)]
    forms += [base64.b64encode(b"\0" * pad + b"ann"[: pad + 1] + b"\0" + secret).decode()[8:-4] for pad in range(3)]
    forms += [base64.b64encode(secret).decode()[:-4]]
    return [form for form in forms if form in text]


def test_the_search_finds() -> None:
    assert searched(base64.b64encode(b"\0ann\0" + CANARY.encode()).decode())
    assert searched(f"x{TOKEN}")
    assert not searched("nothing")


def echo(heard: Heard) -> Answer:
    """A server that says everything back, in its status text and its body."""
    return 500, heard.body + json.dumps(heard.headers).encode()


def close(heard: Heard) -> Answer:
    raise ConnectionError


def invalid(heard: Heard) -> Answer:
    return 200, b'{"user": "' + heard.body[:400] + b"\\u000d"


@pytest.mark.parametrize(
    "answer", [echo, close, invalid, lambda heard: (401, heard.body), lambda heard: (200, {"active": False})]
)
def test_over_http(tmp_path: Path, answer: Callable[[Heard], Answer], capfd: pytest.CaptureFixture[str]) -> None:
    with serving(answer) as web:
        auth = {
            "backends": ["http", "oauth2"],
            "http": {"url": web.url, "token": f"{CANARY}-own", "methods": ["PLAIN", "OAUTHBEARER"], "failures": 100},
            "oauth2": {
                "introspection_url": web.url,
                "client_id": "c",
                "client_secret": f"{CANARY}-own",
                "failures": 100,
            },
        }
        with Asker(tmp_path, auth) as asker:
            for _ in range(2):
                asker.log_in("ann", CANARY)
                asker.log_in("ann", access_token=TOKEN)
                asker.log_in("ann", access_token=CANARY, method="XOAUTH2")
    assert CANARY in "".join(heard.body.decode() for heard in web.heard), "it did get there"
    assert not searched(asker.seen)
    capfd.readouterr()  # http.server's own traceback of `close`


@pytest.fixture
def chains(tmp_path: Path) -> Iterator[tuple[dict[str, Chain], list[str], Callable[[], None]]]:
    """Chains that run in this process; what they reported; and what breaks all their peers."""
    reports: list[str] = []
    store = Store("redis", tmp_path / "redis", appendonly="no").start()
    (tmp_path / "users").write_text(f"ann:{{PLAIN}}{CANARY}\n")
    store.ask("HSET", "mta:user:ann", "password", f"{{PLAIN}}{CANARY}")
    store.ask("HSET", "mta:user:bad", "password", CANARY)
    options = StoreOptions(url=store.url, timeout_ms=300)
    methods = ["PLAIN", "CRAM-MD5", "SCRAM-SHA-256"]
    settings: dict[str, Any] = {
        "file": {"file": {"path": str(tmp_path / "users")}},
        "redis": {"redis": {"methods": methods}},
        "dovecot": {"dovecot": {"path": str(tmp_path / "none")}},
    }
    made = {
        name: build(Auth.model_validate({"backends": [name]} | keys), options, report=reports.append)
        for name, keys in settings.items()
    }

    def break_all() -> None:
        store.kill_now()
        (tmp_path / "users").write_text(f"{CANARY}\nann:{CANARY}\n")

    yield made, reports, break_all
    for chain in made.values():
        chain.close()


def test_in_this_process(
    chains: tuple[dict[str, Chain], list[str], Callable[[], None]], capfd: pytest.CaptureFixture[str]
) -> None:
    made, out, break_all = chains
    for broken in (False, True):
        for chain in made.values():
            for username in ("ann", "bad", "nobody"):
                for credentials in (
                    plain(username, CANARY),
                    plain(username, f"{CANARY}-wrong"),
                    cram(username, CANARY),
                    ScramClient(CANARY).credentials(username),
                ):
                    try:
                        user = chain.verify(credentials, SESSION)
                        out.append(f"{user!r} {user} {credentials!r}")
                    except Unavailable as error:
                        # locals are never shown (O2); the texts, the causes and the lines are
                        out.append("".join(traceback.format_exception(error)) + repr(error) + str(vars(error)))
        if not broken:
            break_all()
    out.extend(
        repr(each) for each in gc.get_objects() if str(type(each).__module__).startswith("mta_front.policy.auth")
    )
    captured = capfd.readouterr()
    assert any("User(id='ann'" in line for line in out), "some said yes"
    assert any("auth.dovecot" in line for line in out)
    assert not searched("\n".join([*out, captured.out, captured.err]))
