"""`[limits]`, `[listeners.limits]` over it, and `[[limits.networks]]` over both: what holds, what is a fault, what is
remarked on.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mta_front.config import Settings, file_layer, finish, load
from mta_front.settings.limitfaults import remarks_of
from mta_front.settings.limitoptions import limit_options
from mta_front.settings.render import effective_toml
from mta_front.store.limits.rules import AtOnce, AuthRules, LimitOptions, PerTime, Rate, Rules
from mta_front.store.options import StoreOptions
from tests.config.test_faults import faults

LISTENER = "[[listeners]]\nname = 'mx'\n"


def settings(tmp_path: Path, text: str, **environ: str) -> Settings:
    """The settings in a file."""
    path = tmp_path / "f.toml"
    path.write_text(text, "utf-8")
    return load(path, {f"MTA_FRONT_{name}": value for name, value in environ.items()}, {})


def options(tmp_path: Path, text: str, **environ: str) -> LimitOptions:
    """What a worker would get."""
    said = settings(tmp_path, text, **environ)
    return limit_options(said, StoreOptions.of(said, "unix:///embedded"))


def by_name(rules: Rules | None) -> dict[str, Any]:
    """What the rules are, by their names: the limit or rate, and the scope where there is one."""
    assert rules is not None
    limits: dict[str, Any] = {rule.name: (rule.limit, rule.scope) for rule in rules.at_once}
    return limits | {rule.name: (str(rule.rate), rule.scope) for rule in rules.per_time}


def remarks(tmp_path: Path, text: str) -> list[str]:
    """As `check` would print them, without the file."""
    path = tmp_path / "f.toml"
    path.write_text(text, "utf-8")
    loaded = finish(file_layer(path), {}, {})
    found = remarks_of(loaded.settings, lambda key: loaded.tree.get(key) is not None)
    return [loaded.tree.line(key, words).replace(f"{tmp_path}/", "") for key, words in found]


class TestWhatHolds:
    """From tables to rules."""

    def test_defaults(self, tmp_path: Path) -> None:
        found = options(tmp_path, "")
        assert by_name(found.rules) == {
            "connections.per_address": (50, ""),
            "connections.per_user": (20, ""),
            "connection_rate.per_address": ("60/1m", ""),
            "messages.per_user": ("500/1h", ""),
            "recipients.per_user": ("2000/1h", ""),
            "failed_commands.per_address": ("600/10m", ""),
        }
        assert found.rules.auth == AuthRules(
            per_address=Rate(10, 600.0, 10),
            per_user=Rate(20, 600.0, 20),
            per_pair=Rate(5, 600.0, 5),
            known_address_days=30,
            lockout_s=(60.0, 300.0, 3600.0),
            tarpit_s=(0.5, 8.0),
            store_down="local",
        )
        assert found.exempt == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
        assert (found.ipv4_prefix, found.ipv6_prefix) == (32, 64)
        assert (found.timeout_ms, found.slow_ms, found.lease_s) == (250, 100, 30.0)

    def test_every_key(self, tmp_path: Path) -> None:
        text = """
        [limits]
        store_down = "closed"
        timeout_ms = 100
        slow_ms = 20
        lease_s = 10
        exempt = ["10.0.0.0/8"]
        ipv4_prefix = 24
        ipv6_prefix = 48
        [limits.connections]
        per_address = 1
        per_user = 2
        per_listener = 3
        fleet = 4
        store_down = "open"
        [limits.connection_rate]
        per_address = "1/1s"
        per_user = "2/1m burst 7"
        per_listener = "3/1h"
        fleet = "4/1d"
        [limits.messages]
        per_address = "5/1s"
        per_user = "6/1s"
        per_domain = "7/1s"
        [limits.recipients]
        per_address = "8/1s"
        per_user = "9/1s"
        per_domain = "10/1s"
        [limits.bytes]
        per_address = "11/1s"
        per_user = "12/1s"
        per_domain = "13/1s"
        store_down = "local"
        [limits.failed_commands]
        per_address = "14/1s"
        [limits.handshakes]
        per_address = "15/1s"
        [limits.auth_failures]
        per_address = "16/1s"
        per_user = "17/1s"
        per_pair = "18/1s"
        known_address_days = 3
        lockout_s = [1, 2]
        tarpit_s = 0.25
        tarpit_max_s = 1
        """
        found = options(tmp_path, text)
        rules = found.rules
        assert rules.at_once == (
            AtOnce("address", 1, "open"),
            AtOnce("user", 2, "open"),
            AtOnce("listener", 3, "open"),
            AtOnce("fleet", 4, "open"),
        )
        assert rules.per_time[:4] == (
            PerTime("connection_rate", "address", Rate(1, 1.0, 1), "closed"),
            PerTime("connection_rate", "user", Rate(2, 60.0, 7), "closed"),
            PerTime("connection_rate", "listener", Rate(3, 3600.0, 3), "closed"),
            PerTime("connection_rate", "fleet", Rate(4, 86_400.0, 4), "closed"),
        )
        assert [(rule.name, rule.rate.count) for rule in rules.per_time[4:]] == [
            ("messages.per_address", 5),
            ("messages.per_user", 6),
            ("messages.per_domain", 7),
            ("recipients.per_address", 8),
            ("recipients.per_user", 9),
            ("recipients.per_domain", 10),
            ("bytes.per_address", 11),
            ("bytes.per_user", 12),
            ("bytes.per_domain", 13),
            ("failed_commands.per_address", 14),
            ("handshakes.per_address", 15),
        ]
        assert {rule.group: rule.store_down for rule in rules.per_time}["bytes"] == "local"
        assert rules.auth is not None
        assert (rules.auth.known_address_days, rules.auth.lockout_s) == (3, (1.0, 2.0))
        assert (rules.auth.tarpit_s, rules.auth.store_down) == ((0.25, 1.0), "closed")
        assert found.exempt == (ip_network("10.0.0.0/8"),)
        assert (found.ipv4_prefix, found.ipv6_prefix) == (24, 48)
        assert (found.timeout_ms, found.slow_ms, found.lease_s) == (100, 20, 10.0)

    def test_none_is_none(self, tmp_path: Path) -> None:
        text = """
        [limits]
        exempt = []
        connections = { per_address = 0, per_user = 0 }
        connection_rate.per_address = ""
        messages.per_user = ""
        recipients.per_user = ""
        failed_commands.per_address = ""
        auth_failures = { per_address = "", per_user = "", per_pair = "" }
        """
        found = options(tmp_path, text)
        assert found.rules == Rules()
        assert found.exempt == ()

    def test_environment(self, tmp_path: Path) -> None:
        environ = {
            "LIMITS__CONNECTIONS__PER_ADDRESS": "7",
            "LIMITS__MESSAGES__PER_USER": "1/1s burst 2",
            "LIMITS__EXEMPT": '["192.0.2.0/24"]',
        }
        found = options(tmp_path, "", **environ)
        assert by_name(found.rules)["connections.per_address"] == (7, "")
        assert by_name(found.rules)["messages.per_user"] == ("1/1s burst 2", "")
        assert found.exempt == (ip_network("192.0.2.0/24"),)

    def test_a_listener_goes_over_it_key_by_key_and_counts_alone(self, tmp_path: Path) -> None:
        text = f"""
        [limits.connections]
        per_listener = 100
        fleet = 1000
        store_down = "open"
        {LISTENER}
        [listeners.limits.connections]
        per_address = 5
        per_listener = 10
        [listeners.limits.messages]
        per_user = ""
        store_down = "closed"
        per_domain = "1/1s"
        [listeners.limits.auth_failures]
        per_pair = "3/1m"
        [[listeners]]
        name = 'other'
        bind = ['127.0.0.1:1']
        """
        found = options(tmp_path, text)
        mx, other = found.rules_for("mx", "192.0.2.1"), found.rules_for("other", "192.0.2.1")
        assert by_name(mx) == {
            "connections.per_address": (5, "mx"),
            "connections.per_user": (20, ""),
            "connections.per_listener": (10, ""),
            "connections.fleet": (1000, ""),
            "connection_rate.per_address": ("60/1m", ""),
            "messages.per_domain": ("1/1s", "mx"),
            "recipients.per_user": ("2000/1h", ""),
            "failed_commands.per_address": ("600/10m", ""),
        }
        assert mx is not None
        assert {rule.store_down for rule in mx.at_once} == {"open"}
        assert {rule.group: rule.store_down for rule in mx.per_time} == {
            "connection_rate": "local",
            "messages": "closed",
            "recipients": "local",
            "failed_commands": "local",
        }
        assert mx.auth is not None
        assert (mx.auth.per_pair, mx.auth.per_user, mx.auth.scope) == (Rate(3, 60.0, 3), Rate(20, 600.0, 20), "")
        assert by_name(other)["connections.per_listener"] == (100, "")
        assert by_name(other)["connections.per_address"] == (50, "")

    def test_a_network_goes_over_the_listener(self, tmp_path: Path) -> None:
        text = f"""
        {LISTENER}
        [listeners.limits.connections]
        per_address = 5
        per_listener = 10
        [listeners.limits.messages]
        per_address = "5/1s"
        [[limits.networks]]
        networks = ["192.0.2.0/24", "2001:db8::/32"]
        [limits.networks.connections]
        per_address = 500
        [limits.networks.connection_rate]
        per_address = ""
        [[limits.networks]]
        networks = ["192.0.0.0/16"]
        [limits.networks.connections]
        per_address = 0
        """
        found = options(tmp_path, text)
        for address in ("192.0.2.9", "2001:db8::9", "::ffff:192.0.2.9"):
            rules = by_name(found.rules_for("mx", address))
            assert rules["connections.per_address"] == (500, "")
            assert rules["connections.per_listener"] == (10, "")
            assert rules["messages.per_address"] == ("5/1s", "mx")
            assert "connection_rate.per_address" not in rules
        assert "connections.per_address" not in by_name(found.rules_for("mx", "192.0.3.1"))
        assert by_name(found.rules_for("mx", "198.51.100.1"))["connections.per_address"] == (5, "mx")
        assert by_name(found.rules_for("mx", "192.0.2.9", trusted=False))["connections.per_address"] == (5, "mx")
        assert found.rules_for("mx", "127.0.0.1") is None


class TestWhere:
    """Which Redis has the counts."""

    def test_the_store(self, tmp_path: Path) -> None:
        found = options(tmp_path, "[store]\nurl = 'redis://u:pw@h:1/0'\nprefix = 'x'\n")
        assert (found.store.url, found.store.username, found.store.password) == ("unix:///embedded", "u", "pw")
        assert found.store.prefix == "x"

    def test_another(self, tmp_path: Path) -> None:
        text = "[store]\nurl = 'redis://u:pw@h:1/0'\nprefix = 'x'\n[limits]\nurl = 'redis://v:hunter2@k:2/1'\n"
        found = options(tmp_path, text)
        assert (found.store.url, found.store.username) == ("redis://k:2/1", "v")
        assert (found.store.password, found.store.prefix) == ("hunter2", "x")

    def test_another_without_a_password_is_not_shown_the_stores(self, tmp_path: Path) -> None:
        found = options(tmp_path, "[store]\nurl = 'redis://u:pw@h:1/0'\n[limits]\nurl = 'redis://k:2/1'\n")
        assert (found.store.username, found.store.password) == ("", "")

    def test_password_file(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("hunter2\n")
        found = options(tmp_path, f"[limits]\nurl = 'redis://k:2/1'\npassword_file = '{tmp_path}/secret'\n")
        assert found.store.password == "hunter2"

    @pytest.mark.parametrize(
        "text",
        [
            "[limits]\nurl = 'redis://v:hunter2@k:2/1'\n",
            "[limits]\nurl = 'redis://k:2/1'\npassword = 'hunter2'\n",
        ],
    )
    def test_secrets_are_not_shown(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "f.toml"
        path.write_text(text)
        loaded = finish(file_layer(path), {}, {})
        shown = effective_toml(loaded.settings, loaded.tree)
        assert 'url = "redis://k:2/1"' in shown
        assert "hunter2" not in shown + repr(loaded.settings)

    def test_secrets_are_in_no_fault(self, tmp_path: Path) -> None:
        [line] = faults(tmp_path / "f.toml", "[limits]\nurl = 'http://v:hunter2@k:2/1'\n")
        assert "limits.url" in line
        assert "hunter2" not in line


RATE = 'must be COUNT/PERIOD as in "60/1m" or "60/1m burst 10"; units are s, m, h, d'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("messages.per_user = '500'", f'limits.messages.per_user = "500": {RATE}'),
        ("messages.per_user = '500/h'", f'limits.messages.per_user = "500/h": {RATE}'),
        ("messages.per_user = '500/1w'", f'limits.messages.per_user = "500/1w": {RATE}'),
        ("messages.per_user = '-5/1h'", f'limits.messages.per_user = "-5/1h": {RATE}'),
        ("messages.per_user = '5/1h burst'", f'limits.messages.per_user = "5/1h burst": {RATE}'),
        ("messages.per_user = 500", "limits.messages.per_user = 500: must be text in quotes"),
        (
            "messages.per_users = '1/1s'",
            "limits.messages.per_users: unknown key; did you mean limits.messages.per_user?",
        ),
        (
            "connections.per_address = -1",
            "limits.connections.per_address = -1: must be a whole number from 0 to 10000000",
        ),
        (
            "connections.per_address = '5/1m'",
            'limits.connections.per_address = "5/1m": must be a whole number from 0 to 10000000',
        ),
        ("store_down = 'deny'", 'limits.store_down = "deny": must be "open", "closed" or "local"'),
        (
            "bytes.store_down = 'deny'",
            'limits.bytes.store_down = "deny": must be "", "open", "closed" or "local"',
        ),
        ("ipv6_prefix = 129", "limits.ipv6_prefix = 129: must be a whole number from 16 to 128"),
        ("timeout_ms = 0", "limits.timeout_ms = 0: must be a whole number from 10 to 10000"),
        ("exempt = ['10.0.0.1/8']", 'limits.exempt[0] = "10.0.0.1/8": must have no bits set after its prefix; did you'),
        ("auth_failures.lockout_s = []", "limits.auth_failures.lockout_s = []: must be a list with something in it"),
        ("auth_failures.lockout_s = [5, 4]", "limits.auth_failures.lockout_s = [5, 4]: must not become shorter"),
        (
            "auth_failures.tarpit_s = 9",
            "limits.auth_failures.tarpit_s = 9: would make the first failure wait longer, 9 s, than any, 8 s",
        ),
        (
            "auth_failures.tarpit_max_s = 0.25",
            "limits.auth_failures.tarpit_max_s = 0.25: would make the first failure wait longer, 0.5 s, than any",
        ),
        ("slow_ms = 300", "limits.slow_ms = 300: must be at most timeout_ms, 250"),
        ("networks = [{}]", "limits.networks[0].networks: must name at least one network"),
        (
            "networks = [{ networks = ['10.0.0.0/8'], connections.fleet = 3 }]",
            "limits.networks[0].connections.fleet: unknown key; did you mean limits.connections.fleet?",
        ),
        (
            "networks = [{ networks = ['10.0.0.0/8'], auth_failures.tarpit_max_s = 0.1 }]",
            "limits.networks[0].auth_failures.tarpit_max_s = 0.1: would make the first failure wait longer, 0.5 s",
        ),
    ],
)
def test_faults(tmp_path: Path, text: str, fault: str) -> None:
    [line] = faults(tmp_path / "f.toml", f"[limits]\n{text}")
    assert line.startswith(f"f.toml:2: {fault}")


def test_a_fault_of_a_listener(tmp_path: Path) -> None:
    text = f"{LISTENER}[listeners.limits.connections]\nper_address = 'x'\nfleet = 3\n"
    assert faults(tmp_path / "f.toml", text) == [
        'f.toml:4: listeners[0].limits.connections.per_address = "x": must be a whole number from 0 to 10000000',
        "f.toml:5: listeners[0].limits.connections.fleet: unknown key; did you mean limits.connections.fleet?",
    ]


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("exempt = ['0.0.0.0/0']", 'limits.exempt[0] = "0.0.0.0/0": exempts everybody: no limit holds for any of them'),
        ("username = 'x'", 'limits.username = "x": has no use without url: the store\'s own are used'),
        (
            "connections.per_user = 0",
            "limits.connections.per_user = 0: means no limit: one client may take every session",
        ),
        (
            "networks = [{ networks = ['127.0.1.0/24'] }]",
            'limits.networks[0].networks[0] = "127.0.1.0/24": is never used: 127.0.0.0/8 comes first',
        ),
        (
            "networks = [{ networks = ['192.0.2.0/24', '192.0.2.7'] }]",
            'limits.networks[0].networks[1] = "192.0.2.7": is never used: 192.0.2.0/24 comes first',
        ),
        (
            "networks = [{ networks = ['2001:db8::1'] }]",
            (
                'limits.networks[0].networks[0] = "2001:db8::1": is less than one client, by ipv6_prefix: it is '
                "counted with its neighbours"
            ),
        ),
        (
            "connections.per_address = 41\nconnections.fleet = 40",
            "limits.connections.per_address = 41: is never reached: limits.connections.fleet is 40",
        ),
        (
            "bytes.per_user = '1000/1s burst 52428799'",
            (
                'limits.bytes.per_user = "1000/1s burst 52428799": a message of size_bytes of mx, 52428800, never '
                "passes: at most 52428799 octets do at once"
            ),
        ),
        ("bytes.per_user = '60000000/1h'", ""),
        ("", ""),
    ],
)
def test_remarks(tmp_path: Path, text: str, remark: str) -> None:
    assert remarks(tmp_path, f"[limits]\n{text}\n{LISTENER}") == ([f"f.toml:2: {remark}"] if remark else [])


def test_limits_of_users_where_nobody_can_log_in(tmp_path: Path) -> None:
    text = f"{LISTENER}auth_methods = []\n[listeners.limits.bytes]\nper_user = '100000000/1h'\n[limits.messages]\n"
    assert remarks(tmp_path, f"{text}per_user = '5/1m'\nper_address = '5/1m'\n") == [
        'f.toml:7: limits.messages.per_user = "5/1m": counts nobody: no listener has a login',
        'f.toml:5: listeners[0].limits.bytes.per_user = "100000000/1h": counts nobody: no listener has a login',
    ]
    assert remarks(tmp_path, f"{LISTENER}auth_methods = []\n") == []


@pytest.mark.parametrize("key", ["use_xclient", "use_xforward"])
def test_a_mail_proxy_that_is_limited_as_one_client(tmp_path: Path, key: str) -> None:
    text = f"{LISTENER}{key} = ['127.0.0.1', '10.0.0.0/8', '192.0.2.0/24']\n[[limits.networks]]\n"
    words = "is not in limits.exempt: all that a mail proxy passes on counts as one client's"
    assert remarks(tmp_path, f"{text}networks = ['10.0.0.0/8']\n") == [
        f'f.toml:3: listeners[0].{key}[2] = "192.0.2.0/24": {words}'
    ]
