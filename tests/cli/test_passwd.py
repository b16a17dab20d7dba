"""What `mta-front passwd` does with passwords and users files."""

from __future__ import annotations

import io
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from mta_front import passwd
from mta_front.passwd import PasswdError
from mta_front.policy.auth import usersfile
from tests.policy.auth.people import CHEAP_ARGON2

CHEAP = "scram-sha-256"  # 5 ms


@pytest.mark.parametrize("scheme", passwd.SCHEMES)
def test_a_line_that_lets_the_user_in(scheme: str) -> None:
    line = passwd.line_of("ann@example.net", "pässword", scheme, ["ann@example.net", "*@a.example,@b.example"])
    entry = usersfile.parse_line(line)
    assert entry.name == "ann@example.net"
    assert entry.password.matches("pässword")
    assert entry.addresses == ("ann@example.net", "*@a.example", "@b.example")
    assert ("pässword" in line) is (scheme == "plain")


def test_argon2id_is_what_one_gets() -> None:
    assert passwd.line_of("ann", "secret").startswith("ann:{ARGON2ID}$argon2id$")


@pytest.mark.parametrize(
    ("name", "password", "scheme", "addresses"),
    [
        ("", "hunter22", CHEAP, []),
        ("a:b", "hunter22", CHEAP, []),
        ("#a", "hunter22", CHEAP, []),
        ("a\nb", "hunter22", CHEAP, []),
        ("ann", "", CHEAP, []),
        ("ann", "hunter22\nx", CHEAP, []),
        ("ann", "hunter22" * 200, CHEAP, []),
        ("ann", "hunter22:", "plain", []),
        ("ann", "hunter22" * 10, "bcrypt", []),
        ("ann", "hunter22", "md5", []),
        ("ann", "hunter22", CHEAP, ["everything"]),
    ],
)
def test_what_it_refuses(name: str, password: str, scheme: str, addresses: list[str]) -> None:
    with pytest.raises(PasswdError) as raised:
        passwd.line_of(name, password, scheme, addresses)
    assert raised.value.code == 64
    assert "hunter22" not in str(raised.value)


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "users"
    line = passwd.line_of("ann", "secret", CHEAP)
    previous = os.umask(0)
    try:
        assert passwd.set_user(file, line) is False
    finally:
        os.umask(previous)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == line + "\n"


BEFORE = f"# people\nann:{CHEAP_ARGON2}:ann@example.net\n\n# the boss\nbob:{CHEAP_ARGON2}\nfaulty\n"


def test_one_user_changes_and_all_else_stays(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(BEFORE)
    assert passwd.set_user(file, passwd.line_of("ann", "new", CHEAP)) is True
    lines = file.read_text().split("\n")
    entry = usersfile.parse_line(lines[1])
    assert entry.password.matches("new")
    assert entry.addresses == ("ann@example.net",), "kept, since no others were given"
    assert [lines[0], *lines[2:]] == [part for n, part in enumerate(BEFORE.split("\n")) if n != 1]
    passwd.set_user(file, passwd.line_of("ann", "new", CHEAP, ["other@example.net"]))
    assert usersfile.parse_line(file.read_text().split("\n")[1]).addresses == ("other@example.net",)
    passwd.delete_user(file, "bob")
    assert [line.partition(":")[0] for line in file.read_text().split("\n")] == [
        *["# people", "ann", "", "# the boss", "faulty", ""]
    ]


def test_an_old_file_keeps_its_mode_but_for_others(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(BEFORE)
    file.chmod(0o644)
    passwd.delete_user(file, "bob")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    if os.getuid() == 0:
        os.chown(file, 12_345, 12_346)
        passwd.delete_user(file, "ann")
        assert (file.stat().st_uid, file.stat().st_gid) == (12_345, 12_346)


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "users").write_text(BEFORE)
    link = tmp_path / "users"
    link.symlink_to("real/users")
    passwd.delete_user(link, "ann")
    assert link.is_symlink()
    assert "ann:" not in (tmp_path / "real" / "users").read_text()


def test_nothing_changes_when_it_cannot(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(BEFORE)
    with pytest.raises(PasswdError, match="there is no user eve") as raised:
        passwd.delete_user(file, "eve")
    assert raised.value.code == 67
    with pytest.raises(PasswdError) as raised:
        passwd.set_user(tmp_path / "none" / "users", passwd.line_of("a", "b", CHEAP))
    assert raised.value.code == 73
    assert file.read_text() == BEFORE
    file.write_bytes(b"\xff")
    with pytest.raises(PasswdError, match="UTF-8"):
        passwd.delete_user(file, "ann")
    assert [path.name for path in tmp_path.iterdir()] == ["users"], "no temporary file is left"


def _add(file: Path, name: str) -> None:
    passwd.set_user(file, f"{name}:{CHEAP_ARGON2}")


def test_two_at_the_same_time_lose_nobody(tmp_path: Path) -> None:
    """Each in a process of its own, all at once; and whoever reads meanwhile sees a whole file."""
    file = tmp_path / "users"
    file.write_text("# people\n")
    forking = multiprocessing.get_context("spawn")
    started = [forking.Process(target=_add, args=(file, f"user{n}")) for n in range(6)]
    for process in started:
        process.start()
    while any(process.is_alive() for process in started):
        assert usersfile.parse(file.read_text(), "users").faults == ()
        for process in started:
            process.join(0.01)
    assert [process.exitcode for process in started] == [0] * 6
    assert usersfile.parse(file.read_text(), "users").entries.keys() == {f"user{n}" for n in range(6)}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_where_the_password_comes_from() -> None:
    assert passwd.read_password(io.StringIO("s3cret \r\nmore\n")) == "s3cret "
    assert passwd.read_password(io.StringIO("")) == ""
    answers = iter(["s3cret", "s3cret"])
    assert passwd.read_password(Terminal(), lambda prompt: next(answers)) == "s3cret"
    answers = iter(["hunter22", "hunter23"])
    with pytest.raises(PasswdError, match="not the same") as raised:
        passwd.read_password(Terminal(), lambda prompt: next(answers))
    assert "hunter" not in str(raised.value)
