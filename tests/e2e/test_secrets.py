"""Passwords, tokens, keys and what they are encoded as come out of `serve` nowhere.

Canaries go in by every mechanism and to every backend, right and wrong, whole, malformed, too long, cancelled, in clear
and as what is no command at all, with the log at its most talkative and peers that say everything back. Then all that
came out is searched: the log, the admin port, `config show`, `check`, and the store but for its users.
"""

from __future__ import annotations

import base64
import gc
import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from mta_front.smtp.scram import ScramKeys
from tests import front
from tests.clients.logins import MECHANISMS
from tests.policy.auth.webserver import Answer, Heard, serving
from tests.ports import free_port
from tests.processes import ROOT, clean_environment, python
from tests.smtp.owner import Owner
from tests.smtp.sasl_talk import ScramClient, b64
from tests.smtp_talk import Closed, Talk
from tests.tls.authority import Authority, Pair
from tests.wait import until

RIGHT, WRONG, TOKEN = "Kanarienvogel-4711-right", "Kanarienvogel-4711-wrong", "Kanarienvogel.4711.token"
SETTINGS = {
    "http": "Kanarienvogel-4711-http",
    "oauth2": "Kanarienvogel-4711-oauth2",
    "decoys": "Kanarienvogel-4711-decoys",
    "redis": "Kanarienvogel-4711-redis",
    "limits": "Kanarienvogel-4711-limits",
    "admin": "Kanarienvogel-4711-admin",
}
CANARIES = (RIGHT, WRONG, TOKEN, *SETTINGS.values())
NAMES = ("plain", "scram", "nobody", "breaks", "deep", "refused", "deferred")


def forms(secret: str) -> list[str]:
    """As it is, and as it may be encoded; Base64 at each of the three places in a group."""
    octets = secret.encode()
    encoded = [base64.b64encode(b"x" * pad + octets).decode()[skip:-4] for pad, skip in ((0, 0), (1, 2), (2, 3))]
    return [secret, quote(secret, safe=""), octets.hex(), octets.hex().upper(), *encoded]


def found(text: str, said: list[str], key: Pair) -> list[str]:
    """What of the canaries, of the lines that clients said, and of the private key stands in a text."""
    wanted = [form for canary in CANARIES for form in forms(canary)]
    wanted += [line for line in said if len(line) >= 16]
    wanted += [line for line in key.key_pem.decode().splitlines() if "-----" not in line]
    return [each for each in wanted if each in text]


def test_the_search_finds() -> None:
    key = Authority().issue("mx.ours.example")
    for prefix in ("", "x", "xy"):
        assert found(b64(f"{prefix}{RIGHT}\0more"), [], key)
    assert found(f"a {TOKEN} b", [], key)
    assert found(repr(WRONG.encode()), [], key)
    assert found("x YmlvcyxyPWFiY2RlZmdo x", ["YmlvcyxyPWFiY2RlZmdo"], key)
    assert found(key.key_pem.decode(), [], key)
    assert not found("nothing of it", ["*", ""], key)


# -- a client that has all the secrets -------------------------------------------------------------------------------


def plain(name: str, password: str, authzid: str = "") -> str:
    """A message of PLAIN (RFC 4616)."""
    return b64(f"{authzid}\0{name}\0{password}")


def fields(*parts: str) -> str:
    """A message of XOAUTH2 or OAUTHBEARER (RFC 7628 §3.1)."""
    return b64("\1".join(parts))


