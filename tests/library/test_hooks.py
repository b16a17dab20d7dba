"""Hooks of the library: a class or single functions, refusing, and who hears of bugs."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mta_front.hooks import Defer, Hooks, Message, Reject, Reply, Session
from tests.library.served import BODY, NAME, Noting, served
from tests.smtp_talk import Talk, talk
from tests.wait import until


@pytest.mark.seed(
    "callback: onConnect", "callback: onMailFrom", "callback: onRcptTo", "callback: onData", "callback: onClose",
    "stream: for await", "stream: byteLength",
)  # fmt: skip
def test_single_hooks_as_keywords() -> None:
    calls: list[Any] = []

    def keep(message: Message, session: Session) -> str:
        segments = list(message)
        calls.append((b"".join(segments), message.byte_length, message.size_exceeded))
        return "kept"

    with served(
        on_connect=lambda session: calls.append(session.remote_address),
        on_mail_from=lambda address, session: calls.append(("mail", str(address))),
        on_rcpt_to=lambda address, session: calls.append(("rcpt", str(address))),
        on_data=keep,
        on_close=lambda session: calls.append("closed"),
    ) as server:
        with talk(server.address) as client:
            assert str(client.send(BODY)) == "250 2.0.0 kept"
        until(lambda: calls[-1] == "closed")
    assert calls == [
        "127.0.0.1", ("mail", "a@client.example"), ("rcpt", "b@ours.example"), (BODY, len(BODY), False), "closed"
    ]  # fmt: skip


@pytest.mark.seed("callback: onData")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "250 2.0.0 Ok"),
        ("queued as 7", "250 2.0.0 queued as 7"),
        (Reply(250, "2.6.0", "Message taken"), "250 2.6.0 Message taken"),
        (Reply(451, "4.7.1", "Greylisted"), "451 4.7.1 Greylisted"),
        (Reject(554, "5.6.0", "Bad content"), "554 5.6.0 Bad content"),
    ],
)
def test_what_on_data_may_answer(answer: Any, expected: str) -> None:
    with served(on_data=lambda message, session: answer) as server, talk(server.address) as client:
        assert str(client.send(BODY)) == expected  # though nobody read the message
        assert str(client.send(BODY)) == expected


def raising(error: BaseException) -> Any:
    """A hook that raises it."""

    def hook(*_: object) -> None:
        raise error

    return hook


# Reject and Defer stand for `error.responseCode` of the libraries replaced; what each hook means without a code: W3.
REFUSALS = [
    ("on_mail_from", Reject("Not you"), "550 5.7.1 Not you"),
    ("on_mail_from", Reject(553, "5.1.8", "Bad sender"), "553 5.1.8 Bad sender"),
    ("on_mail_from", Reject(), "550 5.7.1 Refused by policy"),
    ("on_rcpt_to", Reject("Nobody here"), "550 5.7.1 Nobody here"),
    ("on_rcpt_to", Defer(450, "4.2.1", "Mailbox busy"), "450 4.2.1 Mailbox busy"),
    ("on_rcpt_to", Defer("Later"), "450 4.7.1 Later"),
    ("on_data", Reject("Spam"), "550 5.7.1 Spam"),
    ("on_data", Reject(554), "554 5.0.0 Refused by policy"),
    ("on_data", Defer(452, "Disk full"), "452 4.0.0 Disk full"),
]


@pytest.mark.seed("callback: responseCode", "callback: onMailFrom", "callback: onRcptTo", "callback: onData")
@pytest.mark.parametrize(("hook", "error", "expected"), REFUSALS)
def test_refusing(hook: str, error: BaseException, expected: str) -> None:
    errors: list[BaseException] = []
    hooks: dict[str, Any] = {hook: raising(error), "on_error": lambda error, session: errors.append(error)}
    with served(**hooks) as server, talk(server.address) as client:
        assert str(answered(client, hook)) == expected
        client.expect("NOOP", 250)
    assert errors == []


def answered(client: Talk, hook: str) -> Any:
    """The reply to the command that `hook` is asked about."""
    if hook == "on_mail_from":
        return client.command("MAIL FROM:<a@b.example>")
    if hook == "on_rcpt_to":
        client.expect("MAIL FROM:<a@b.example>", 250)
        return client.command("RCPT TO:<c@d.example>")
    return client.send(BODY)


@pytest.mark.seed("callback: onConnect", "callback: responseCode")
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Reject("Go away"), "554 5.7.1 Go away"),
        (Reject(), "554 5.7.1 Connection refused by policy"),
        (Reject(521, "5.3.2", "No mail here"), "521 5.3.2 No mail here"),
        (Defer(421, "4.7.0", "Slow down"), "421 4.7.0 Slow down"),
        (Defer(), "421 4.7.0 Try again later"),
    ],
)
def test_a_connection_can_be_refused(error: BaseException, expected: str) -> None:
    with served(on_connect=raising(error)) as server, Talk(server.address) as client:
        assert str(client.reply()) == expected
        client.ended()


@pytest.mark.seed("callback: error event")
@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("hook", ["on_mail_from", "on_rcpt_to", "on_data"])
def test_on_error_hears_what_no_client_is_told(hook: str, blocking: bool) -> None:
    bug = KeyError("secret")
    heard: list[tuple[BaseException, str]] = []

    def hear(error: BaseException, session: Session) -> None:
        heard.append((error, session.remote_address))

    hooks = {hook: raising(bug), "on_error": hear}
    with served(**hooks, blocking_hooks=blocking) as server, talk(server.address) as client:
        assert str(answered(client, hook)) == "451 4.3.0 Local error in processing, try again later"
        client.expect("NOOP", 250)
    assert heard == [(bug, "127.0.0.1")]


@pytest.mark.seed("callback: error event")
@pytest.mark.parametrize("hook", ["on_connect", "on_close"])
def test_on_error_hears_of_the_first_and_the_last_hook(hook: str) -> None:
    bug = KeyError("secret")
    heard: list[BaseException] = []
    with served(**{hook: raising(bug)}, on_error=lambda error, session: heard.append(error)) as server:
        with Talk(server.address) as client:
            expected = "451 4.3.0 Local" if hook == "on_connect" else f"220 {NAME}"
            assert str(client.reply()).startswith(expected)
        until(lambda: heard)
    assert heard == [bug]


def test_without_on_error_bugs_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Under "mta_front", which Python prints on standard error unless the program has other plans."""
    with served(on_data=raising(KeyError("a bug"))) as server, talk(server.address) as client:
        client.send(BODY)
    [record] = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("mta_front", logging.ERROR, "DATA: 'a bug'")
    assert record.exc_info is not None


