"""Delivery over SMTP and LMTP to next hops that behave in every way they should not."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mta_front.relay import hop as hop_module
from mta_front.relay.transports import carrier as carrier_module
from mta_front.relay.transports.opener import SmtpOptions, Target
from mta_front.relay.transports.smtp import SmtpTransport
from mta_front.settings.values import parse_bind
from mta_front.store.errors import StoreBodyGone, StoreDown
from tests.needs import program
from tests.ports import accepting, free_port
from tests.processes import Program
from tests.relay.attempts import BODY, Noted, Try, deliver, pieces
from tests.relay.hub import eventually
from tests.relay.scripted import ScriptedHop, Talk, polite
from tests.wait import until

Make = Callable[..., SmtpTransport]


@pytest.fixture
def make(noted: Noted) -> Iterator[Make]:
    """`make(*next hops, max_connections=…, …)`"""
    made: list[SmtpTransport] = []

    def transport(*next_hops: ScriptedHop | str, **options: object) -> SmtpTransport:
        settings = {"protocol": "smtp", "helo_name": "me.example", "max_connections": 20} | options
        times = {"connect_timeout_s": 5.0, "timeout_s": 5.0} | settings
        targets = [Target(parse_bind(each if isinstance(each, str) else each.address)) for each in next_hops]
        made.append(SmtpTransport(targets, SmtpOptions(**times), noted))  # type: ignore[arg-type]
        return made[-1]

    yield transport
    for each in made:
        each.close()


def refused() -> Iterator[str]:
    """A next hop where nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


@pytest.fixture
def nobody() -> Iterator[str]:
    yield from refused()


# -- connections are kept, and little is said --------------------------------------------------------------------------


def test_one_connection_carries_message_after_message(make: Make, noted: Noted) -> None:
    with ScriptedHop() as hop:
        transport = make(hop)
        for _ in range(3):
            deliver(transport, one := Try())
            assert str(one.only) == "250 2.0.0 taken"
            assert one.next_hop == hop.address
    assert hop.verbs == [["EHLO", *["MAIL", "RCPT", "DATA", "<body>"] * 3]]
    assert hop.talks[0].heard[1] == b"MAIL FROM:<a@x.example> SIZE=27"
    assert hop.bodies == [BODY] * 3
    assert noted.attempts == [("smtp", "delivered", 1)] * 3


def test_the_next_envelope_leaves_with_the_end_of_the_body(make: Make) -> None:
    with ScriptedHop() as hop:
        transport = make(hop, max_connections=1)
        deliver(transport, Try())  # it is quick
        deliver(transport, *(Try() for _ in range(5)))
    # EHLO, the first message's envelope and body, the second's envelope; then each body with the envelope after it.
    assert len(hop.talks[0].writes) == 1 + 2 + 1 + 5
    assert hop.bodies == [BODY] * 6


def test_nothing_waits_behind_a_slow_answer_while_there_are_connections(make: Make) -> None:
    class Slow(Talk):
        def body(self) -> None:
            super().body()
            hop.bodies_now += 1
            until(lambda: hop.bodies_now >= 4, 5.0)

    class Counting(ScriptedHop):
        bodies_now = 0

    with Counting(talk=Slow) as hop:
        deliver(make(hop, max_connections=4), *(tries := [Try() for _ in range(4)]))
        assert {each.only.kind for each in tries} == {"delivered"}


def test_connections_grow_with_what_waits_and_stay_within_the_bound(make: Make) -> None:
    class Slow(Talk):
        def body(self) -> None:
            super().body()
            time.sleep(0.05)

    with ScriptedHop(talk=Slow) as hop:
        deliver(make(hop, max_connections=4), *(Try() for _ in range(20)))
        assert len(hop.talks) == 4


def test_a_connection_ends_after_its_share_of_messages(make: Make) -> None:
    with ScriptedHop() as hop:
        deliver(make(hop, max_connections=1, max_messages=3), *(Try() for _ in range(7)))
        eventually(lambda: len(hop.talks) == 3 and hop.talks[1].ended)
    assert [verbs.count("MAIL") for verbs in hop.verbs] == [3, 3, 1]
    assert hop.verbs[0][-1] == "QUIT"


