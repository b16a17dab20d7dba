"""What one session may do: each limit live, at its edge, with what the client hears and the reason reported."""

from __future__ import annotations

import threading
import time
from ipaddress import ip_network
from typing import Any

import pytest

from mta_front.hooks import Credentials, Hooks, Message, Reject, Session
from mta_front.smtp.address import Address
from tests.net.live import Live, live
from tests.smtp_talk import Closed, Silence, Talk
from tests.wait import until

MESSAGE = b"Subject: x\r\n\r\nx\r\n"


def reason(server: Live) -> str:
    until(lambda: server.noted.closed, 5)
    return server.noted.closed[-1]


def test_errors_end_a_session() -> None:
    with live(Hooks(), max_errors=3) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("FOO", 500)
        client.expect("MAIL FROM:<a b>", 501)
        client.expect("RCPT TO:<a@b.example>", 503)
        assert str(client.reply()).startswith("421 4.7.0")
        client.ended()
        assert reason(server) == "limit"


class NobodyThere(Hooks):
    def on_rcpt_to(self, address: Address, session: Session) -> None:
        if address.local_part == "nobody":
            raise Reject(550, "5.1.1", "No such user")


def test_a_hooks_refusals_are_errors_too_and_those_in_one_packet_all_count() -> None:
    with live(NobodyThere(), max_errors=3) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("MAIL FROM:<a@b.example>", 250)
        client.raw(b"RCPT TO:<nobody@b.example>\r\n" * 10)
        assert [client.reply().code for _ in range(4)] == [550, 550, 550, 421]
        client.ended()


def test_an_accepted_message_forgives_the_errors_before_it() -> None:
    with live(Hooks(), max_errors=3) as server, Talk(server.address) as client:
        client.greeting()
        for _ in range(4):
            client.expect("FOO", 500)
            client.expect("FOO", 500)
            assert client.send(MESSAGE).code == 250
        client.quit()


def test_an_error_over_the_soft_limit_costs_time_and_no_other_session_waits() -> None:
    options: dict[str, Any] = {"soft_errors": 2, "error_delay_s": 0.6}
    with live(Hooks(), **options) as server, Talk(server.address) as client, Talk(server.address) as other:
        client.greeting()
        other.greeting()
        client.expect("FOO", 500)
        client.expect("FOO", 500)
        client.raw(b"FOO\r\n")
        with pytest.raises(Silence):
            client.reply(0.3)
        other.expect("NOOP", 250)
        assert client.reply().code == 500
        assert client.send(MESSAGE).code == 250  # what is right costs nothing
        client.expect("FOO", 500)


