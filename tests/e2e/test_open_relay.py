"""Never an open relay, over real sockets, whatever the user's hooks do or forget to do (DECISIONS W1, W2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.front import Front
from tests.ports import free_port
from tests.processes import Program, python
from tests.settingsfile import settings, smtp_route, write
from tests.sink import Sink
from tests.smtp_talk import Talk, talk
from tests.wait import until

TAKEN, ELSEWHERE, NO_ADDRESS = "250 2.1.5", "554 5.7.1", "501 5."
RELAY_DOMAINS = ["ours.example", "*.below.example", "bücher.example", "xn--strae-oqa.example"]

TABLE = [
    ("<user@ours.example>", TAKEN),
    ("<user@OURS.Example>", TAKEN),
    ("<postmaster>", TAKEN),
    ("<Postmaster>", TAKEN),
    ("<postmaster@ours.example>", TAKEN),
    ("<user@x.below.example>", TAKEN),
    ("<user@y.x.below.example>", TAKEN),
    ("<user@xn--bcher-kva.example>", TAKEN),  # the A-label of a U-label in the settings
    ("<user@xn--strae-oqa.example>", TAKEN),
    ("<@other.example:user@ours.example>", TAKEN),  # a source route: the target decides
    ("<user@other.example>", ELSEWHERE),
    ("<@ours.example:user@other.example>", ELSEWHERE),
    ("<@ours.example,@ours.example:user@other.example>", ELSEWHERE),
    ("<user%other.example@ours.example>", ELSEWHERE),
    ("<other.example!user@ours.example>", ELSEWHERE),
    ('<"user@other.example"@ours.example>', ELSEWHERE),
    ("<user@[127.0.0.1]>", ELSEWHERE),
    ("<user@[IPv6:::1]>", ELSEWHERE),
    ("<user@below.example>", ELSEWHERE),  # *.below.example does not match its own top
    ("<user@xbelow.example>", ELSEWHERE),
    ("<user@sub.ours.example>", ELSEWHERE),
    ("<user@notours.example>", ELSEWHERE),
    ("<user@ours.example.other.example>", ELSEWHERE),
    ("<user@ours-example>", ELSEWHERE),
    ("<user@0urs.example>", ELSEWHERE),
    ("<user@example>", ELSEWHERE),
    ("<postmaster@other.example>", ELSEWHERE),
    ("<user>", NO_ADDRESS),  # only postmaster goes without a domain
    ("<>", NO_ADDRESS),
    ("<@>", NO_ADDRESS),
    ("<user@>", NO_ADDRESS),
    ("<@ours.example>", NO_ADDRESS),
    ("<user@other.example@ours.example>", NO_ADDRESS),
    ("<user@ours.example@other.example>", NO_ADDRESS),
    ("<user@.ours.example>", NO_ADDRESS),
    ("<user@other.example,ours.example>", NO_ADDRESS),
    ("<user@other.example ours.example>", NO_ADDRESS),
    ("<user@ours.example>@other.example", NO_ADDRESS),
    ("<user@other.example> <user@ours.example>", NO_ADDRESS),
]
HOOKS = {"no hooks": "", "hooks that pass": "tests.e2e.hooks_that_pass:Passing"}


def refusals(session: Talk, table: list[tuple[str, str]]) -> list[str]:
    """Where the server answers otherwise than the table says."""
    wrong = list[str]()
    for path, expected in table:
        session.expect("RSET", 250)
        session.expect("MAIL FROM:<a@client.example>", 250)
        answer = session.command(f"RCPT TO:{path}")
        if not str(answer).startswith(expected):
            wrong.append(f"{path}: {answer}, not {expected}")
    return wrong


@pytest.mark.parametrize("hooks", HOOKS)
def test_table(hooks: str, serve: Callable[..., Front], sink: Sink) -> None:
    """Each recipient of W2's table, asked by a stranger."""
    front = serve(
        smtp_route(sink.next_hop),
        listener={"relay_domains": RELAY_DOMAINS, "max_errors": 0, "soft_errors": 99},
        hooks={"class": HOOKS[hooks]},
    )
    with talk(front.address) as session:
        assert refusals(session, TABLE) == []
        dotted = str(
            (session.command("RSET"), session.command("MAIL FROM:<>"), session.command("RCPT TO:<u@OURS.EXAMPLE.>"))[2]
        )
        assert dotted.startswith((TAKEN, NO_ADDRESS)), dotted
        lookalike = str(session.command("RCPT TO:<u@оurs.example>"))
        assert lookalike.startswith("5"), lookalike