def test_with_on_error_nothing_is_logged_but_its_own_bugs(caplog: pytest.LogCaptureFixture) -> None:
    hooks = {"on_data": raising(KeyError("a bug")), "on_error": raising(ValueError("another"))}
    with served(**hooks) as server, talk(server.address) as client:
        assert client.send(BODY).code == 451
        client.expect("NOOP", 250)
    assert [record.getMessage() for record in caplog.records] == ["on_error: another"]


def test_a_class_and_its_base_do_the_same() -> None:
    """Hooks accept what they do not override."""
    with served(hooks=Hooks()) as server, talk(server.address) as client:
        assert str(client.send(BODY)) == "250 2.0.0 Ok"


@pytest.mark.parametrize("blocking", [False, True])
def test_what_a_hook_leaves_unread_is_read_for_it(blocking: bool) -> None:
    """A hook that reads half of a message does not hang the session (DECISIONS W5)."""

    def half(message: Message, session: Session) -> None:
        next(iter(message))

    with served(on_data=half, blocking_hooks=blocking) as server, talk(server.address) as client:
        assert client.send(b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 20_000).code == 250
        assert client.send(BODY).code == 250


def test_a_client_that_leaves_in_its_message_breaks_the_iteration() -> None:
    hooks = Noting()
    with served(hooks=hooks) as server:
        with talk(server.address) as client:
            client.envelope("a@b.example", ["c@d.example"])
            client.raw(b"half a message\r\n")
        until(lambda: "close" in hooks.calls)
    assert hooks.messages == []
    assert hooks.errors == []