def test_an_idle_connection_says_quit(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_module, "IDLE_S", 0.05)
    with ScriptedHop() as hop:
        deliver(make(hop), Try())
        eventually(lambda: hop.talks[0].ended)
    assert hop.verbs == [["EHLO", "MAIL", "RCPT", "DATA", "<body>", "QUIT"]]


def test_close_ends_idle_connections(make: Make) -> None:
    with ScriptedHop() as hop:
        transport = make(hop)
        deliver(transport, Try())
        transport.close()
        eventually(lambda: hop.talks[0].ended)
    assert hop.verbs[0][-1] == "QUIT"


@pytest.mark.parametrize("last_word", [b"", b"421 4.4.2 idle too long\r\n"])
def test_an_idle_connection_that_the_next_hop_closed_costs_nothing(make: Make, last_word: bytes) -> None:
    with ScriptedHop() as hop:
        transport = make(hop)
        deliver(transport, Try())
        hop.talks[0].say(last_word)
        hop.talks[0].stream.shutdown(socket.SHUT_RDWR)
        deliver(transport, second := Try())
        assert second.kinds == ["delivered"]
        assert hop.verbs == [["EHLO", "MAIL", "RCPT", "DATA", "<body>"]] * 2
        assert not second.attempt.again


@pytest.mark.parametrize("way", ["closed", "reset", "421"])
def test_a_connection_that_breaks_under_a_message_is_replaced(make: Make, way: str) -> None:
    def dies(talk: Talk) -> None:
        talk.say(b"220 hop\r\n")
        talk.hear()
        talk.say(b"250-hop\r\n250 PIPELINING\r\n")
        talk.hear()
        if way == "reset":
            talk.reset()
        if way == "421":
            talk.say(b"421 4.3.2 going down\r\n")
        hop.script = polite

    with ScriptedHop(dies) as hop:
        deliver(make(hop), one := Try())
    assert one.kinds == ["delivered"]
    assert len(hop.talks) == 2


def test_the_second_break_defers(make: Make) -> None:
    with ScriptedHop(partial(polite, MAIL=b"")) as hop:
        deliver(make(hop), one := Try())
    assert str(one.only) == "the next hop closed the connection"
    assert one.kinds == ["deferred"]
    assert not one.only.uncertain
    assert len(hop.talks) == 2


def test_a_break_after_the_message_is_uncertain_and_not_repeated(make: Make) -> None:
    with ScriptedHop(partial(polite, FINAL=b"")) as hop:
        deliver(make(hop), one := Try())
    assert one.kinds == ["deferred"]
    assert one.only.uncertain
    assert hop.bodies == [BODY]


def test_a_break_with_two_under_way_repeats_the_second_only(make: Make) -> None:
    class Dies(Talk):
        """Takes one message, and closes at the end of the next."""

        def body(self) -> None:
            super().body()
            if len(self.bodies) == 2:
                hop.script = polite
                raise EOFError

    with ScriptedHop(talk=Dies) as hop:
        transport = make(hop, max_connections=1)
        deliver(transport, Try())
        deliver(transport, first := Try(), second := Try())
    assert (first.kinds, second.kinds) == (["deferred"], ["delivered"])
    assert first.only.uncertain
    assert [talk.bodies for talk in hop.talks] == [[BODY, BODY], [BODY]]


# -- outcomes ----------------------------------------------------------------------------------------------------------


def test_lmtp_has_a_reply_for_each_recipient(make: Make, noted: Noted) -> None:
    final = b"250 stored\r\n452 4.2.2 full\r\n550 5.1.1 who?\r\n"
    with ScriptedHop(partial(polite, FINAL=final)) as hop:
        deliver(make(hop, protocol="lmtp"), one := Try(["b@y.example", "c@y.example", "d@y.example"]))
    assert one.kinds == ["delivered", "deferred", "failed"]
    assert hop.verbs[0][0] == "LHLO"
    assert sorted(noted.attempts) == [("lmtp", "deferred", 1), ("lmtp", "delivered", 1), ("lmtp", "failed", 1)]


