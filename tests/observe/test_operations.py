"""What the token opens, asked wrongly: none of it reaches the store. What right requests do: test_limit_desk."""

from __future__ import annotations

import io
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from mta_front.observe.access import Access
from mta_front.observe.admin import Admin
from mta_front.observe.operations import AT_ONCE, BODY_MAX_BYTES, Inspector, LimitDesk
from tests.observe.test_admin import Asked

TOKEN = "Kanarienvogel-4711"
BEARER = f"Bearer {TOKEN}"
BAN = {"subject": "address", "key": "192.0.2.1", "reason": "spam", "seconds": 60}


class Away(Exception):
    """The store is not there."""


def nobody_asks() -> AbstractContextManager[Inspector]:
    raise AssertionError("a wrong request has reached the store")


def gone() -> AbstractContextManager[Inspector]:
    raise Away("connection refused")


def admin_of(tmp_path: Path, desk: LimitDesk, token: str = TOKEN) -> Admin:
    return Admin(str(tmp_path), access=Access(token), operations=desk.operations)


@pytest.fixture
def admin(tmp_path: Path) -> Admin:
    """One whose store must not be asked."""
    return admin_of(tmp_path, LimitDesk(nobody_asks, (Away,)))


def get(admin: Admin, path: str, query: str = "", **environ: Any) -> Asked:
    return Asked(admin, path, "GET", **{"QUERY_STRING": query, "HTTP_AUTHORIZATION": BEARER, **environ})


def post(admin: Admin, path: str, body: object, **environ: Any) -> Asked:
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    usual = {
        "HTTP_AUTHORIZATION": BEARER,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(octets)),
        "wsgi.input": io.BytesIO(octets),
    }
    return Asked(admin, path, "POST", **{**usual, **environ})


def error(asked: Asked) -> str:
    return str(json.loads(asked.body)["error"])


@pytest.mark.parametrize("path", ["/limits/list", "/limits/top", "/limits/show", "/limits/ban", "/limits/unban"])
class TestAccess:
    """Nobody gets in without the token, from wherever."""

    def ask(self, admin: Admin, path: str, **environ: Any) -> Asked:
        if path in ("/limits/ban", "/limits/unban"):
            return post(admin, path, BAN, **environ)
        return get(admin, path, "group=connections&key=x", **environ)

    @pytest.mark.parametrize("header", ["", "Bearer x", f"Basic {TOKEN}"])
    @pytest.mark.parametrize("client", ["127.0.0.1", "192.0.2.1", ""])
    def test_without_the_token(self, admin: Admin, path: str, header: str, client: str) -> None:
        asked = self.ask(admin, path, HTTP_AUTHORIZATION=header, REMOTE_ADDR=client)
        assert (asked.status, asked.headers["WWW-Authenticate"]) == (401, "Bearer")

    def test_where_there_is_no_token(self, tmp_path: Path, path: str) -> None:
        admin = admin_of(tmp_path, LimitDesk(nobody_asks, (Away,)), token="")
        asked = self.ask(admin, path, HTTP_AUTHORIZATION="Bearer ")
        assert (asked.status, error(asked)) == (403, "there is no token; see token_file of [admin]")

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:9580", ""])
    def test_under_a_foreign_name(self, admin: Admin, path: str, host: str) -> None:
        assert self.ask(admin, path, HTTP_HOST=host).status == 421

    def test_the_other_method(self, admin: Admin, path: str) -> None:
        changes = path in ("/limits/ban", "/limits/unban")
        asked = get(admin, path) if changes else post(admin, path, BAN)
        assert (asked.status, asked.headers["Allow"]) == (405, "POST" if changes else "GET, HEAD")

    def test_a_store_that_is_away(self, tmp_path: Path, path: str) -> None:
        admin = admin_of(tmp_path, LimitDesk(gone, (Away,)))
        body = BAN if path == "/limits/ban" else {"subject": "address", "key": "192.0.2.1"}
        query = {"/limits/top": "group=connections", "/limits/show": "key=x"}.get(path, "")
        asked = post(admin, path, body) if "ban" in path else get(admin, path, query)
        assert (asked.status, error(asked)) == (503, "the limits' Redis does not answer: connection refused")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "must be a JSON object"),
        (b"{", 400, "must be a JSON object"),
        (b"[]", 400, "must be a JSON object"),
        (b"\xff\xfe", 400, "must be a JSON object"),
        (b"[" * BODY_MAX_BYTES, 400, "must be a JSON object"),
        (b"x" * (BODY_MAX_BYTES + 1), 413, "at most 4096 octets"),
        ({**BAN, "until": 3}, 400, "until: not known here; known are subject, key, reason, seconds"),
        ({key: BAN[key] for key in ("subject", "key", "seconds")}, 400, "reason: is missing"),
        ({**BAN, "key": 3}, 400, "key: is of the wrong type"),
        ({**BAN, "key": ["192.0.2.1"]}, 400, "key: is of the wrong type"),
        ({**BAN, "key": None}, 400, "key: is of the wrong type"),
        ({**BAN, "seconds": "60"}, 400, "seconds: is of the wrong type"),
        ({**BAN, "seconds": True}, 400, "seconds: is of the wrong type"),
        ({**BAN, "reason": "x" * 321}, 400, "reason: has more than 320 characters"),
    ],
)
def test_wrong_bodies(admin: Admin, body: object, status: int, words: str) -> None:
    asked = post(admin, "/limits/ban", body)
    assert (asked.status, words in error(asked)) == (status, True), asked.body


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_a_form_in_a_browser_can_do_nothing(admin: Admin, kind: str) -> None:
    assert post(admin, "/limits/ban", BAN, CONTENT_TYPE=kind).status == 415


