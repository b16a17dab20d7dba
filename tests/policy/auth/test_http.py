"""The backend `http`, from a patched process against a real server."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.policy.auth.asker import Asker
from tests.policy.auth.certificates import authority
from tests.policy.auth.webserver import Answer, Heard, serving


def settings(url: str, **keys: Any) -> dict[str, Any]:
    return {"backends": ["http"], "http": {"url": url, "timeout_s": 5.0, **keys}}


def accept(heard: Heard) -> Answer:
    asked = heard.json
    if asked.get("password") == "right":
        return 200, {"user": f"{asked['username']}@example.net", "addresses": ["a@example.net", "*@b.example"]}
    return (403 if asked["username"] == "banned" else 401), {"error": "no"}


def test_yes_and_no_over_one_connection(tmp_path: Path) -> None:
    with serving(accept) as web, Asker(tmp_path, settings(web.url, token="our-token")) as asker:
        assert asker.methods == {"PLAIN", "LOGIN"}
        assert asker.log_in("ann", "right") == "yes ann@example.net a@example.net *@b.example"
        assert asker.log_in("ann", "wrong") == "no"
        assert asker.log_in("banned", "wrong") == "no"
        assert asker.log_in("jürgen", "wrong", method="LOGIN") == "no"
    assert {heard.connection for heard in web.heard} == {0}, "kept alive"
    first, last = web.heard[0], web.heard[-1]
    assert first.headers["content-type"] == "application/json"
    assert first.headers["authorization"] == "Bearer our-token"
    assert first.json == {
        "method": "PLAIN",
        "username": "ann",
        "password": "right",
        "client_address": "192.0.2.7",
        "helo": "",
        "listener": "submission",
        "servername": "",
        "secure": False,
        "session": "s-1",
    }
    assert (last.json["method"], last.json["username"]) == ("LOGIN", "jürgen")


def test_tokens_and_certificates_too_where_it_is_said_to_verify_them(tmp_path: Path) -> None:
    methods = ["OAUTHBEARER", "EXTERNAL"]
    with serving(lambda heard: (200, {})) as web, Asker(tmp_path, settings(web.url, methods=methods)) as asker:
        assert asker.log_in("ann", access_token="opaque") == "yes ann", "the username, where the answer names nobody"
        assert asker.log_in("bob", method="EXTERNAL") == "yes bob"
        assert asker.log_in("ann", "right") == "no", "nobody is asked for PLAIN"
    assert [heard.json.get("access_token") for heard in web.heard] == ["opaque", None]
    assert not any("password" in heard.json for heard in web.heard)


ODD: dict[str, Answer] = {
    "an error": (500, {}),
    "too many": (429, {}),
    "not found": (404, {}),
    "no JSON": (200, b"yes"),
    "no object": (200, ["ann"]),
    "no name": (200, {"user": ""}),
    "a number": (200, {"user": 7}),
    "control characters": (200, {"user": "a\r\nb"}),
    "addresses that are none": (200, {"user": "ann", "addresses": ["everything"]}),
    "addresses in a string": (200, {"user": "ann", "addresses": "a@example.net"}),
    "a flood": (200, {"user": "ann", "more": "x" * 1_000_000}),
    "deep JSON": (200, b"[" * 100_000),
    "a redirect": (307, {}),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD.keys())
def test_what_is_neither_yes_nor_no_is_not_known(tmp_path: Path, answer: Answer) -> None:
    with serving(lambda heard: answer) as web, Asker(tmp_path, settings(web.url)) as asker:
        assert asker.log_in("ann", "hunter22").startswith("unavailable: auth.http: ")
        web.answer = accept
        assert asker.log_in("ann", "right").startswith("yes"), "and what is left of that answer is nobody's"
    assert {heard.path for heard in web.heard} == {"/auth"}, "credentials go nowhere else"
    assert "hunter22" not in asker.seen


def drip(stream: socket.socket, over: threading.Event, begin: bytes) -> None:
    """Never silent for long, never done."""
    stream.recv(65536)
    try:
        stream.sendall(begin)
        while not over.wait(0.05):
            stream.sendall(b"x")
    except OSError:
        pass


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    "begin", [b"", HEAD + b"x-drip: ", HEAD + b"content-length: 9999\r\n\r\n"], ids=["status", "header", "body"]
)
def test_the_time_out_is_for_the_whole_answer(tmp_path: Path, begin: bytes) -> None:
    with serving(accept) as web, Asker(tmp_path, settings(web.url, timeout_s=0.5)) as asker:
        web.script = lambda stream: drip(stream, web.over, begin)
        assert asker.log_in("ann", "hunter22").startswith("unavailable: auth.http: ")
        assert 0.4 < asker.slowest_s < 5
    assert "hunter22" not in asker.seen


def test_a_silent_server_holds_nobody_longer_and_others_are_not_delayed(tmp_path: Path) -> None:
    """Ten slow answers at once: greenlets wait beside each other, on as many connections as there may be."""

    def slow(heard: Heard) -> Answer:
        time.sleep(0.5)
        return accept(heard)

    with serving(slow) as web, Asker(tmp_path, settings(web.url, connections=10, timeout_s=20.0)) as asker:
        outcomes = asker.log_in("ann", "right", times=30)
        assert set(outcomes) == {"yes ann@example.net a@example.net *@b.example"}
        assert web.most_at_once > 1
        assert web.connections <= 10
        assert asker.slowest_s < 30 * 0.5


def test_a_connection_that_went_stale_is_replaced(tmp_path: Path) -> None:
    with serving(accept) as web, Asker(tmp_path, settings(web.url)) as asker:
        web.close_after = True
        for _ in range(5):
            assert asker.log_in("ann", "right").startswith("yes")
            assert asker.reports == []


def test_a_connection_that_is_closed_just_when_it_is_used_is_replaced(tmp_path: Path) -> None:
    """The request was sent and not answered: asking again is safe, since asking changes nothing."""

    def once(stream: socket.socket) -> None:
        stream.recv(65536)
        stream.sendall(HEAD + b"content-length: 2\r\n\r\n{}")
        stream.recv(65536)

    with serving(accept) as web, Asker(tmp_path, settings(web.url)) as asker:
        web.script = once
        assert [asker.log_in("ann", "right") for _ in range(4)] == ["yes ann"] * 4
        assert web.connections == 4


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        with Asker(tmp_path, settings(url)) as asker:
            assert asker.log_in("ann", "hunter22").startswith("unavailable: auth.http: cannot be asked")
    assert "hunter22" not in asker.seen


def test_what_fails_again_and_again_is_left_alone_and_found_again(tmp_path: Path) -> None:
    with serving(lambda heard: (503, {})) as web, Asker(tmp_path, settings(web.url, failures=3, open_s=1.0)) as asker:
        for _ in range(3):
            assert asker.log_in("ann", "right") == "unavailable: auth.http: answered 503"
        assert asker.reports == ["auth.http: answered 503; left alone for a while"]
        asked = len(web.heard)
        assert asker.log_in("ann", "right") == "unavailable: auth.http: does not answer, left alone for now"
        assert len(web.heard) == asked
        web.answer = accept
        until(lambda: asker.log_in("ann", "right").startswith("yes"))
        assert asker.reports == ["auth.http: answers again"]
        assert len(web.heard) == asked + 1, "nobody was asked before its time"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_https_with_a_certificate_that_is_known_and_with_one_that_is_not(tmp_path: Path) -> None:
    ca_file, chain_file = authority(tmp_path, "localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain_file)
    with serving(accept, tls) as web:
        with Asker(tmp_path, settings(web.url, ca_file=str(ca_file))) as asker:
            assert asker.log_in("ann", "right").startswith("yes")
        with Asker(tmp_path, settings(web.url)) as asker:
            assert asker.log_in("ann", "hunter22").startswith("unavailable: auth.http: cannot be asked (SSLError")
        url = web.url.replace("localhost", "127.0.0.1")
        with Asker(tmp_path, settings(url, ca_file=str(ca_file))) as asker:
            assert asker.log_in("ann", "hunter22").startswith("unavailable: auth.http: cannot be asked (SSLError")
    assert len(web.heard) == 1, "whom we do not know is sent nothing"
