"""The judge is judged first: what counts as lost, as doubled, and as explained."""

from __future__ import annotations

from typing import Any

from tests.chaos.verdict import Outage, judge
from tests.load import Attempt
from tests.sink import Delivery


def attempt(message_id: str, outcome: str, queue_id: str = "", at: float = 10.0, **other: Any) -> Attempt:
    """One attempt for one recipient, its final dot sent 0.1 s before `at`."""
    fields: dict[str, Any] = {
        "rcpt_to": ("b@ours.example",),
        "number": 1,
        "stage": "dot",
        "code": {"accepted": 250, "refused": 451}.get(outcome, 0),
        "text": "",
        "began_at": at - 0.2,
        "dot_at": at - 0.1,
    }
    return Attempt(message_id=message_id, outcome=outcome, queue_id=queue_id, at=at, **fields | other)  # type: ignore[arg-type]


def delivery(message_id: str, queue_id: str, at: float = 10.5, **other: Any) -> Delivery:
    """One delivery to the same recipient."""
    fields: dict[str, Any] = {"mail_from": "", "rcpt_to": ("b@ours.example",), "size_bytes": 1, "intact": True}
    return Delivery(message_id=message_id, queue_id=queue_id, began_at=at - 0.1, at=at, **fields | other)


KILL = Outage("relay", 10.55, 11.0)


def test_delivered_once_is_good() -> None:
    assert judge([attempt("m", "accepted", "q")], [delivery("m", "q")], []).good


def test_a_250_without_delivery_is_lost() -> None:
    assert len(judge([attempt("m", "accepted", "q")], [], [KILL]).lost) == 1


def test_a_copy_under_another_id_does_not_hide_a_loss() -> None:
    tries = [attempt("m", "unknown"), attempt("m", "accepted", "q2")]
    assert len(judge(tries, [delivery("m", "q1")], [KILL]).lost) == 1


def test_each_recipient_counts() -> None:
    tries = [attempt("m", "accepted", "q", rcpt_to=("b@ours.example", "c@box.example"))]
    assert len(judge(tries, [delivery("m", "q")], []).lost) == 1


def test_a_dead_letter_is_not_lost() -> None:
    assert judge([attempt("m", "accepted", "q")], [], [], dead=["q"]).good


def test_a_refused_message_owes_nothing() -> None:
    assert judge([attempt("m", "refused")], [], []).good


def test_a_damaged_copy_is_no_delivery() -> None:
    verdict = judge([attempt("m", "accepted", "q")], [delivery("m", "q", intact=False)], [])
    assert verdict.damaged
    assert verdict.lost


def test_what_nobody_sent_is_found() -> None:
    assert judge([], [delivery("m", "q")], []).strangers


def test_a_double_in_hand_at_the_kill_is_explained() -> None:
    copies = [delivery("m", "q", 10.5), delivery("m", "q", 11.5)]
    verdict = judge([attempt("m", "accepted", "q")], copies, [KILL])
    assert verdict.good
    assert [double.reason for double in verdict.doubled] == ["in delivery when relay was killed"]


def test_a_double_long_before_the_kill_is_not() -> None:
    copies = [delivery("m", "q", 5.0), delivery("m", "q", 11.5)]
    assert judge([attempt("m", "accepted", "q")], copies, [KILL]).unexplained


def test_a_double_of_the_relay_is_not_explained_by_a_killed_worker() -> None:
    copies = [delivery("m", "q", 10.5), delivery("m", "q", 11.5)]
    assert judge([attempt("m", "accepted", "q")], copies, [Outage("worker", 10.55, 11.0)]).unexplained


def test_three_copies_need_two_reasons() -> None:
    copies = [delivery("m", "q", 10.5), delivery("m", "q", 15.0), delivery("m", "q", 20.0)]
    assert judge([attempt("m", "accepted", "q")], copies, [KILL]).unexplained


def test_sent_again_after_a_lost_250_is_explained() -> None:
    tries = [attempt("m", "unknown", at=10.6), attempt("m", "accepted", "q2", at=12.0)]
    copies = [delivery("m", "q1", 10.8), delivery("m", "q2", 12.1)]
    assert judge(tries, copies, [Outage("worker", 10.55, 11.0)]).good


def test_sent_again_without_an_outage_is_not() -> None:
    tries = [attempt("m", "unknown", at=5.0), attempt("m", "accepted", "q2", at=12.0)]
    copies = [delivery("m", "q1", 5.5), delivery("m", "q2", 12.1)]
    assert judge(tries, copies, [KILL]).unexplained


def test_two_ids_after_a_clear_refusal_are_not_explained() -> None:
    tries = [attempt("m", "cut", stage="body", at=10.6), attempt("m", "accepted", "q2", at=12.0)]
    copies = [delivery("m", "q1", 10.8), delivery("m", "q2", 12.1)]
    assert judge(tries, copies, [KILL]).unexplained