def test_a_large_body_goes_through_in_pieces(make: Make) -> None:
    lines = [bytes(random.choices(b"ab.", k=random.randrange(200))) + b"\r\n" for _ in range(20_000)]
    body = b"".join(lines)
    with ScriptedHop() as hop:
        deliver(make(hop), one := Try(body=lambda: pieces(body, 65_536), size_bytes=len(body)))
    assert one.kinds == ["delivered"]
    assert hop.bodies == [body]


def test_what_requires_tls_is_not_sent_in_clear(make: Make) -> None:
    with ScriptedHop(partial(polite, offer=b"250-hop\r\n250-REQUIRETLS\r\n250 PIPELINING\r\n")) as hop:
        transport = make(hop)
        deliver(transport, one := Try(require_tls=True))
        assert str(one.only) == "550 5.7.30 REQUIRETLS, and the next hop is not reached over TLS"
        assert one.kinds == ["failed"]
        deliver(transport, Try())
    assert hop.verbs == [["EHLO", "MAIL", "RCPT", "DATA", "<body>"]]


def failing(error: Exception) -> Callable[[], Iterable[bytes]]:
    def segments() -> Iterator[bytes]:
        yield b"first\r\n"
        yield b"second\r\n"
        raise error

    return segments


@pytest.mark.parametrize(
    ("error", "kind", "code"), [(StoreDown("away"), "deferred", 451), (StoreBodyGone("gone"), "failed", 554)]
)
def test_a_body_that_the_store_does_not_give(make: Make, error: Exception, kind: str, code: int) -> None:
    with ScriptedHop() as hop:
        transport = make(hop)
        deliver(transport, one := Try(body=failing(error)))
        assert (one.only.kind, one.only.code) == (kind, code)
        assert hop.bodies == []
        deliver(transport, other := Try())
        assert other.kinds == ["delivered"]