class Client:
    """Says AUTH in every way; `said` is every line that carried a secret."""

    def __init__(self, port: int, ca_file: Path) -> None:
        self.said: list[str] = []
        self.codes: set[int] = set()
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca_file))

    def visit(self, *lines: str, secure: bool = True) -> int:
        """One session with these lines after EHLO; the code of the last answer."""
        with Talk(("127.0.0.1", self._port)) as talk:
            talk.greeting()
            if secure:
                talk.expect("STARTTLS", 220)
                talk.sock = self._context.wrap_socket(talk.sock, server_hostname="mx.ours.example")
                talk.expect("EHLO client.example", 250)
            code = 0
            with suppress(Closed, AssertionError):
                for line in lines:
                    self.said += [word for word in line.split(" ") if word not in ("AUTH", *MECHANISMS)]
                    code = talk.command(line).code
            self.codes.add(code)
            return code

    def scram(self, name: str, password: str) -> int:
        """One exchange of SCRAM-SHA-256."""
        with Talk(("127.0.0.1", self._port)) as talk:
            talk.greeting()
            talk.expect("STARTTLS", 220)
            talk.sock = self._context.wrap_socket(talk.sock, server_hostname="mx.ours.example")
            talk.expect("EHLO client.example", 250)
            client = ScramClient(password, name=name)
            answer = talk.command(f"AUTH SCRAM-SHA-256 {b64(client.first())}")
            if answer.code == 334:
                final = b64(client.final(base64.b64decode(answer.text)))
                self.said.append(final)
                answer = talk.command(final)
            if answer.code == 334:
                answer = talk.command("")
            self.codes.add(answer.code)
            return answer.code

    def everything(self) -> None:
        """Each mechanism for each name, right and wrong."""
        for name in NAMES:
            for password in (RIGHT, WRONG):
                whole = plain(name, password)
                self.visit(f"AUTH PLAIN {whole}")
                self.visit("AUTH PLAIN", whole)
                self.visit("AUTH LOGIN", b64(name), b64(password))
                self.visit(f"AUTH PLAIN {plain(name, password, authzid=password)}")
                self.visit("AUTH CRAM-MD5", b64(f"{name} {b64(password)[:32].encode().hex()[:32]}"))
                self.scram(name, password)
            for token in (TOKEN, WRONG):
                self.visit(f"AUTH XOAUTH2 {fields(f'user={name}', f'auth=Bearer {token}', '', '')}", "")
                self.visit(f"AUTH OAUTHBEARER {fields(f'n,a={name},', f'auth=Bearer {token}', '', '')}", "AQ==")

    def mistakes(self) -> None:
        """What people and programs do when they get it wrong."""
        whole = plain("plain", RIGHT)
        self.visit(f"AUTH PLAIN {whole}", secure=False)
        self.visit("AUTH LOGIN", b64("plain"), b64(RIGHT), secure=False)
        self.visit(f"AUTH PLAIN {RIGHT}")
        self.visit(f"AUTH PLAIN {whole} {whole}")
        self.visit(f"AUTH {RIGHT}")
        self.visit(f"AUTH NTLM {whole}")
        self.visit("AUTH LOGIN", b64("plain"), f"{b64(RIGHT)}!")
        self.visit("AUTH LOGIN", RIGHT)
        self.visit("AUTH PLAIN", "*", whole, b64(RIGHT), RIGHT)  # said when nobody asks: a command that is none
        self.visit(f"AUTH PLAIN {b64(RIGHT * 600)}")
        self.visit(f"PASS {RIGHT}")
        self.visit(f"{RIGHT} {whole}")
        self.visit(f"EHLO {b64(RIGHT)} {RIGHT}")
        self.visit(f"AUTH XOAUTH2 {fields('user=plain', f'auth=Basic {RIGHT}', '', '')}", "")
        self.visit(f"AUTH OAUTHBEARER {fields('n,,', f'auth=Bearer {TOKEN}')}", "AQ==")
        self.visit(f"AUTH SCRAM-SHA-256 {b64(f'n,,n={RIGHT}')}")


# -- the server and its peers ----------------------------------------------------------------------------------------


def echo(heard: Heard) -> Answer:
    """A peer that says all that it hears back, as an error."""
    return 500, heard.body + json.dumps(heard.headers).encode()


def no(heard: Heard) -> Answer:
    """A peer that knows nobody."""
    return (200, {"active": False}) if b"token=" in heard.body else (401, heard.body)


