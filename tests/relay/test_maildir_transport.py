"""Delivery into a Maildir: what lies there, when it may be reported, and what is left when something goes wrong."""

from __future__ import annotations

import errno
import mailbox
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mta_front.relay.transports import maildir as maildir_module
from mta_front.relay.transports.discard import DiscardTransport
from mta_front.relay.transports.maildir import STALE_S, MaildirTransport
from mta_front.store.errors import StoreBodyGone, StoreDown
from tests.relay.attempts import Noted, Try, deliver, pieces

MESSAGE = (
    b"Received: from x\r\nSubject: y\r\n\r\n.dot\r\n8-bit \xe4\xff\r\n" + b"long " * 400 + b"\r\nbare\rcr and\nlf\r\n"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "mail"


@pytest.fixture
def transport(path: Path, noted: Noted) -> MaildirTransport:
    return MaildirTransport(path, "mx.example", noted)


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def test_the_message_lies_there_byte_for_byte(transport: MaildirTransport, path: Path, noted: Noted) -> None:
    deliver(transport, one := Try(["b@y.example", "c@z.example"], MESSAGE))
    assert one.kinds == ["delivered", "delivered"]
    (file,) = (path / "new").iterdir()
    head = b"Return-Path: <a@x.example>\r\nDelivered-To: b@y.example\r\nDelivered-To: c@z.example\r\n"
    assert file.read_bytes() == head + MESSAGE
    assert names(path / "tmp") == names(path / "cur") == []
    assert str(one.outcomes[0]) == f"250 2.0.0 {file.name}" if one.outcomes else False
    assert noted.attempts == [("maildir", "delivered", 2)]
    assert file.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mode & 0o777 == 0o700


def test_readers_of_maildirs_read_it(transport: MaildirTransport, path: Path) -> None:
    deliver(transport, Try(body=MESSAGE, mail_from=""))
    (message,) = mailbox.Maildir(path)
    assert message["Return-Path"] == "<>"
    assert message["Delivered-To"] == "b@y.example"
    assert message["Subject"] == "y"


def test_a_large_message_in_pieces(transport: MaildirTransport, path: Path) -> None:
    body = os.urandom(3_000_000)
    deliver(transport, Try(body=lambda: pieces(body, 65_536)))
    (file,) = (path / "new").iterdir()
    assert file.read_bytes().endswith(body)


def test_a_repeated_delivery_meets_its_own_file(transport: MaildirTransport, path: Path, noted: Noted) -> None:
    deliver(transport, one := Try(body=MESSAGE))
    again = MaildirTransport(path, "mx.example", noted)  # as after a crash
    for _ in range(2):
        one.reports = 0
        deliver(again, one)
        assert one.kinds == ["delivered"]
    assert len(names(path / "new")) == 1
    assert names(path / "tmp") == []


@pytest.mark.parametrize("flags", [":2,", ":2,S"])
def test_also_when_a_reader_has_looked_at_it(transport: MaildirTransport, path: Path, flags: str) -> None:
    deliver(transport, one := Try(body=MESSAGE))
    (file,) = (path / "new").iterdir()
    file.rename(path / "cur" / f"{file.name}{flags}")
    one.reports = 0
    deliver(transport, one)
    assert one.kinds == ["delivered"]
    assert names(path / "new") == []


def test_other_recipients_of_the_message_are_another_delivery(transport: MaildirTransport, path: Path) -> None:
    first = Try(["b@y.example"], MESSAGE)
    second = Try(["c@y.example"], MESSAGE)
    second.attempt.envelope.id = first.attempt.envelope.id
    deliver(transport, first, second)
    assert len(names(path / "new")) == 2


def test_many_at_once(transport: MaildirTransport, path: Path) -> None:
    tries = [Try(body=b"%d\r\n" % number) for number in range(100)]
    deliver(transport, *tries)
    assert {each.only.kind for each in tries} == {"delivered"}
    assert len(names(path / "new")) == 100


# -- durability --------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the disk, in order: the names of calls with the last part of the path."""
    seen: list[str] = []
    real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in ("fsync", "link", "unlink", "mkdir")}

    def place(file: int | str | Path) -> str:
        path = Path(f"/proc/self/fd/{file}").readlink() if isinstance(file, int) else Path(file)
        return path.name if path.name in ("new", "tmp", "cur", "mail", "deep") else f"{path.parent.name}/*"

    def noted(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            seen.append(f"{name} {' '.join(place(arg) for arg in args if not isinstance(arg, int) or name == 'fsync')}")
            return real[name](*args, **options)

        return call

    for name in real:
        monkeypatch.setattr(os, name, noted(name))
    return seen


def test_it_is_reported_only_when_it_would_survive_a_power_cut(
    transport: MaildirTransport, calls: list[str], path: Path
) -> None:
    one = Try(body=MESSAGE)
    passed_on = one.attempt.report

    def report(*args: Any) -> None:
        calls.append("report")
        passed_on(*args)

    one.attempt.report = report
    deliver(transport, one)
    made = calls.index("fsync tmp/*")
    assert set(calls[:made]) >= {"mkdir mail", "mkdir new", "fsync mail", "fsync deep"}
    assert calls[made:] == ["fsync tmp/*", "link tmp/* new/*", "fsync new", "unlink tmp/*", "report"]


def test_a_file_that_was_there_is_synced_into_its_directory_again(
    transport: MaildirTransport, calls: list[str]
) -> None:
    deliver(transport, one := Try(body=MESSAGE))
    del calls[:]
    one.reports = 0
    deliver(transport, one)
    assert calls.index("fsync new") > calls.index("link tmp/* new/*")


def test_the_hub_is_not_blocked_by_the_disk(
    transport: MaildirTransport, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    real, ours = os.fsync, threading.get_ident()
    blocked: list[bool] = []

    def slow(file: int) -> None:
        blocked.append(threading.get_ident() == ours)
        real(file)

    monkeypatch.setattr(os, "fsync", slow)
    deliver(transport, Try(body=MESSAGE))
    assert blocked
    assert not any(blocked)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "code"),
    [
        ("write", errno.ENOSPC, 452),
        ("write", errno.EDQUOT, 452),
        ("fsync", errno.EIO, 451),
        ("link", errno.EPERM, 451),
        ("open", errno.EACCES, 451),
    ],
)
def test_a_disk_that_refuses_defers(
    transport: MaildirTransport, path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int, code: int
) -> None:
    deliver(transport, Try())

    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        deliver(transport, one := Try(body=MESSAGE))
    assert one.kinds == ["deferred"]
    assert one.only.code == code
    assert os.strerror(error) in one.only.text
    assert names(path / "tmp") == []
    assert len(names(path / "new")) == 1
    one.reports = 0
    deliver(transport, one)
    assert one.kinds == ["delivered"]