@pytest.mark.parametrize("segments", [1, 5])
def test_a_message_that_is_no_longer_ours_gets_no_final_dot(make: Make, segments: int) -> None:
    with ScriptedHop() as hop:
        transport = make(hop)
        body = BODY * 1000
        deliver(transport, one := Try(body=lambda: pieces(body, len(body) // segments + 1), may_finish=lambda: False))
        assert one.let_go
        eventually(lambda: hop.talks[0].ended)
        assert hop.bodies == []
        deliver(transport, other := Try())
        assert other.kinds == ["delivered"]


def test_a_bug_costs_one_attempt_and_is_reported(noted: Noted, make: Make) -> None:
    def broken() -> Iterable[bytes]:
        raise ZeroDivisionError

    with ScriptedHop() as hop:
        transport = make(hop)
        deliver(transport, one := Try(body=broken), Try())
        assert (one.only.kind, one.only.code) == ("deferred", 451)
        deliver(transport, third := Try())
        assert third.kinds == ["delivered"]
    assert [type(fault) for fault in noted.faults] == [ZeroDivisionError]
    noted.faults.clear()


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent_at", ["GREETING", "EHLO", "MAIL", "DATA", "FINAL"])
def test_a_silent_next_hop_is_left_in_time(make: Make, silent_at: str) -> None:
    class Hush(Talk):
        def say(self, data: bytes) -> None:
            verbs = [line.split(b" ")[0].decode() for line in self.heard]
            if (verbs or ["GREETING"])[-1] == silent_at.replace("FINAL", "<body>"):
                while True:
                    self.hear()
            super().say(data)

    with ScriptedHop(talk=Hush) as hop:
        began_at = time.monotonic()
        deliver(make(hop, timeout_s=0.3), one := Try())
        assert 0.25 < time.monotonic() - began_at < 1.5
    assert one.kinds == ["deferred"]
    assert str(one.only) == f"connection with {hop.address}: timed out"
    assert one.only.uncertain == (silent_at == "FINAL")
    assert len(hop.talks) == 1


def test_what_timed_out_is_deferred_and_not_tried_again_at_once(make: Make) -> None:
    """Also where the next hop is in good health otherwise: it may be this message that it hangs on."""

    class Hangs(Talk):
        def say(self, data: bytes) -> None:
            if self.heard and b"stuck" in self.heard[-1]:
                self.hear()
            super().say(data)

    with ScriptedHop(partial(polite, offer=b"250 hop\r\n"), talk=Hangs) as hop:
        transport = make(hop, timeout_s=0.3)
        stuck = Try(["stuck@y.example"])
        transport.deliver(stuck.attempt)
        while not stuck.reports:
            deliver(transport, other := Try())
            assert other.kinds == ["delivered"]
        assert stuck.kinds == ["deferred"]
        assert str(stuck.only).endswith("timed out")
        assert [line for talk in hop.talks for line in talk.heard if b"stuck" in line] == [b"RCPT TO:<stuck@y.example>"]


def test_a_next_hop_that_does_not_read_is_left_in_time(make: Make) -> None:
    def stuck(talk: Talk) -> None:
        talk.say(b"220 hop\r\n")
        talk.hear()
        talk.say(b"250-hop\r\n250 PIPELINING\r\n")
        talk.hear()
        talk.say(b"250 ok\r\n250 ok\r\n354 go\r\n")
        released.wait(10)

    import threading

    released = threading.Event()
    body = b"x" * 998 + b"\r\n"
    with ScriptedHop(stuck) as hop:
        deliver(make(hop, timeout_s=0.3), one := Try(body=lambda: (body * 1000 for _ in range(100))))
        released.set()
    assert str(one.only).endswith("timed out")
    assert not one.only.uncertain


def test_those_who_wait_for_a_next_hop_that_answers_nothing_are_sent_away(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hop_module, "PATIENCE_S", 0.2)

    def tarpit(talk: Talk) -> None:
        talk.say(b"220 hop\r\n")
        talk.hear()
        talk.say(b"250-hop\r\n250 PIPELINING\r\n")
        while True:
            talk.hear()

    with ScriptedHop(tarpit) as hop:
        transport = make(hop, max_connections=1)
        stuck, waiting = Try(), Try()
        transport.deliver(stuck.attempt)
        transport.deliver(waiting.attempt)
        eventually(lambda: hop.talks and "MAIL" in hop.verbs[0])
        transport.look(time.monotonic())
        assert not waiting.reports
        transport.look(time.monotonic() + 0.5)
        assert waiting.kinds == ["deferred"]
        assert "has not answered" in str(waiting.only)
        assert not stuck.reports


# -- next hops that are dead -------------------------------------------------------------------------------------------


def test_the_first_that_is_healthy_gets_the_message(make: Make, nobody: str) -> None:
    with ScriptedHop() as second:
        transport = make(nobody, second)
        deliver(transport, one := Try())
        assert one.kinds == ["delivered"]
        assert one.next_hop == second.address
        deliver(transport, two := Try())
        assert two.kinds == ["delivered"]


def test_when_all_are_dead_it_is_deferred_with_the_reason(make: Make, nobody: str) -> None:
    deliver(make(nobody), one := Try())
    assert one.kinds == ["deferred"]
    assert str(one.only) == f"connect to {nobody}: Connection refused"
    assert one.next_hop == nobody


def test_a_name_that_does_not_resolve(make: Make) -> None:
    deliver(make("no-such-host.invalid:25"), one := Try(), timeout_s=30)
    assert one.kinds == ["deferred"]
    assert str(one.only).startswith("connect to no-such-host.invalid:25: ")


def test_a_dead_next_hop_is_probed_by_one_and_the_others_do_not_wait(
    make: Make,
) -> None:
    with ScriptedHop(partial(polite, GREETING=b"554 5.3.2 closed for today\r\n")) as hop:
        transport = make(hop)
        deliver(transport, *(tries := [Try() for _ in range(100)]))
        assert len(hop.talks) == 1
        assert {str(each.only) for each in tries} == {"554 5.3.2 closed for today"}
        assert {each.only.kind for each in tries} == {"deferred"}
        deliver(transport, *(Try() for _ in range(100)))
        assert len(hop.talks) == 1
        health = transport.hops[0].health
        health.retry_at = time.monotonic()
        deliver(transport, *(Try() for _ in range(100)))
        assert len(hop.talks) == 2
        hop.script = polite
        health.retry_at = time.monotonic()
        deliver(transport, probe := Try(), turned_away := Try())
        assert probe.kinds == ["delivered"]
        assert turned_away.kinds == ["deferred"]
        deliver(transport, *(tries := [Try() for _ in range(20)]))
        assert {each.only.kind for each in tries} == {"delivered"}


def test_a_connection_refused_while_others_live_is_not_the_end(make: Make) -> None:
    def crowded(talk: Talk) -> None:
        polite(talk, **({} if talk is hop.talks[0] else {"GREETING": b"421 4.7.0 too many connections\r\n"}))

    with ScriptedHop(crowded) as hop:
        deliver(make(hop), *(tries := [Try() for _ in range(50)]))
        assert {each.only.kind for each in tries} == {"delivered"}


def test_a_next_hop_that_breaks_every_connection_is_set_aside(make: Make) -> None:
    with ScriptedHop(partial(polite, DATA=b"")) as hop:
        transport = make(hop, max_connections=1)
        deliver(transport, *(tries := [Try() for _ in range(50)]))
        assert {each.only.kind for each in tries} == {"deferred"}
        assert len(hop.talks) <= 2 * hop_module.LOSSES_MAX


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_a_unix_socket_and_ipv6(make: Make, tmp_path: Path) -> None:
    for family, target in ((socket.AF_UNIX, str(tmp_path / "s")), (socket.AF_INET6, ("::1", 0))):
        with ScriptedHop(family=family, target=target) as hop:
            deliver(make(hop), one := Try())
            assert one.kinds == ["delivered"]


def test_a_host_name(make: Make) -> None:
    with ScriptedHop() as hop:
        deliver(make(hop.address.replace("127.0.0.1", "localhost")), one := Try())
        assert one.kinds == ["delivered"]


# -- Postfix's smtp-sink, refusing at each step ------------------------------------------------------------------------

SINK = {
    "": "delivered 250",
    "-p": "delivered 250",
    "-e": "delivered 250",
    "-8": "delivered 250",
    "-P": "delivered 250",
    "-A 0": "failed 550",
    "-f EHLO": "delivered 250",
    "-f EHLO,HELO": "deferred 500",
    "-f CONNECT": "deferred 500",
    "-f MAIL": "failed 500",
    "-f RCPT": "failed 500",
    "-f DATA": "failed 500",
    "-f .": "failed 500",
    "-r CONNECT": "deferred 450",
    "-r EHLO": "deferred 450",
    "-r MAIL": "deferred 450",
    "-r RCPT": "deferred 450",
    "-r DATA": "deferred 450",
    "-r .": "deferred 450",
    "-q CONNECT": "deferred 0",
    "-q EHLO": "deferred 0",
    "-q MAIL": "deferred 0",
    "-q RCPT": "deferred 0",
    "-q DATA": "deferred 0",
    "-q .": "deferred 0 uncertain",
    "-Q CONNECT": "deferred 421",
    "-Q EHLO": "deferred 421",
    "-Q MAIL": "deferred 421",
    "-Q RCPT": "deferred 421",
    "-Q DATA": "deferred 421",
    "-Q .": "deferred 421",
}


NOT_LMTP = ("-e", "-P", "-f EHLO")


@pytest.mark.parametrize(
    ("protocol", "flags"),
    [("smtp", flags) for flags in SINK] + [("lmtp", flags) for flags in SINK if flags not in NOT_LMTP],
)
def test_smtp_sink(make: Make, tmp_path: Path, flags: str, protocol: str) -> None:
    lmtp = protocol == "lmtp"
    expected = SINK[flags]
    if lmtp:
        flags = flags.replace("EHLO,HELO", "LHLO").replace("EHLO", "LHLO")
    port = free_port()
    argv = [
        program("smtp-sink"),
        "-c",
        "-u",
        "nobody",
        *(["-L"] if lmtp else []),
        *flags.split(),
        f"127.0.0.1:{port}",
        "10",
    ]
    with Program(argv, tmp_path / "log", tmp_path):
        until(lambda: accepting(port))
        deliver(make(f"127.0.0.1:{port}", protocol=protocol), one := Try())
    outcome = one.only
    assert f"{outcome.kind} {outcome.code}{' uncertain' if outcome.uncertain else ''}" == expected