@pytest.mark.parametrize(("length", "status"), [("", 411), ("-1", 411), ("1e3", 411), ("٣", 411), ("9" * 400, 413)])
def test_lengths(admin: Admin, length: str, status: int) -> None:
    assert post(admin, "/limits/ban", BAN, CONTENT_LENGTH=length).status == status


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("/limits/show", "", "key: is missing"),
        ("/limits/show", "key=x&key=y", "a parameter is there twice"),
        ("/limits/show", "key=x&x=y", "x: not known here; known are key"),
        ("/limits/show", f"key={'x' * 321}", "key: has more than 320 characters"),
        ("/limits/top", "count=3", "group: is missing"),
        ("/limits/list", "&".join(f"a{number}=" for number in range(20)), "too many parameters"),
    ],
)
def test_wrong_questions(admin: Admin, path: str, query: str, words: str) -> None:
    asked = get(admin, path, query)
    assert (asked.status, error(asked)) == (400, words)


def test_only_so_many_ask_the_store_at_once(tmp_path: Path) -> None:
    """A client that asks and asks does not use up the store's connections, nor hold up /readyz."""
    inside: list[int] = []

    class Asking(AbstractContextManager[Inspector]):
        def __enter__(self) -> Inspector:
            if len(inside) < AT_ONCE:
                inside.append(get(front, "/limits/show", "key=x").status)
            raise Away("deep enough")

        def __exit__(self, *_: object) -> None:
            raise AssertionError

    front = admin_of(tmp_path, LimitDesk(Asking, (Away,)))
    assert get(front, "/limits/show", "key=x").status == 503
    assert inside == [503] * AT_ONCE
    assert "too many" not in error(get(front, "/limits/show", "key=x")), "each has given its turn back"


def test_status_from_elsewhere_with_the_token(admin: Admin) -> None:
    admin.hear({"state": "running"})
    asked = get(admin, "/status", REMOTE_ADDR="192.0.2.1")
    assert (asked.status, json.loads(asked.body)) == (200, {"state": "running"})
    assert get(admin, "/status", REMOTE_ADDR="192.0.2.1", HTTP_AUTHORIZATION="Bearer x").status == 403
    assert get(admin, "/status", HTTP_HOST="evil.example").status == 421
    assert get(admin, "/livez", HTTP_HOST="evil.example").status == 200, "probes call us as they like"
