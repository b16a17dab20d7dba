"""What people see of limits, and bans."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gevent
import pytest

from mta_front.store.errors import StoreError
from mta_front.store.keys import LimitKeys
from mta_front.store.limits.admin import Inspector
from mta_front.store.limits.items import Ban, Count, Lockout
from mta_front.store.limits.rules import AtOnce, AuthRules, Rate
from mta_front.store.limits.shared import Limits
from tests.store.limits.parts import a_rate, options_of, who
from tests.store.parts import until
from tests.stores import Store

RULES: list[Any] = [
    AtOnce("address", 5),
    AtOnce("user", 5),
    AtOnce("fleet", 50),
    a_rate("messages", "user", "10/1h"),
    a_rate("messages", "address", "100/1h"),
    AuthRules(Rate.parse("10/10m"), Rate.parse("10/10m"), Rate.parse("2/10m")),
]


@pytest.fixture
def inspector(store: Store) -> Iterator[Inspector]:
    """One on `store`, with the rules above."""
    with closing(Inspector(options_of(store, *RULES))) as made:
        yield made


def test_a_ban_holds_at_once_and_everywhere_until_its_end(
    store: Store, make_limits: Callable[..., Limits], inspector: Inspector
) -> None:
    limits = make_limits(store, *RULES)
    assert limits.connected(who(1)).allowed
    ban = inspector.ban("address", "192.0.2.0/24", "spam\r\nfrom here", 1.0)
    assert (ban.key, ban.reason) == ("192.0.2.0/24", "spam\r\nfrom here")
    assert ban.ends_at - ban.begun_at == pytest.approx(1.0)
    assert abs(ban.begun_at - time.time()) < 5
    refused = limits.connected(who(2))
    assert (refused.allowed, refused.rule) == (False, "ban")
    assert limits.spend(who(1), "messages").rule == "ban", "also who is in already"
    assert limits.connected(who(3, "192.0.3.1")).allowed
    assert inspector.bans().items == (ban,)
    until(lambda: limits.connected(who(4)).allowed)
    assert inspector.bans().items == ()


def test_bans_of_networks_addresses_and_users(
    store: Store, make_limits: Callable[..., Limits], inspector: Inspector
) -> None:
    limits = make_limits(store, *RULES)
    inspector.ban("address", "2001:db8:1:2::99", "one client", 60)
    inspector.ban("address", "2001:db9::/32", "a network", 60)
    inspector.ban("user", "Älice", "a user", 60)
    assert limits.connected(who(1, "2001:db8:1:2::1")).rule == "ban", "a client is a /64"
    assert limits.connected(who(2, "2001:db8:1:3::1")).allowed
    assert limits.connected(who(3, "2001:db9:7::1")).rule == "ban"
    assert limits.authenticating(who(4), "älice").rule == "ban"
    assert limits.authenticating(who(5), "alice").allowed
    assert [ban.key for ban in inspector.bans(count=2).items] == ["2001:db8:1:2::/64", "2001:db9::/32"]
    rest = inspector.bans(inspector.bans(count=2).cursor, 2)
    assert ([ban.key for ban in rest.items], rest.cursor) == (["älice"], "")
    assert inspector.unban("user", "ÄLICE")
    assert not inspector.unban("user", "ÄLICE")
    assert limits.authenticating(who(6), "Älice").allowed


@pytest.mark.parametrize(
    ("subject", "key", "why"),
    [("address", "192.0.2.0/23", "/24"), ("address", "nobody", "no address"), ("user", "", "name"),
     ("domain", "x.example", '"address" or a "user"'), ("address", "192.0.2.1/24", "host bits")],
)  # fmt: skip
def test_what_cannot_be_banned(inspector: Inspector, subject: Any, key: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        inspector.ban(subject, key, "spam", 60)


def test_a_worker_that_lost_the_store_still_knows_who_is_banned(
    store: Store, make_limits: Callable[..., Limits], inspector: Inspector
) -> None:
    limits = make_limits(store, *RULES, lease_s=0.3)
    inspector.ban("address", "192.0.2.1", "spam", 60)
    until(lambda: limits._alone.bans)
    store.kill_now()
    until(lambda: limits.mode == "degraded")
    assert limits.connected(who(1)).rule == "ban"
    assert limits.connected(who(2, "192.0.2.2")).allowed


def test_what_is_counted_is_shown(store: Store, make_limits: Callable[..., Limits], inspector: Inspector) -> None:
    limits = make_limits(store, *RULES)
    for number in range(3):
        assert limits.connected(who(number)).allowed
    assert limits.authenticated(who(1), "alice", True).allowed
    assert limits.spend(who(1, user="alice"), "messages", 4).allowed
    for number in range(2):
        assert limits.authenticating(who(number), "bob").allowed
        limits.authenticated(who(number), "bob", False)
    shown = inspector.show("192.0.2.1")
    used = {item.rule: item.used for item in shown if isinstance(item, Count)}
    assert used["connections.per_address"] == 3
    assert used["messages.per_address"] == pytest.approx(4, abs=0.2)
    assert used["auth_failures.per_address"] == pytest.approx(2, abs=0.2)
    locked = [item for item in shown if isinstance(item, Lockout)]
    assert [(item.subject, item.key, item.stage) for item in locked] == [("pair", "192.0.2.1 bob", 1)]
    assert 50 < locked[0].ends_at - time.time() < 61
    assert {item.rule for item in inspector.show("alice") if isinstance(item, Count)} == {
        "connections.per_user",
        "messages.per_user",
    }
    assert [item.key for item in inspector.page("lockouts").items] == ["192.0.2.1 bob"]
    assert [(item.rule, item.key, item.used) for item in inspector.top("connections", 2)] in (
        [("connections.per_address", "192.0.2.1", 3), ("connections.fleet", "", 3)],
        [("connections.fleet", "", 3), ("connections.per_address", "192.0.2.1", 3)],
    )
    assert all(isinstance(item, Count) for item in inspector.page("auth_failures").items)
    assert inspector.show("192.0.2.77") == []
    with pytest.raises(ValueError, match="no such group"):
        inspector.page("nonsense")  # type: ignore[arg-type]


def test_pages_end_and_together_hold_everything(
    store: Store, make_limits: Callable[..., Limits], inspector: Inspector
) -> None:
    limits = make_limits(store, *RULES)
    for number in range(250):
        assert limits.connected(who(number, f"198.51.100.{number}")).allowed or number >= 50
        limits.closed(who(number))
        assert limits.spend(who(number, f"198.51.100.{number}"), "messages", number % 7 + 1).allowed
    seen, cursor, pages = set[str](), "", 0
    while True:
        page = inspector.page("messages", cursor, 50)
        assert len(page.items) < 200
        seen.update(item.key for item in page.items)
        pages += 1
        if not (cursor := page.cursor):
            break
    assert len(seen) == 250
    assert pages > 2
    assert [round(item.used) for item in inspector.top("messages", 5)] == [7] * 5


def test_dead_workers_are_not_counted(store: Store, make_limits: Callable[..., Limits], inspector: Inspector) -> None:
    limits = make_limits(store, *RULES, lease_s=0.3)
    assert limits.connected(who(1)).allowed
    assert [item for item in inspector.show("192.0.2.1") if isinstance(item, Ban | Count)]
    limits._life._greenlet.kill()
    gevent.sleep(0.3)
    assert inspector.show("192.0.2.1") == []
    assert inspector.top("connections") == []


def test_a_store_that_is_away_is_an_error(store: Store, inspector: Inspector) -> None:
    assert inspector.bans().items == ()
    store.kill_now()
    for _ in range(2):
        with pytest.raises(StoreError):
            inspector.bans()


def test_bans_come_in_pages_too(store: Store, inspector: Inspector) -> None:
    """Also where some end in the same millisecond, and others end while somebody reads."""
    keys = LimitKeys("mta")
    now_ms = int(time.time() * 1000)
    ends = {f"user:u{number:02}": now_ms + 60_000 + number // 7 for number in range(40)}
    store.ask("ZADD", keys.bans, *(word for name, end_ms in ends.items() for word in (end_ms, name)))
    seen, cursor = list[str](), ""
    while True:
        page = inspector.bans(cursor, 9)
        assert len(page.items) <= 9
        seen += [ban.key for ban in page.items if isinstance(ban, Ban)]
        if seen == [f"u{number:02}" for number in range(9)]:
            store.ask("ZREM", keys.bans, "user:u00", "user:u01")
        if not (cursor := page.cursor):
            break
    assert seen == [f"u{number:02}" for number in range(40)]


@pytest.mark.parametrize("cursor", ["x", "1", "-1.", "1.A", "1.%%%%", f"{1 << 64}.", "1.gA=="])
def test_what_is_no_cursor(inspector: Inspector, cursor: str) -> None:
    for group in ("bans", "messages"):
        with pytest.raises(ValueError, match="no cursor of ours"):
            inspector.page(group, cursor)


def test_keys_of_a_listener_alone_and_of_rates_that_are_no_more(
    store: Store, make_limits: Callable[..., Limits], inspector: Inspector
) -> None:
    old = make_limits(store, a_rate("messages", "user", "7/1h burst 3", scope="mx"))
    assert old.spend(who(1, user="a:b *?[x"), "messages", 2).allowed
    [item] = inspector.page("messages").items
    assert isinstance(item, Count)
    assert (item.rule, item.scope, item.limit, item.key) == ("messages.per_user", "mx", "7/1h burst 3", "a:b *?[x")
    assert item.used == pytest.approx(2, abs=0.1)
    assert inspector.show("a:b *?[x") == [], "today's rules do not count it"
