"""The backend `file`: yes and no, and a file that changes under it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mta_front.policy.auth.backend import User
from mta_front.policy.auth.decoys import Decoys
from mta_front.policy.auth.file import LOOK_AGAIN_S, FileUsers, UsersFileError
from mta_front.policy.auth.offload import Threads
from mta_front.policy.auth.passwords import PasswordBackend
from mta_front.smtp.credentials import Credentials
from tests.policy.auth.people import CHEAP_ARGON2, PASSWORD, SCRAM_KEYS, SESSION, cram, plain


class Watched:
    """A backend on a file, a clock of the test's, and what was reported."""

    def __init__(self, path: Path, *, certificates: bool = False) -> None:
        self.now = 0.0
        self.reports: list[str] = []
        users = FileUsers(
            path,
            Decoys(lambda: b"fleet"),
            certificates=certificates,
            report=self.reports.append,
            clock=lambda: self.now,
        )
        self.backend = PasswordBackend("file", users, Threads(1, 10))

    def knows(self, username: str, password: str = PASSWORD) -> bool:
        return self.backend.verify(plain(username, password), SESSION) is not None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(f"ann:{CHEAP_ARGON2}:ann@example.net\nbob:{SCRAM_KEYS}\neve:{{PLAIN}}{PASSWORD}\n")
    return path


def test_yes_and_no(path: Path) -> None:
    watched = Watched(path)
    verify = watched.backend.verify
    assert verify(plain("ann"), SESSION) == User("ann", ("ann@example.net",))
    assert verify(plain("bob", method="LOGIN"), SESSION) == User("bob"), "SCRAM keys verify a password too"
    assert verify(plain("eve"), SESSION) == User("eve")
    for username in ("ann", "bob", "eve", "nobody", "Ann", "ann "):
        assert verify(plain(username, "wrong"), SESSION) is None
        assert verify(plain(username, ""), SESSION) is None
    assert verify(plain("nobody"), SESSION) is None


def test_each_mechanism_has_what_it_needs(path: Path) -> None:
    backend = Watched(path).backend
    assert backend.methods == {"PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}
    assert backend.verify(cram("eve"), SESSION) == User("eve")
    assert backend.verify(cram("eve", "wrong"), SESSION) is None
    assert backend.verify(cram("ann"), SESSION) is None, "a hash is no password"
    assert backend.verify(cram("nobody"), SESSION) is None
    assert backend.scram_keys("bob", SESSION) is not None
    assert backend.scram_keys("ann", SESSION) is None
    assert backend.scram_keys("nobody", SESSION) is None
    path.write_text(f"ann:{CHEAP_ARGON2}\n")
    assert Watched(path).backend.methods == {"PLAIN", "LOGIN"}
    path.write_text("# nobody yet\n")
    assert Watched(path).backend.methods == frozenset()


def test_a_certificate_logs_in_only_where_that_is_wanted(path: Path) -> None:
    assert "EXTERNAL" not in Watched(path).backend.methods
    backend = Watched(path, certificates=True).backend
    assert "EXTERNAL" in backend.methods
    assert backend.verify(Credentials("EXTERNAL", "ann"), SESSION) == User("ann", ("ann@example.net",))
    assert backend.verify(Credentials("EXTERNAL", "mallory"), SESSION) is None


def test_it_is_read_again_when_it_changes(path: Path) -> None:
    watched = Watched(path)
    assert not watched.knows("new")
    path.write_text(f"new:{CHEAP_ARGON2}\n")
    watched.now += LOOK_AGAIN_S / 2
    assert not watched.knows("new"), "looked at once a second, not more often"
    watched.now += LOOK_AGAIN_S / 2
    assert watched.knows("new")
    assert not watched.knows("ann")
    assert watched.backend.methods == {"PLAIN", "LOGIN"}
    assert watched.reports == [f"{path}: read again, 1 users"]


def test_methods_notice_a_change_though_nobody_can_log_in(path: Path) -> None:
    """Else an empty file would stay empty: no mechanism, no login, no look."""
    path.write_text("")
    watched = Watched(path)
    path.write_text(f"new:{CHEAP_ARGON2}\n")
    watched.now += LOOK_AGAIN_S
    assert watched.backend.methods == {"PLAIN", "LOGIN"}


def test_a_swapped_symlink_counts(tmp_path: Path) -> None:
    """As a Kubernetes Secret is swapped: the file's own name never changes."""
    for name, users in (("1", "old"), ("2", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "users").write_text(f"{users}:{CHEAP_ARGON2}\n")
        os.utime(tmp_path / name / "users", (1, 1))
    (tmp_path / "data").symlink_to("1")
    (tmp_path / "users").symlink_to("data/users")
    watched = Watched(tmp_path / "users")
    assert watched.knows("old")
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").replace(tmp_path / "data")
    watched.now += LOOK_AGAIN_S
    assert watched.knows("new")
    assert not watched.knows("old")


@pytest.mark.parametrize("broken", [b"hunter22\n", b"ann:hunter22\n", b"\xff\xfe"])
def test_a_faulty_file_changes_nothing_and_is_reported_once(path: Path, broken: bytes) -> None:
    watched = Watched(path)
    path.write_bytes(broken)
    for _ in range(3):
        watched.now += LOOK_AGAIN_S
        assert watched.knows("ann")
    (report,) = watched.reports
    assert report.startswith(str(path))
    assert report.endswith("the users of before go on")
    assert "hunter22" not in report
    path.write_text(f"new:{CHEAP_ARGON2}\n")
    watched.now += LOOK_AGAIN_S
    assert watched.knows("new")


def test_a_file_that_went_away_changes_nothing_until_it_is_back(path: Path) -> None:
    watched = Watched(path)
    kept = path.read_bytes()
    path.unlink()
    for _ in range(2):
        watched.now += LOOK_AGAIN_S
        assert watched.knows("ann")
    assert watched.reports == [f"{path}: cannot be read: No such file or directory; the users of before go on"]
    path.write_bytes(kept.replace(b"ann", b"anna"))
    watched.now += LOOK_AGAIN_S
    assert watched.knows("anna")


def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsersFileError, match="cannot be read: No such file"):
        Watched(tmp_path / "none")
    (tmp_path / "users").write_text("hunter22\nann:{MD5}hunter22\n")
    with pytest.raises(UsersFileError) as raised:
        Watched(tmp_path / "users")
    assert len(raised.value.faults) == 2
    assert "hunter22" not in str(raised.value)