def test_a_directory_that_cannot_be_made(tmp_path: Path, noted: Noted) -> None:
    (tmp_path / "file").write_text("")
    deliver(MaildirTransport(tmp_path / "file" / "mail", "mx.example", noted), one := Try())
    assert one.kinds == ["deferred"]


def test_a_maildir_that_was_taken_away_is_made_again(transport: MaildirTransport, path: Path) -> None:
    deliver(transport, Try())
    path.rename(path.with_name("elsewhere"))
    deliver(transport, one := Try())
    assert one.kinds == ["deferred"]
    deliver(transport, two := Try())
    assert two.kinds == ["delivered"]


def test_a_message_that_is_no_longer_ours_never_becomes_visible(transport: MaildirTransport, path: Path) -> None:
    deliver(transport, one := Try(body=lambda: pieces(MESSAGE, 100), may_finish=lambda: False))
    assert one.let_go
    assert names(path / "new") == names(path / "tmp") == []


@pytest.mark.parametrize(("error", "kind"), [(StoreDown("away"), "deferred"), (StoreBodyGone("gone"), "failed")])
def test_a_body_that_the_store_does_not_give(
    transport: MaildirTransport, path: Path, error: Exception, kind: str
) -> None:
    def body() -> Iterator[bytes]:
        yield b"first"
        yield b"second"
        raise error

    deliver(transport, one := Try(body=body))
    assert one.kinds == [kind]
    assert names(path / "new") == names(path / "tmp") == []


def test_a_bug_costs_one_attempt(transport: MaildirTransport, noted: Noted) -> None:
    def broken() -> Iterator[bytes]:
        raise ZeroDivisionError

    deliver(transport, one := Try(body=broken), two := Try())
    assert (one.kinds, two.kinds) == (["deferred"], ["delivered"])
    assert [type(fault) for fault in noted.faults] == [ZeroDivisionError]
    noted.faults.clear()


def test_what_crashes_left_in_tmp_is_removed_when_it_is_old(
    transport: MaildirTransport, path: Path, noted: Noted
) -> None:
    deliver(transport, Try())
    old, young = path / "tmp" / "old", path / "tmp" / "young"
    for file in (old, young):
        file.write_text("")
    past = time.time() - STALE_S - 1
    os.utime(old, (past, past))
    deliver(MaildirTransport(path, "mx.example", noted), Try())
    assert names(path / "tmp") == ["young"]


def test_names_have_no_slash_and_no_colon() -> None:
    one = Try()
    one.attempt.envelope.id = "../a:b"
    name = maildir_module.file_name(one.attempt.envelope, ["b@y"], "h")
    assert "/" not in name
    assert ":" not in name


# -- discard -----------------------------------------------------------------------------------------------------------


def test_discard() -> None:
    deliver(DiscardTransport(), one := Try(["b@y", "c@y"]), gone := Try(may_finish=lambda: False))
    assert one.kinds == ["delivered", "delivered"]
    assert gone.let_go
