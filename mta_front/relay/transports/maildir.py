r"""Delivery into a Maildir, durable before it is reported (https://cr.yp.to/proto/maildir.html).

    tmp/UNIQUE written ─ fsync ─ link to new/NAME ─ fsync of new ─ unlink tmp/UNIQUE ─> delivered

NAME is made of the message, not of the process: seconds of reception, id, a checksum of the recipients. A delivery that
is repeated after a crash meets its own file in `new` (or in `cur`, if a reader has only looked at it) and is done. In
`tmp` every writer has a name of its own, so two relays can try the same message at once.

The file holds `Return-Path:` and a `Delivered-To:` for each recipient, which the last hop adds (RFC 5321 §4.4), and
then the message byte for byte as it came: its line ends stay CRLF. Most readers of Maildirs (Dovecot, mutt, Python's
`mailbox`) read both; what matters here is that nothing of the message is changed.

Disks block, and a greenlet must not: files are written in threads.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
import zlib
from collections import deque
from pathlib import Path
from typing import Any

import gevent
from gevent.threadpool import ThreadPool

from mta_front.observe.events import Events
from mta_front.relay.attempt import Attempt
from mta_front.smtp.transaction import Outcome
from mta_front.store.entry import Entry
from mta_front.store.errors import StoreBodyGone, StoreError

WRITERS = 8
STALE_S = 36 * 3600.0
"""What has been in tmp for so long nobody is writing any more (the Maildir page says 36 hours)."""
FULL = (errno.ENOSPC, errno.EDQUOT)

_numbers = itertools.count()


class MaildirTransport:
    """One Maildir, made at the first delivery. `host` is the last part of the files' names."""

    name = "maildir"
    recipients_max = 1_000_000  # one file for a message, whoever it is for
    by_domain = False

    def __init__(self, path: Path, host: str, events: Events) -> None:
        self._path = path
        self._host = _name_part(host) or "localhost"
        self._events = events
        self._threads: Any = ThreadPool(WRITERS)
        self._waiting: deque[Attempt] = deque()
        self._writers = 0
        self._made = False

    def deliver(self, attempt: Attempt) -> None:
        """Take an attempt; a writer greenlet does it."""
        self._waiting.append(attempt)
        if self._writers < WRITERS:
            self._writers += 1
            gevent.spawn(self._write_all)

    def look(self, now: float) -> None:
        """Nothing to watch: the disk has no deadlines."""

    def close(self) -> None:
        """Nothing to close: writers end when there is nothing to write."""

    def _write_all(self) -> None:
        while self._waiting:
            attempt = self._waiting.popleft()
            began_at = time.monotonic()
            try:
                outcome = self._write(attempt)
            except Exception as error:  # noqa: BLE001 - a bug must not lose the attempt or the writer
                self._events.fault(error, "relay")
                outcome = Outcome("deferred", 451, "4.3.0 Local error")
            if outcome is None:
                attempt.report(attempt, None, self.name)
                continue
            count = len(attempt.recipients)
            self._events.attempted(self.name, outcome.kind, count, time.monotonic() - began_at)
            attempt.report(attempt, [outcome] * count, self.name)
        self._writers -= 1

    def _write(self, attempt: Attempt) -> Outcome | None:
        """Deliver; None: the message is no longer surely ours."""
        apply = self._threads.apply
        tmp = self._path / "tmp" / f"{time.time():.6f}.P{os.getpid()}Q{next(_numbers)}.{self._host}"
        name = file_name(attempt.envelope, attempt.recipients, self._host)
        written = False
        try:
            if not self._made:
                apply(make_maildir, (self._path,))
                self._made = True
            segments = iter(attempt.body())
            pieces = [headers(attempt.envelope.mail_from, attempt.recipients), next(segments, b"")]
            written = True
            file = apply(_create, (tmp,))
            try:
                for segment in segments:
                    apply(_write_pieces, (file, pieces))
                    pieces = [segment]
                apply(_write_last, (file, pieces))
            finally:
                os.close(file)
            if not attempt.may_finish():
                return None
            apply(_publish, (self._path, tmp, name))
        except StoreBodyGone:
            return Outcome("failed", 554, "5.3.0 The body of the message is lost")
        except StoreError as error:
            return Outcome("deferred", 451, f"4.3.0 No body from the store: {error.reason}")
        except OSError as error:
            if error.errno == errno.ENOENT:
                self._made = False  # somebody took the directory away
            code, enhanced = (452, "4.3.1") if error.errno in FULL else (451, "4.3.0")
            return Outcome("deferred", code, f"{enhanced} {self._path}: {error.strerror}")
        finally:
            if written:
                with contextlib.suppress(OSError):
                    apply(tmp.unlink, (True,))
        return Outcome("delivered", 250, f"2.0.0 {name}")


def file_name(envelope: Entry, recipients: list[str], host: str) -> str:
    """The same for every attempt at this message for these recipients."""
    checksum = zlib.crc32("\0".join(recipients).encode("utf-8", "surrogateescape"))
    return f"{int(envelope.received_at)}.I{_name_part(envelope.id)}R{checksum:08x}.{host}"


def headers(mail_from: str, recipients: list[str]) -> bytes:
    """What the last hop adds on top."""
    lines = [f"Return-Path: <{mail_from}>\r\n", *(f"Delivered-To: {recipient}\r\n" for recipient in recipients)]
    return "".join(lines).encode("utf-8", "surrogateescape")


def make_maildir(path: Path) -> None:
    """Make tmp, new and cur where they are missing, durably; remove what crashes left in tmp."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("tmp", "new", "cur"):
        (path / name).mkdir(mode=0o700, exist_ok=True)
    _sync_directory(path)
    _sync_directory(path.parent)
    oldest_at = time.time() - STALE_S
    for file in (path / "tmp").iterdir():
        try:
            if file.stat().st_mtime < oldest_at:
                file.unlink()
        except FileNotFoundError:
            continue


def _name_part(text: str) -> str:
    r"""As the Maildir page says: "/" is \057, ":" is \072 (it begins the flags)."""
    return text.replace("/", "\\057").replace(":", "\\072")


def _create(tmp: Path) -> int:
    return os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write_pieces(file: int, pieces: list[bytes]) -> None:
    rest = memoryview(b"".join(pieces))
    while rest:
        rest = rest[os.write(file, rest) :]


def _write_last(file: int, pieces: list[bytes]) -> None:
    _write_pieces(file, pieces)
    os.fsync(file)


def _publish(path: Path, tmp: Path, name: str) -> None:
    """Make the file visible under its name, durably. If it is there already, it is this message: it was synced then."""
    seen = path / "cur" / name
    if not any(Path(f"{seen}{flags}").exists() for flags in (":2,", ":2,S")):
        with contextlib.suppress(FileExistsError):
            os.link(tmp, path / "new" / name)
    _sync_directory(path / "new")


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