@pytest.mark.parametrize("command", ["NOOP", "RSET", "VRFY a@b.example", "HELP", "EHLO client.example"])
def test_junk_ends_a_session(command: str) -> None:
    with live(Hooks(), max_junk_commands=5) as server, Talk(server.address) as client:
        client.greeting()
        for _ in range(4):
            assert client.command(command).code < 400
        client.raw(command.encode() + b"\r\n")
        assert [client.reply().code // 100, client.reply().code] == [2, 421]
        client.ended()
        assert reason(server) == "limit"


def test_commands_between_messages_are_no_junk() -> None:
    with live(Hooks(), max_junk_commands=3) as server, Talk(server.address) as client:
        client.greeting()
        for _ in range(5):
            client.expect("RSET", 250)
            assert client.send(MESSAGE).code == 250
        client.quit()


def test_junk_between_chunks_counts() -> None:
    with live(Hooks(), max_junk_commands=3) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("MAIL FROM:<a@b.example>", 250)
        client.expect("RCPT TO:<c@d.example>", 250)
        client.raw(b"BDAT 1\r\nx")
        assert client.reply().code == 250
        client.expect("NOOP", 250)
        client.expect("NOOP", 250)
        client.raw(b"NOOP\r\n")
        assert [client.reply().code, client.reply().code] == [250, 421]
        client.ended()


def test_messages_of_one_session() -> None:
    with live(Hooks(), max_messages=2) as server, Talk(server.address) as client:
        assert "LIMITS MAILMAX=2" in client.greeting().lines
        assert client.send(MESSAGE).code == 250
        assert client.send(MESSAGE).code == 250
        assert str(client.command("MAIL FROM:<a@b.example>")).startswith("421 4.7.0")
        client.ended()


def test_a_login_that_is_missing_is_530_for_all_that_leads_to_a_message() -> None:
    options: dict[str, Any] = {"auth_optional": False, "auth_required_message": "Log in at https://id.example"}
    with live(Hooks(), **options) as server, Talk(server.address) as client:
        assert client.reply().code == 220
        client.expect("MAIL FROM:<a@b.example>", 503)  # EHLO comes before it all
        client.expect("EHLO client.example", 250)
        for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<a@b.example>", "DATA", "VRFY a", "EXPN a"):
            assert str(client.command(command)) == "530 5.7.0 Log in at https://id.example", command
        client.raw(b"BDAT 10 LAST\r\nQUIT\r\nNOOPHELP\r\n")  # 10 octets are the chunk, the rest is a command
        assert client.reply().code == 530
        assert client.reply().code == 214


def test_commands_before_a_login_are_counted_where_one_is_required() -> None:
    with live(Hooks(), auth_optional=False, max_unauthenticated_commands=3) as server:
        with Talk(server.address) as client:
            client.greeting()
            client.expect("NOOP", 250)
            client.expect("NOOP", 250)
            assert [client.command("NOOP").code, client.reply().code] == [250, 421]
            client.ended()
            assert reason(server) == "limit"
        with Talk(server.address) as client:
            client.greeting()
            client.expect("NOOP", 250)
            client.expect("NOOP", 250)
            client.expect("QUIT", 221)
    with live(Hooks(), max_unauthenticated_commands=1) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("NOOP", 250)
        assert client.send(MESSAGE).code == 250


def test_no_login_is_required_where_auth_is_disabled() -> None:
    """As smtp-server has it: nobody can do what is switched off."""
    with live(Hooks(), auth_optional=False, disabled_commands=["AUTH"]) as server, Talk(server.address) as client:
        client.greeting()
        assert client.send(MESSAGE).code == 250


def test_who_speaks_before_the_greeting_is_refused() -> None:
    with live(Hooks(), greet_delay_s=0.5) as server:
        with Talk(server.address) as client:
            client.raw(b"EHLO client.example\r\n")
            assert str(client.reply()).startswith("554 5.5.0")
            client.ended()
        assert reason(server) == "refused"
        with Talk(server.address) as client:
            with pytest.raises(Silence):
                client.reply(0.3)
            client.greeting()
            assert client.send(MESSAGE).code == 250


@pytest.mark.parametrize("hello", ["EHLO client.example", "HELO client.example"])
def test_nothing_may_follow_a_hello_unasked(hello: str) -> None:
    with live(Hooks()) as server, Talk(server.address) as client:
        assert client.reply().code == 220
        client.raw(f"{hello}\r\nMAIL FROM:<a@b.example>\r\n".encode())
        assert str(client.reply()).startswith("554 5.5.0")
        client.ended()
        assert reason(server) == "limit"


def test_a_body_may_not_come_before_354() -> None:
    """CVE-2023-51764 and its kin begin with a client that does not wait."""

    class Never(Hooks):
        def on_data(self, message: Message, session: Session) -> None:
            raise AssertionError("taken")

    with live(Never()) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("MAIL FROM:<a@b.example>", 250)
        client.expect("RCPT TO:<c@d.example>", 250)
        client.raw(b"DATA\r\n" + MESSAGE + b".\r\n")
        assert str(client.reply()).startswith("554 5.5.0")
        client.ended()
        assert server.noted.faults == []


def test_a_group_that_ends_in_data_and_chunks_may_be_pipelined() -> None:
    with live(Hooks()) as server, Talk(server.address) as client:
        client.greeting()
        client.raw(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
        assert [client.reply().code for _ in range(3)] == [250, 250, 354]
        assert client.body(MESSAGE).code == 250
        client.raw(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 3 LAST\r\nx\r\nQUIT\r\n")
        assert [client.reply().code for _ in range(4)] == [250, 250, 250, 221]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1", b"POST /x?y HTTP/1.0", b"CONNECT mx.example:25 HTTP/1.1"])
def test_a_browser_is_cut_before_its_body_is_read(data: bytes) -> None:
    with live(Hooks()) as server, Talk(server.address) as client:
        assert client.reply().code == 220
        client.raw(data + b"\r\nHost: mx\r\n\r\nEHLO x\r\n")
        assert str(client.reply()).startswith("421 4.7.0")
        client.ended()


def drip(client: Talk, data: bytes, pause_s: float, limit_s: float) -> float:
    """Send an octet after each pause, until the server says 421; the seconds that it took."""
    began = time.monotonic()
    for position in range(int(limit_s / pause_s)):
        client.raw(data[position : position + 1])
        try:
            answer = client.reply(pause_s)
        except Silence:
            continue
        assert str(answer).startswith("421 4.4.2"), answer
        client.ended()
        return time.monotonic() - began
    raise AssertionError("the drip did not end")


def test_a_command_has_one_time_however_many_pieces_it_comes_in() -> None:
    with live(Hooks(), socket_timeout_s=1.0) as server, Talk(server.address) as client:
        client.greeting()
        assert 0.9 < drip(client, b"MAIL FROM:<" + b"a" * 500, 0.1, 10.0) < 4.0
        assert reason(server) == "timeout"


@pytest.mark.parametrize("begin", [b"DATA\r\n", b"BDAT 100000 LAST\r\n"])
def test_a_message_that_drips_ends_by_the_least_rate(begin: bytes) -> None:
    options: dict[str, Any] = {"socket_timeout_s": 1.0, "min_data_rate_bytes_s": 100}
    with live(Hooks(), **options) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("MAIL FROM:<a@b.example>", 250)
        client.expect("RCPT TO:<c@d.example>", 250)
        client.raw(begin)
        if begin == b"DATA\r\n":
            assert client.reply().code == 354
        assert 0.9 < drip(client, b"x" * 500, 0.1, 10.0) < 4.0


def test_a_message_that_is_slow_but_not_too_slow_is_taken() -> None:
    options: dict[str, Any] = {"socket_timeout_s": 1.0, "min_data_rate_bytes_s": 100}
    with live(Hooks(), **options) as server, Talk(server.address) as client:
        client.greeting()
        client.envelope("a@b.example", ["c@d.example"])
        for _ in range(10):
            client.raw(b"x" * 98 + b"\r\n")
            with pytest.raises(Silence):
                client.reply(0.3)
        client.raw(b".\r\n")
        assert client.reply().code == 250


def test_a_client_from_an_exempt_network_may_send_any_newline() -> None:
    taken: list[bytes] = []

    class Keep(Hooks):
        def on_data(self, message: Message, session: Session) -> None:
            taken.append(message.read())

    for networks, code in (["127.0.0.0/8"], 250), (["192.0.2.0/24"], 550):
        exempt = [ip_network(network) for network in networks]
        with live(Keep(), bare_newline="reject", bare_newline_exempt=exempt) as server, Talk(server.address) as client:
            client.greeting()
            client.envelope("a@b.example", ["c@d.example"])
            client.raw(b"a\n.\nb\r\n.\r\n")
            assert client.reply().code == code
    assert taken[0] == b"a\n.\nb\r\n"


def test_a_recipient_named_twice_gets_one_copy() -> None:
    named: list[list[str]] = []

    class Note(Hooks):
        def on_data(self, message: Message, session: Session) -> None:
            named.append([recipient.address for recipient in session.envelope.rcpt_to])

    with live(Note()) as server, Talk(server.address) as client:
        client.greeting()
        client.envelope("a@b.example", ["c@d.example", "C@d.example", "c@D.Example", "e@d.example"])
        assert client.body(MESSAGE).code == 250
        client.envelope("a@b.example", ["c@d.example"])
        assert client.body(MESSAGE).code == 250
    assert named == [["c@D.Example", "C@d.example", "e@d.example"], ["c@d.example"]]


@pytest.mark.parametrize(
    ("response", "line"),
    [
        ("%s Nice to meet you, %s", "mx.ours.example Nice to meet you, client"),
        ("hello", "hello"),
        ("%s", "mx.ours.example"),
        ("%s %s %s %d %%", "mx.ours.example client %s %d %%"),
    ],
)
def test_the_answer_to_ehlo(response: str, line: str) -> None:
    class Named:
        def reverse(self, address: str) -> list[str]:
            return ["client"]

    with live(Hooks(), helo_response=response, resolver=Named()) as server, Talk(server.address) as client:
        assert client.greeting().lines[0] == line


# -- floods, and those who never pause ---------------------------------------------------------------------------------


def test_chunks_with_nothing_in_them_are_junk() -> None:
    with live(Hooks(), max_junk_commands=5) as server, Talk(server.address) as client:
        client.greeting()
        client.raw(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n" + b"BDAT 1\r\nx" * 1100)
        codes = [client.reply().code for _ in range(1008)]
        assert codes == [250] * 1007 + [421], codes[-10:]
        client.ended()


def test_recipients_that_are_deferred_for_ever_are_junk() -> None:
    with live(Hooks(), max_recipients=1, max_junk_commands=5) as server, Talk(server.address) as client:
        client.greeting()
        client.expect("MAIL FROM:<a@b.example>", 250)
        client.raw(b"RCPT TO:<c@d.example>\r\n" * 1100)
        codes = [client.reply().code for _ in range(1007)]
        assert codes == [250] + [452] * 1005 + [421], codes[-10:]
        client.ended()


def test_a_refused_chunk_has_the_time_of_a_message() -> None:
    options: dict[str, Any] = {"socket_timeout_s": 1.0, "min_data_rate_bytes_s": 100}
    with live(Hooks(), **options) as server, Talk(server.address) as client:
        client.greeting()
        client.raw(b"BDAT 1000 LAST\r\n")
        for _ in range(9):
            client.raw(b"x" * 100)
            with pytest.raises(Silence):
                client.reply(0.3)
        client.raw(b"x" * 100)
        assert client.reply().code == 503


def test_a_refused_chunk_that_never_ends_ends_by_its_rate_though_the_client_never_pauses() -> None:
    options: dict[str, Any] = {"session_timeout_s": 1.0}
    with live(Hooks(), **options) as server, Talk(server.address) as client:
        client.greeting()
        client.raw(b"BDAT 99999999999999999999\r\n")

        def send_for(seconds: float) -> None:
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at:
                client.raw(b"x" * 100_000)

        with pytest.raises(Closed):
            send_for(10)
        assert reason(server) == "timeout"


def test_each_answer_in_a_login_has_its_own_time() -> None:
    class Anybody(Hooks):
        def on_auth(self, credentials: Credentials, session: Session) -> str:
            return credentials.username

    options: dict[str, Any] = {"socket_timeout_s": 1.5, "allow_insecure_auth": True}
    with live(Anybody(), **options) as server, Talk(server.address) as client:
        client.greeting()
        for line, code in (("AUTH LOGIN", 334), ("YQ==", 334), ("YQ==", 235)):
            with pytest.raises(Silence):
                client.reply(1.0)
            client.expect(line, code)


def test_a_login_is_the_last_command_of_a_group() -> None:
    with live(Hooks(), allow_insecure_auth=True) as server, Talk(server.address) as client:
        client.greeting()
        client.raw(b"AUTH PLAIN AGEAYg==\r\nMAIL FROM:<a@b.example>\r\n")
        assert str(client.reply()).startswith("554 5.5.0")


def test_a_drain_in_the_greet_delay_is_no_early_talk() -> None:
    with live(Hooks(), greet_delay_s=30.0) as server, Talk(server.address) as client:
        until(lambda: server.call(lambda s: s.sessions), 5)
        assert server.call(lambda s: s.drain(5.0)) is True
        assert str(client.reply()).startswith("421 4.3.2")
        client.ended()


def test_who_goes_away_in_the_greet_delay_did_not_talk() -> None:
    with live(Hooks(), greet_delay_s=2.0) as server:
        Talk(server.address).close()
        assert reason(server) == "lost"


@pytest.mark.parametrize("data", [b"x" * 74 + b"\r\n", b"\n" * 64], ids=["lines", "bare newlines"])
def test_a_message_at_full_speed_delays_nobody_for_long(data: bytes) -> None:
    """The median of the other's waits: it was 40 to 200 ms when the pump gave way to callbacks only."""
    with live(Hooks()) as server, Talk(server.address) as greedy, Talk(server.address) as other:
        other.greeting()
        greedy.greeting()
        greedy.envelope("a@b.example", ["c@d.example"])
        ends_at = time.monotonic() + 2.0

        def flood() -> None:
            while time.monotonic() < ends_at:
                greedy.raw(data * 4000)

        thread = threading.Thread(target=flood)
        thread.start()
        waits = []
        while time.monotonic() < ends_at:
            began = time.monotonic()
            other.expect("NOOP", 250)
            waits.append(time.monotonic() - began)
        thread.join()
    assert sorted(waits)[len(waits) // 2] < 0.1, "others wait for the one that never pauses"
