"""What is asked when: a rate is spent for what is otherwise in order, and nobody slips by or is counted twice."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from mta_front.proxybuild import build_v2
from tests.front import Front
from tests.limits.fleet import CLIENT, LISTENER, a_front, came, greeted, held, limits
from tests.ports import free_port
from tests.smtp_talk import Closed, Talk
from tests.stores import Store
from tests.wait import until

TOO_MUCH = "450 4.7.1 Too much mail, try again later"
PROXY = "198.51.100.9"
"""Who may say XCLIENT."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("redis", tmp_path / "redis").start()


def test_a_rate_is_spent_for_what_is_otherwise_in_order(tmp_path: Path, store: Store) -> None:
    given = limits(
        messages={"per_address": "3/1h"},
        recipients={"per_address": "3/1h"},
        failed_commands={"per_address": "12/1h"},
        bytes={"per_domain": "1000/1h"},
    )
    hooks = {"class": "tests.limits.hooks:Nobody"}
    front = a_front(tmp_path / "pod", store, given, hooks=hooks).start()
    with greeted(front) as talk:
        for _ in range(4):
            talk.expect("MAIL FROM:<nobody@client.example>", 550)  # costs a failed command, no message
        talk.expect("MAIL FROM:<a@client.example>", 250)
        for _ in range(4):
            talk.expect("RCPT TO:<nobody@ours.example>", 550)  # by the hook
        for _ in range(4):
            talk.expect("RCPT TO:<a@elsewhere.example>", 554)  # by relay control
        for _ in range(3):
            talk.expect("RCPT TO:<b@ours.example>", 250)
        assert str(talk.command("RCPT TO:<b@ours.example>")).startswith("450 4.7.1")
        talk.expect("NONSENSE", 500)
        assert str(talk.reply()).startswith("421 4.7.0")  # the 13th
        assert talk.ended()
    with greeted(front) as talk:
        for _ in range(2):
            talk.expect("MAIL FROM:<a@client.example>", 250)
            talk.expect("RSET", 250)
        assert str(talk.command("MAIL FROM:<a@client.example>")) == TOO_MUCH
    _octets(front)


def _octets(front: Front) -> None:
    """What MAIL declares is spent at once; what really came counts in the end."""
    for address, size in (("192.0.2.2", 900), ("192.0.2.3", 900)):
        with greeted(front, address) as talk:
            talk.expect(f"MAIL FROM:<a@declared.example> SIZE={size}", 250)
            with greeted(front, "192.0.2.4") as other:
                assert str(other.command("MAIL FROM:<a@declared.example> SIZE=900")) == TOO_MUCH
            if address == "192.0.2.2":
                talk.expect("RCPT TO:<b@ours.example>", 250)
                talk.expect("DATA", 354)
                assert talk.body(b"x" * 18 + b"\r\n").code == 250  # 20: the rest is given back
            # the other one goes away in the middle: all of it is

    def all_is_back() -> bool:
        with greeted(front, "192.0.2.4") as other:
            return other.command("MAIL FROM:<a@declared.example> SIZE=900").code == 250

    until(all_is_back, 5.0, "what the one who went away had declared is given back")
    with greeted(front, "192.0.2.5") as talk:
        talk.expect("MAIL FROM:<a@honest.example>", 250)
        talk.expect("RCPT TO:<b@ours.example>", 250)
        talk.expect("DATA", 354)
        assert talk.body(b"x" * 598 + b"\r\n").code == 250  # nothing was declared, and 600 are charged
        assert str(talk.command("MAIL FROM:<a@honest.example> SIZE=500")) == TOO_MUCH
        talk.expect("MAIL FROM:<a@honest.example> SIZE=300", 250)


def test_handshakes(tmp_path: Path, store: Store) -> None:
    """454 to STARTTLS; where TLS comes first, the connection closes without a word."""
    listener = LISTENER | {"relay_domains": ["ours.example"], "auth_optional": True}
    implicit = "127.0.0.1", free_port()
    listeners = [
        listener | {"name": "mx", "bind": [f"127.0.0.1:{free_port()}"]},
        listener | {"name": "mxs", "bind": [f"127.0.0.1:{implicit[1]}"], "secure": True},
    ]
    given = limits(handshakes={"per_address": "2/1h"})
    front = a_front(tmp_path / "pod", store, given, listeners=listeners, tls={"self_signed": True}).start()
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with greeted(front) as talk:
        talk.expect("STARTTLS", 220)
        talk.secure(trusting)
        talk.expect("EHLO client.example", 250)
    with came(implicit) as talk:
        talk.secure(trusting)
        talk.greeting()
    with greeted(front) as talk:
        assert str(talk.command("STARTTLS")) == "454 4.7.0 TLS not available now, try again later"
        talk.expect("NOOP", 250)
    with came(implicit) as talk, pytest.raises((Closed, ssl.SSLError, ConnectionResetError)):
        talk.secure(trusting)
    with came(implicit, "192.0.2.99") as talk:
        talk.secure(trusting)
        talk.greeting()


def test_checks_proxies_and_xclient(tmp_path: Path, store: Store) -> None:
    """A check is not counted until it wants more, and is then at the proxy's address, as is who comes by XCLIENT at his
    own: neither in any network of the settings.
    """
    given = limits(
        exempt=["127.0.0.0/8", "198.51.100.0/24", "192.0.2.50/32"],
        connections={"per_address": 1, "per_user": 0},
        connection_rate={"per_address": "3/1h"},
    )
    front = a_front(tmp_path / "pod", store, given, listener={"use_xclient": ["198.51.100.0/24"]}).start()
    own = build_v2(None, local=True)
    for _ in range(10):
        with Talk(front.address) as check:
            check.raw(own)
            check.greeting()
            check.expect("QUIT", 221)
    with Talk(front.address) as check, Talk(front.address) as other:
        for each in (check, other):
            each.raw(own)
            each.greeting()
        check.expect("MAIL FROM:<a@client.example>", 250)
        assert held(store, "127.0.0.1") == 1
        assert other.command("MAIL FROM:<a@client.example>").code == 421
    until(lambda: held(store, "127.0.0.1") == 0)
    with greeted(front, PROXY) as first, greeted(front, PROXY) as second:
        first.expect("XCLIENT ADDR=192.0.2.50", 220)
        assert held(store, "192.0.2.50") == 1
        assert str(second.command("XCLIENT ADDR=192.0.2.50")).startswith("421 4.7.0")
        first.expect("XCLIENT ADDR=192.0.2.51", 220)  # and the one before is gone
        assert (held(store, "192.0.2.50"), held(store, "192.0.2.51")) == (0, 1)
    until(lambda: held(store, "192.0.2.51") == 0)
    with greeted(front, "192.0.2.50"), greeted(front, "192.0.2.50"):  # who is there himself is exempt
        assert held(store, "192.0.2.50") == 0
    with greeted(front, CLIENT):
        assert held(store, CLIENT) == 1