def test_hooks_that_pass_are_still_durable(serve: Callable[..., Front], sink: Sink) -> None:
    """on_data that neither reads nor returns: 250, and the message survives kill -9 of everything, whole."""
    front = serve(smtp_route(sink.next_hop), hooks={"class": HOOKS["hooks that pass"]}, relay={"lease_s": 1.0})
    body = b"Subject: kept\r\nMessage-ID: <kept@client.example>\r\n\r\n" + b"a line\r\n" * 20_000
    sink.do("defer")
    with talk(front.address) as session:
        assert session.send(body).code == 250
    front.kill()
    sink.do("deliver")
    front.start()
    until(sink.deliveries, 15.0, "the message is delivered")
    kept = [path.read_bytes() for path in sink.kept.iterdir()]
    assert len(kept) == 1
    assert kept[0].endswith(body)


def test_no_domains_means_none(serve: Callable[..., Front], sink: Sink) -> None:
    """Without relay_domains a stranger reaches nobody but the postmaster (RFC 5321 §4.5.1)."""
    front = serve(smtp_route(sink.next_hop), listener={"relay_domains": []})
    with talk(front.address) as session:
        assert (
            refusals(session, [("<user@ours.example>", ELSEWHERE), ("<@>", NO_ADDRESS), ("<postmaster>", TAKEN)]) == []
        )


def test_trusted_networks_may_relay(serve: Callable[..., Front], sink: Sink) -> None:
    """Only the networks named."""
    listeners: list[dict[str, Any]] = [
        {
            "name": name,
            "bind": [f"127.0.0.1:{free_port()}"],
            "auth_optional": True,
            "relay_domains": [],
            "trusted_networks": networks,
        }
        for name, networks in (("trusting", ["127.0.0.0/8"]), ("careful", ["127.0.0.2/32", "10.0.0.0/8"]))
    ]
    front = serve(smtp_route(sink.next_hop), listeners=listeners)
    other = "<user@other.example>"
    for listener, expected in zip(listeners, (TAKEN, ELSEWHERE), strict=True):
        with talk(("127.0.0.1", int(str(listener["bind"][0]).rpartition(":")[2]))) as session:
            assert refusals(session, [(other, expected)]) == [], listener["name"]
    assert front.running()


@pytest.mark.parametrize(
    ("bind", "transport"), [("0.0.0.0", "maildir"), ("127.0.0.1", "smtp"), ("127.0.0.1", "discard")]
)
def test_star_is_refused_at_start(bind: str, transport: str, tmp_path: Path) -> None:
    """`relay_domains = ["*"]` outside loopback, or with a route that is not a Maildir: exit 78, and a line says so."""
    target: dict[str, Any] = {"smtp": {"next_hops": ["127.0.0.1:25"]}, "maildir": {"path": str(tmp_path / "m")}}
    route = {"recipients": ["*"], "transport": transport, **target.get(transport, {})}
    listener = {"bind": [f"{bind}:{free_port()}"], "relay_domains": ["*"]}
    file = write(tmp_path / "f.toml", settings(tmp_path, free_port(), free_port(), route, listener=listener))
    server = Program(python("-m", "mta_front.cli", "serve", "-c", str(file)), tmp_path / "front.log", tmp_path).start()
    assert server.wait(20.0) == 78
    assert "open_relay" in server.log_text()
    server.assert_all_ended()