def settings(directory: Path, pair: Pair, port: int, url: str) -> dict[str, Any]:
    key, cert = pair.files(directory, "mx")
    keys = ScramKeys.of_password(RIGHT, b"0123456789abcdef", 4096)
    stored = ",".join(["4096", *(b64(each) for each in (keys.salt, keys.stored_key, keys.server_key))])
    (directory / "users").write_text(f"plain:{{PLAIN}}{RIGHT}\nscram:{{SCRAM-SHA-256}}{stored}\n")
    return {
        "listeners": [
            {
                "name": "submission",
                "bind": [f"127.0.0.1:{port}"],
                "auth_methods": list(MECHANISMS),
                "reverse_lookup": False,
            }
        ],
        "log": {"format": "json", "level": "debug"},
        "tls": {"key": str(key), "cert": str(cert)},
        "hooks": {"class": "tests.clients.breaking:Breaking"},
        "limits": {"password": SETTINGS["limits"]},
        "admin": {"token": SETTINGS["admin"]},
        "auth": {
            "backends": ["file", "redis", "http", "oauth2", "dovecot", "hook"],
            "secret": SETTINGS["decoys"],
            "file": {"path": str(directory / "users")},
            "redis": {"methods": ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"], "password": SETTINGS["redis"]},
            "http": {"url": url, "token": SETTINGS["http"], "methods": ["PLAIN", "LOGIN", "XOAUTH2"], "failures": 1000},
            "oauth2": {
                "introspection_url": url,
                "client_id": "c",
                "client_secret": SETTINGS["oauth2"],
                "failures": 1000,
            },
            "dovecot": {"path": str(directory / "no-socket")},
        },
    }


def in_store(client: redis.Redis) -> Iterator[str]:
    """Every key with its value, but for the users' hashes."""
    read: dict[str | bytes, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    for key in client.scan_iter(count=1000):
        if b":user:" not in key:
            yield f"{key!r} {read[client.type(key)](key)!r}"


@pytest.mark.parametrize("answer", [echo, no])
def test_no_secret_comes_out(tmp_path: Path, answer: Callable[[Heard], Answer]) -> None:
    authority = Authority()
    (tmp_path / "root.pem").write_bytes(authority.pem)
    pair, port = authority.issue("mx.ours.example"), free_port()
    with serving(answer) as web:
        sections = settings(tmp_path, pair, port, web.url)
        route = {"recipients": ["*"], "transport": "discard"}
        server = front.make(tmp_path, route, server={"workers": 1}, **sections).start()
        with server.store() as store:
            store.hset("mta:user:redis", "password", f"{{PLAIN}}{RIGHT}")
            store.hset("mta:user:bad", "password", RIGHT)
        client = Client(port, tmp_path / "root.pem")
        client.everything()
        client.mistakes()
        for name in ("redis", "bad"):
            client.visit(f"AUTH PLAIN {plain(name, RIGHT)}")
        assert {235, 454, 500, 501, 504, 535, 538} <= client.codes, client.codes
        assert any(RIGHT in heard.body.decode() for heard in web.heard), "the peer was asked"
        _swap_the_halves(tmp_path, pair, server)

        shown = [server.get(path)[1] for path in ("/metrics", "/status", "/livez", "/readyz", "/")]
        with server.store() as store:
            shown += in_store(store)
        for command in (["config", "show"], ["check"]):
            done = subprocess.run(
                python("-m", "mta_front.cli", *command, "-c", str(server.file)),
                cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            shown += [done.stdout, done.stderr]
        assert "client_secret" in "".join(shown), "config show has shown the settings"
        server.terminate(30.0)
    log = server.log_text()
    assert '"level":"debug"' in log
    assert "the directory is away" in log
    assert not found(log, client.said, pair)
    assert not found("\n".join(shown), client.said, pair)


def _swap_the_halves(directory: Path, pair: Pair, server: front.Front) -> None:
    """The key where the certificate belongs: what is said of it must not show it."""
    (directory / "mx.crt").write_bytes(pair.key_pem)
    until(lambda: "new certificates refused" in server.log_text(), 10.0, "the server has refused it")


# -- the core ----------------------------------------------------------------------------------------------------------


def test_nothing_of_the_core_shows_secrets() -> None:
    """A debugger, a crash report, a log line with an object in it: each shows `repr`."""
    owner = Owner()
    shown = [repr(owner.connection)]
    said = [b64(f"\0ann\0{RIGHT}"), b64(RIGHT)]
    for line in ("EHLO client.example", f"AUTH PLAIN {said[0]}", "EHLO again.example", "AUTH LOGIN", said[1]):
        owner.connection.receive(f"{line}\r\n".encode())
        event = owner.connection.next_event()
        shown += [repr(event), str(event)]
        shown += [repr(each) for each in gc.get_objects() if str(type(each).__module__).startswith("mta_front.smtp")]
        owner._answer(event)  # type: ignore[arg-type]
    assert any("Auth" in each for each in shown)
    assert not found("\n".join(shown), said, Authority().issue("mx.ours.example"))
