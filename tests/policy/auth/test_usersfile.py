"""The users file: what its lines may be, what is said of those that may not, and how one line is replaced."""

from __future__ import annotations

import pytest

from mta_front.policy.auth import usersfile
from tests.policy.auth.people import CHEAP_ARGON2, PASSWORD, SCRAM_KEYS

RFC_5803 = (
    "{SCRAM-SHA-256}SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0$kn4rLc4DMj4j6Bm6cE3e2gYJuBaywTAJWOdxjvJPNk0="
    ":9Y+DR3RvQoiKbbEvAXfFQuvtSAJQ/NB9rc9Avro2ekY="
)


def test_a_whole_file() -> None:
    users = usersfile.parse(
        "# our people\n"
        "\n"
        f"ann:{CHEAP_ARGON2}\n"
        f"bob@example.net:{SCRAM_KEYS}:bob@example.net, sales@example.net,*@lists.example.net\r\n"
        f"eve:{RFC_5803}:eve@example.net\n"
        f"jürgen:{CHEAP_ARGON2}::::::\n"
        f"old:{CHEAP_ARGON2}:1000:1000::/home/old::userdb_quota_rule=*:storage=1G userdb_x=y\n"
        f"last:{{PLAIN}}{PASSWORD}",
        "users",
    )
    assert users.faults == ()
    assert {name: entry.addresses for name, entry in users.entries.items()} == {
        "ann": (),
        "bob@example.net": ("bob@example.net", "sales@example.net", "*@lists.example.net"),
        "eve": ("eve@example.net",),
        "jürgen": (),
        "old": (),
        "last": (),
    }
    assert all(entry.password.matches(PASSWORD) for entry in users.entries.values())
    assert users.entries["eve"].line == 5
    for entry in users.entries.values():
        assert usersfile.parse_line(entry.text()).name == entry.name


FAULTY = {
    "hunter22": "must be NAME:{SCHEME}HASH",
    ":{PLAIN}hunter22": "the name",
    " ann:{PLAIN}hunter22": "the name",
    "a\x07nn:{PLAIN}hunter22": "the name",
    "ann:hunter22": "the password of ann must begin with its scheme",
    "ann:{MD5}hunter22": "{MD5}",
    "ann:{PLAIN}hunter22:not an address": "an address of ann",
    "ann:{PLAIN}hunter22:*@*.example.net": "an address of ann",
    "ann:{PLAIN}hunter22:1:2": "after the password of ann",
    "ann:{PLAIN}hunter22:x:2::::": "after the password of ann",
    "ann:{PLAIN}hunter22:1:2::::nologin": "nologin",
    "ann:{PLAIN}hunter22:1:2::::allow_nets=10.0.0.0/8": "allow_nets",
}


@pytest.mark.parametrize(("line", "said"), FAULTY.items())
def test_a_fault_names_file_and_line_and_shows_no_secret(line: str, said: str) -> None:
    users = usersfile.parse(f"# one\nbob:{CHEAP_ARGON2}\n{line}\n", "/etc/users")
    (fault,) = users.faults
    assert fault.startswith("/etc/users:3: ")
    assert said in fault
    assert "hunter22" not in fault
    assert "10.0.0.0" not in fault
    assert list(users.entries) == ["bob"]


def test_a_user_stands_there_once() -> None:
    """Also when two ways to write the name are one to SASLprep."""
    users = usersfile.parse(f"bob²:{CHEAP_ARGON2}\nbob2:{CHEAP_ARGON2}\n", "users")
    assert users.faults == ("users:2: bob2 stands in line 1 already",)


BEFORE = "# head\nann:1\n\n# bob's\nbob:2\nann:again\nno end"


@pytest.mark.parametrize(
    ("text", "name", "line", "after"),
    [
        ("", "ann", "ann:new", "ann:new\n"),
        (BEFORE, "bob", "bob:new", "# head\nann:1\n\n# bob's\nbob:new\nann:again\nno end\n"),
        (BEFORE, "ann", "ann:new", "# head\nann:new\n\n# bob's\nbob:2\nno end\n"),
        (BEFORE, "eve", "eve:new", BEFORE + "\neve:new\n"),
        (BEFORE, "bob", None, "# head\nann:1\n\n# bob's\nann:again\nno end\n"),
        (BEFORE, "ann", None, "# head\n\n# bob's\nbob:2\nno end\n"),
        ("a\u2028b:1\nann:1\n", "ann", None, "a\u2028b:1\n"),
    ],
)
def test_one_line_is_replaced_and_all_others_stay(text: str, name: str, line: str | None, after: str) -> None:
    assert usersfile.replaced(text, name, line) == after


def test_nobody_cannot_be_removed() -> None:
    with pytest.raises(KeyError):
        usersfile.replaced(BEFORE, "head", None)
