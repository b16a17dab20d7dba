"""Routes with conditions: whose mail, by whom, come in where; the first that takes a recipient gets it."""

from __future__ import annotations

from typing import Any

import pytest

from mta_front.observe.events import NOBODY
from mta_front.relay import nexthop
from mta_front.relay.nexthop import Match, RouteBook
from mta_front.relay.routing import Routing
from mta_front.settings.routes import Route
from mta_front.store.entry import Entry

BOOK = RouteBook(
    [
        Match(["vip.example"], senders=["boss@x.example", "<>"]),
        Match(["*"], senders=["*.lists.example", "Bücher.example"]),
        Match(["*"], users=["ann", "ben"]),
        Match(["*.y.example"], listeners=["submission"]),
        Match(["y.example"], ["x.example"], ["carl"], ["submission"]),
        Match(["y.example", "*.y.example"]),
    ]
)


@pytest.mark.parametrize(
    ("recipient", "mail_from", "user", "listener", "route"),
    [
        ("b@vip.example", "boss@x.example", "", "mx", 0),
        ("b@vip.example", "BOSS@X.Example.", "", "mx", 0),
        ("b@vip.example", "", "", "mx", 0),
        ("b@vip.example", "other@x.example", "", "mx", None),
        ("b@other.example", "boss@x.example", "", "mx", None),
        ("b@other.example", "news@a.lists.example", "", "mx", 1),
        ("b@other.example", "news@lists.example", "", "mx", None),
        ("b@other.example", "a@xn--bcher-kva.example", "", "mx", 1),
        ("b@other.example", "", "", "mx", None),
        ("b@other.example", "a@x.example", "ann", "mx", 2),
        ("b@other.example", "a@x.example", "ANN", "mx", None),
        ("b@y.example", "a@x.example", "", "mx", 5),
        ("b@y.example", "a@x.example", "carl", "mx", 5),
        ("b@y.example", "a@x.example", "carl", "submission", 4),
        ("b@y.example", "a@z.example", "carl", "submission", 5),
        ("b@sub.y.example", "a@x.example", "", "submission", 3),
        ("postmaster", "a@x.example", "ben", "", 2),
        ("postmaster", "a@x.example", "", "", None),
    ],
)
def test_the_first_route_whose_conditions_hold(
    recipient: str, mail_from: str, user: str, listener: str, route: int | None
) -> None:
    for _ in range(2):  # also when it is remembered
        assert BOOK.group([recipient], mail_from, user, listener) == {route: [recipient]}


def test_recipients_of_one_message_on_several_routes() -> None:
    people = ["a@vip.example", "b@y.example", "c@vip.example", "d@nowhere.example", "a@vip.example"]
    assert BOOK.group(people, "", "", "mx") == {
        0: ["a@vip.example", "c@vip.example"],
        5: ["b@y.example"],
        None: ["d@nowhere.example"],
    }


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nexthop, "_CHOICES_MAX", 3)
    book = RouteBook([Match(["*"], users=[f"u{number}"]) for number in range(20)])
    for number in range(20):
        assert book.group(["b@y.example"], "", f"u{number}", "") == {number: ["b@y.example"]}
    assert len(book._choices) <= 3


def routing(*routes: dict[str, Any]) -> Routing:
    return Routing([Route.model_validate(route) for route in routes], "me.example", NOBODY)


def test_attempts_are_of_one_domain_for_exchangers_and_never_too_large() -> None:
    people = [f"{number}@{domain}" for number in range(120) for domain in ("y.example", "Y.example.", "z.example")]
    envelope = Entry(id="1", received_at=1.0, mail_from="a@x.example", rcpt_to=people)
    parts = routing({"transport": "mx"}).split(envelope, people)
    assert sorted(len(some) for _, some in parts) == [20, 40, 100, 100, 100]
    for _, some in parts:
        assert len({one.rpartition("@")[2].lower().removesuffix(".") for one in some}) == 1
    assert sorted(one for _, some in parts for one in some) == sorted(people)
    (part,) = routing({"transport": "discard"}).split(envelope, people)
    assert part[1] == people
