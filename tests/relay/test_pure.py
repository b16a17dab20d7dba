"""Routes, the schedule, outcomes and the health of next hops: tables."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta_front.relay.delivery import Reporting, Result, conclude, enhanced_of, unsettled
from mta_front.relay.hop import BACKOFF_S, LOSSES_MAX, QUICK_S, Health
from mta_front.relay.nexthop import Routes
from mta_front.relay.schedule import JITTER, Schedule
from mta_front.smtp.transaction import Kind, Outcome
from mta_front.store.claim import Claim
from mta_front.store.entry import Dsn, Entry

# -- routes ------------------------------------------------------------------------------------------------------------

ROUTES = Routes(
    [
        ["example.net", "Straße.example"],  # 0
        ["*.example.org", "[192.0.2.1]"],  # 1
        ["sub.example.org", "*.net"],  # 2
        ["xn--bcher-kva.example.", "*.xn--bcher-kva.example"],  # 3
        ["*"],  # 4
        ["never.example"],  # 5
    ]
)
ROUTED = {
    "a@example.net": 0,
    "a@EXAMPLE.Net": 0,
    "a@example.net.": 0,
    '"x@example.org"@example.net': 0,
    "a@sub.example.net": 2,
    "a@example.org": 4,
    "a@sub.example.org": 1,
    "a@a.b.example.org": 1,
    "a@notexample.org": 4,
    "a@[192.0.2.1]": 1,
    "a@[192.0.2.2]": 4,
    "a@[x.example.org]": 4,
    "a@net": 4,
    "a@straße.example": 0,
    "a@xn--strae-oqa.example": 0,
    "a@strasse.example": 4,
    "a@bücher.example": 3,
    "a@BÜCHER.example": 3,
    "a@bu\u0308cher.example": 3,
    "a@XN--BCHER-KVA.example": 3,
    "a@mail.bücher.example": 3,
    "a@bücher。example": 3,
    "a@-ü-.example": 4,
    "a@\udc80.example": 4,
    "postmaster": 4,
    "a@": 4,
    "a@never.example": 4,
}


@pytest.mark.parametrize("recipient", ROUTED)
def test_the_first_route_that_matches_takes_the_recipient(recipient: str) -> None:
    assert ROUTES.of(recipient) == ROUTED[recipient]
    assert ROUTES.of(recipient) == ROUTED[recipient]  # from what it remembers


def test_no_route() -> None:
    assert Routes([["example.net"]]).of("a@example.org") is None
    assert Routes([]).of("a@example.org") is None


def test_recipients_are_grouped_by_route_in_order_and_each_once() -> None:
    routes = Routes([["a.example"], ["b.example"]])
    names = ["1@b.example", "2@a.example", "3@b.example", "2@a.example", "4@c.example", "1@b.example"]
    assert routes.group(names) == {1: ["1@b.example", "3@b.example"], 0: ["2@a.example"], None: ["4@c.example"]}
    assert routes.group(["2@a.example"]) == {0: ["2@a.example"]}


def test_what_is_remembered_is_bounded() -> None:
    routes = Routes([["*.example"]])
    for number in range(20_100):
        assert routes.of(f"a@{number}.example") == 0
    assert len(routes._known) <= 10_000


# -- the schedule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempts", "age_s", "dice", "wait_s"),
    [
        (1, 0, 0.5, 60),
        (2, 100, 0.5, 300),
        (3, 500, 0.5, 900),
        (4, 1500, 0.5, 900),
        (50, 1500, 0.5, 900),
        (1, 0, 0.0, 54),
        (1, 0, 1.0, 66),
        (9, 9_200, 0.5, 800),
        (9, 9_999, 0.5, 1),
        (9, 10_000, 0.5, None),
        (1, 20_000, 0.5, None),
    ],
)
def test_schedule(attempts: int, age_s: float, dice: float, wait_s: float | None) -> None:
    schedule = Schedule([60, 300, 900], expire_s=10_000)
    now = 1_700_000_000.0
    due_at = schedule.due_at(attempts, now - age_s, now, lambda: dice)
    assert due_at == (None if wait_s is None else pytest.approx(now + wait_s))


@given(st.integers(1, 1000), st.floats(0, 1), st.floats(0, 10_000))
def test_a_message_is_tried_within_the_jitter_and_never_after_it_expired(
    attempts: int, dice: float, age_s: float
) -> None:
    schedule = Schedule([60, 300], expire_s=5000)
    due_at = schedule.due_at(attempts, 0.0, age_s, lambda: dice)
    if age_s >= 5000:
        assert due_at is None
    else:
        assert due_at is not None
        wait_s = 60 if attempts == 1 else 300
        assert min(age_s + wait_s * (1 - JITTER), 5000) <= due_at + 1e-6
        assert due_at <= min(age_s + wait_s * (1 + JITTER), 5000) + 1e-6


# -- outcomes ----------------------------------------------------------------------------------------------------------

NOW = 1_700_000_000.0
SCHEDULE = Schedule([60, 300], expire_s=1000)


def claimed(
    recipients: list[str], age_s: float = 0.0, mail_from: str = "", dsn: Dsn | None = None, **fields: Any
) -> Claim:
    envelope = Entry(id="m1", received_at=NOW - age_s, mail_from=mail_from, rcpt_to=recipients, dsn=dsn)
    return Claim(entry_id="1-0", id="m1", fence=1, envelope=envelope, body=b"", **fields)


def results(**kinds: Kind) -> dict[str, Result]:
    codes = {"delivered": (250, "2.0.0 ok"), "deferred": (450, "4.2.0 later"), "failed": (550, "5.1.1 unknown")}
    return {name: Result(Outcome(kind, *codes[kind]), "hop:25") for name, kind in kinds.items()}


def test_all_delivered() -> None:
    settlement = conclude(claimed(["a", "b"]), results(a="delivered", b="delivered"), SCHEDULE, NOW, lambda: 0.5)
    assert settlement.fate == "delivered"
    assert settlement.due_at is None
    assert settlement.dead == []
    assert settlement.outcomes["a"] == {
        "outcome": "delivered",
        "code": 250,
        "text": "2.0.0 ok",
        "next_hop": "hop:25",
        "at": NOW,
    }


def test_who_failed_is_buried_at_once_while_others_are_tried_again() -> None:
    kinds = results(a="delivered", b="deferred", c="failed")
    settlement = conclude(claimed(["a", "b", "c"]), kinds, SCHEDULE, NOW, lambda: 0.5)
    assert settlement.fate == "deferred"
    assert settlement.due_at == NOW + 60
    assert [letter["recipient"] for letter in settlement.dead] == settlement.dealt_with == ["c"]
    assert {name: kept["outcome"] for name, kept in settlement.outcomes.items()} == {
        "a": "delivered",
        "b": "deferred",
        "c": "failed",
    }
    assert settlement.outcomes["b"]["enhanced"] == "4.2.0"


def test_the_second_wait_is_the_second_of_the_schedule() -> None:
    settlement = conclude(claimed(["a"], attempts=1), results(a="deferred"), SCHEDULE, NOW, lambda: 0.5)
    assert settlement.due_at == NOW + 300


def test_failed_goes_to_the_dead_letters_with_its_reason() -> None:
    settlement = conclude(claimed(["a", "b"]), results(a="delivered", b="failed"), SCHEDULE, NOW, lambda: 0.5)
    assert settlement.fate == "buried"
    assert settlement.due_at is None
    (letter,) = settlement.dead
    assert (letter["recipient"], letter["code"], letter["text"], letter["enhanced"]) == (
        "b",
        550,
        "5.1.1 unknown",
        "5.1.1",
    )


def test_expired_says_why() -> None:
    settlement = conclude(claimed(["a"], age_s=1000), results(a="deferred"), SCHEDULE, NOW, lambda: 0.5)
    assert settlement.fate == "buried"
    (letter,) = settlement.dead
    assert letter["enhanced"] == "5.4.7"
    assert letter["text"] == "Delivery time expired; last: 4.2.0 later"
    assert settlement.outcomes["a"]["outcome"] == "failed"


def test_who_failed_under_a_version_that_buried_at_the_end_is_buried_now() -> None:
    history = [
        {"recipient": "b", "outcome": "deferred", "text": "4.2.0 later"},
        {"recipient": "b", "outcome": "failed", "code": 550, "text": "5.1.1 unknown"},
    ]
    claim = claimed(["a", "b", "c"], settled={"b": "failed", "c": "failed", "d": "delivered"}, history=history)
    settlement = conclude(claim, results(a="delivered"), SCHEDULE, NOW, lambda: 0.5)
    assert settlement.fate == "buried"
    assert [(letter["recipient"], letter["text"]) for letter in settlement.dead] == [
        ("b", "5.1.1 unknown"),
        ("c", "failed earlier, the reason is lost"),
    ]


def test_who_was_dealt_with_is_not_dealt_with_again() -> None:
    claim = claimed(["a", "b"], settled={"b": "failed"}, dealt_with=["b"])
    settlement = conclude(claim, results(a="delivered"), SCHEDULE, NOW, lambda: 0.5)
    assert (settlement.fate, settlement.dead, settlement.told) == ("bounced", [], {})


# -- who is told -------------------------------------------------------------------------------------------------------

SENDER = "s@x.example"


def told(
    claim: Claim,
    kinds: dict[str, Result],
    delay_after_s: float = 0.0,
    keep: Literal["unreported", "all"] = "unreported",
) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """Whom the sender is told of, by kind, with the action; and who is a dead letter."""
    settlement = conclude(claim, kinds, SCHEDULE, NOW, lambda: 0.5, Reporting(delay_after_s, keep))
    named: dict[str, list[tuple[str, str]]] = {}
    for kind, those in settlement.told.items():
        named[kind] = [(one.recipient, one.action) for one in those]
    return named, [one["recipient"] for one in settlement.dead]


def wanting(**notify: list[str]) -> Dsn:
    return {"rcpt": {name: {"notify": said} for name, said in notify.items()}}


def test_the_sender_is_told_of_a_failure_and_nothing_is_buried() -> None:
    claim = claimed(["a", "b"], mail_from=SENDER)
    assert told(claim, results(a="delivered", b="failed")) == ({"failure": [("b", "failed")]}, [])


def test_nobody_is_told_of_a_report() -> None:
    claim = claimed(["a", "b", "c"], age_s=500, dsn=wanting(a=["SUCCESS"], b=["FAILURE"], c=["DELAY"]))
    assert told(claim, results(a="delivered", b="failed", c="deferred"), delay_after_s=1) == ({}, ["b"])


@pytest.mark.parametrize(
    ("notify", "kind", "expected"),
    [
        (["NEVER"], "failed", ({}, ["a"])),
        (["SUCCESS"], "failed", ({}, ["a"])),
        (["DELAY"], "failed", ({}, ["a"])),
        (["FAILURE"], "failed", ({"failure": [("a", "failed")]}, [])),
        (["NEVER"], "delivered", ({}, [])),
        (["FAILURE", "DELAY"], "delivered", ({}, [])),
        (["SUCCESS"], "delivered", ({"success": [("a", "relayed")]}, [])),
        (["NEVER"], "deferred", ({}, [])),
        (["FAILURE"], "deferred", ({}, [])),
        (["SUCCESS", "DELAY"], "deferred", ({"delay": [("a", "delayed")]}, [])),
    ],
)
def test_notify_decides(notify: list[str], kind: Kind, expected: Any) -> None:
    claim = claimed(["a"], age_s=500, mail_from=SENDER, dsn=wanting(a=notify))
    assert told(claim, results(a=kind), delay_after_s=1) == expected


def test_all_failures_are_kept_where_that_is_wanted() -> None:
    claim = claimed(["a"], mail_from=SENDER)
    assert told(claim, results(a="failed"), keep="all") == ({"failure": [("a", "failed")]}, ["a"])


def test_a_next_hop_with_dsn_reports_success_itself() -> None:
    passed = Result(Outcome("delivered", 250, "2.0.0 ok", dsn_passed=True), "hop:25", "smtp")
    claim = claimed(["a"], mail_from=SENDER, dsn=wanting(a=["SUCCESS"]))
    settlement = conclude(claim, {"a": passed}, SCHEDULE, NOW, lambda: 0.5)
    assert (settlement.told, settlement.dealt_with) == ({}, ["a"])


@pytest.mark.parametrize(
    ("transport", "action"), [("smtp", "relayed"), ("lmtp", "delivered"), ("maildir", "delivered")]
)
def test_what_is_in_a_mailbox_was_delivered_and_what_goes_on_was_relayed(transport: str, action: str) -> None:
    done = Result(Outcome("delivered", 250, "2.0.0 ok"), "hop:25", transport)
    claim = claimed(["a"], mail_from=SENDER, dsn=wanting(a=["SUCCESS"]))
    assert told(claim, {"a": done}) == ({"success": [("a", action)]}, [])


def test_a_success_whose_relay_died_before_the_report_is_still_reported_once() -> None:
    claim = claimed(["a", "b"], mail_from=SENDER, dsn=wanting(a=["SUCCESS"]), settled={"a": "delivered"})
    assert told(claim, results(b="delivered")) == ({"success": [("a", "relayed")]}, [])
    claim.dealt_with = ["a"]
    assert told(claim, results(b="delivered")) == ({}, [])


def test_a_delay_is_told_once_and_when_it_is_long() -> None:
    claim = claimed(["a"], age_s=500, mail_from=SENDER)
    assert told(claim, results(a="deferred"), delay_after_s=501) == ({}, [])
    assert told(claim, results(a="deferred"), delay_after_s=0) == ({}, [])
    assert told(claim, results(a="deferred"), delay_after_s=500) == ({"delay": [("a", "delayed")]}, [])
    claim.warned = True
    assert told(claim, results(a="deferred"), delay_after_s=500) == ({}, [])


def test_what_expires_is_a_failure_not_a_delay() -> None:
    claim = claimed(["a"], age_s=1000, mail_from=SENDER)
    assert told(claim, results(a="deferred"), delay_after_s=1) == ({"failure": [("a", "failed")]}, [])


def test_an_uncertain_delivery_is_marked() -> None:
    lost = Result(Outcome("deferred", 0, "the next hop closed the connection", uncertain=True), "hop:25")
    settlement = conclude(claimed(["a"]), {"a": lost}, SCHEDULE, NOW, lambda: 0.5)
    assert settlement.outcomes["a"]["text"].endswith("(it may have been delivered)")


def test_whom_to_try() -> None:
    assert unsettled(["a", "b", "a", "c"], {"b": "delivered"}) == ["a", "c"]
    assert unsettled(["a"], {"a": "failed"}) == []


@pytest.mark.parametrize(
    ("kind", "code", "text", "enhanced"),
    [
        ("failed", 550, "5.1.1 unknown", "5.1.1"),
        ("failed", 550, "5.1.10 null MX", "5.1.10"),
        ("failed", 550, "unknown", "5.0.0"),
        ("failed", 550, "4.1.1 odd", "5.0.0"),
        ("failed", 550, "5.1.1.1 odd", "5.0.0"),
        ("deferred", 452, "5.2.2 full", "4.0.0"),
        ("deferred", 0, "connect to hop:25: Connection refused", "4.4.1"),
    ],
)
def test_enhanced_codes(kind: Kind, code: int, text: str, enhanced: str) -> None:
    assert enhanced_of(Outcome(kind, code, text)) == enhanced


# -- health ------------------------------------------------------------------------------------------------------------

REASON = Outcome("deferred", 0, "refused")


def test_a_hop_that_was_never_tried_takes_all() -> None:
    assert all(Health().admits(0.0) for _ in range(3))


def test_back_off_grows_and_lets_one_probe() -> None:
    health = Health()
    now = 100.0
    for wait_s in (*BACKOFF_S, BACKOFF_S[-1]):
        health.failed(now, REASON)
        assert not health.admits(now + wait_s - 0.01)
        now += wait_s
        assert health.admits(now)
        assert not health.admits(now)
    health.reached()
    assert health.admits(now)
    assert health.admits(now)
    health.failed(now, REASON)
    assert not health.admits(now + BACKOFF_S[-1] - 0.01)


def test_many_connections_that_break_at_once_are_one_failure() -> None:
    health = Health()
    health.reached()
    for _ in range(20):
        health.failed(100.0, REASON)
    assert not health.admits(100.0 + BACKOFF_S[0] - 0.01)
    assert health.admits(100.0 + BACKOFF_S[0])


def test_an_answered_message_forgives_everything() -> None:
    health = Health()
    for now in (0.0, 100.0, 200.0):
        health.failed(now, REASON)
    health.reached()
    health.answered(300.0, 0.1)
    health.failed(400.0, REASON)
    assert health.admits(400.0 + BACKOFF_S[0])


def test_connections_that_break_in_a_row() -> None:
    health = Health()
    assert [health.lost() for _ in range(LOSSES_MAX)] == [False] * (LOSSES_MAX - 1) + [True]
    health.failed(0.0, REASON)
    health.reached()
    health.lost()
    health.answered(1.0, 0.1)
    assert not health.lost()


def test_quick_is_who_answers_quickly_of_late() -> None:
    health = Health()
    seen = [health.quick]
    for answers_s in ([QUICK_S / 2], [1.0], [QUICK_S / 2] * 30):
        for answer_s in answers_s:
            health.answered(1.0, answer_s)
        seen.append(health.quick)
    assert seen == [False, True, False, True]
