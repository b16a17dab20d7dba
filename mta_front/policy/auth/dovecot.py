"""The backend `dovecot`: Dovecot's auth process, over its Unix socket (Dovecot's "Authentication Protocol", version 1).

One connection for all: requests are told apart by their ids, so a slow answer delays nobody else. It is opened when
somebody first logs in, and again after it was lost; who waited for an answer then is told that nobody knows. LOGIN is
asked as PLAIN, which says the same.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import secrets
import time
from typing import TYPE_CHECKING, Any

import gevent
from gevent import socket
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore

from mta_front.policy.auth.backend import PASSWORD_METHODS, Report, Unavailable, User, unheard
from mta_front.policy.auth.breaker import Breaker
from mta_front.smtp import base64text
from mta_front.smtp.secret import octets

if TYPE_CHECKING:
    from mta_front.hooks import Session
    from mta_front.smtp.credentials import Credentials

VERSION = ("1", "2")
_READ_BYTES = 8192
_MAX_LINE_BYTES = 65_536

Answer = list[str]


class DovecotBackend:
    """Asks Dovecot."""

    name = "dovecot"
    methods = PASSWORD_METHODS

    def __init__(
        self,
        path: str,
        *,
        service: str = "smtp",
        timeout_s: float = 10.0,
        failures: int = 5,
        open_s: float = 10.0,
        report: Report = unheard,
    ) -> None:
        """`service`: Dovecot's name for what we are. `timeout_s`: Dovecot answers a wrong password only after 2 s."""
        self._path = path
        self._service = service
        self._timeout_s = timeout_s
        self._report = report
        self._breaker = Breaker(failures, open_s)
        self._line: _Line | None = None

    def verify(self, credentials: Credentials, session: Session) -> User | None:
        """One request."""
        if not self._breaker.admits():
            raise Unavailable("auth.dovecot: does not answer, left alone for now")
        asked_at = math.inf
        try:
            with gevent.Timeout(self._timeout_s, Unavailable("no answer in time")):
                line = self._connected()
                asked_at = time.monotonic()
                answer = line.ask(self._request(credentials, session))
        except Unavailable as error:
            if self._line and self._line.heard_at < asked_at:  # frozen, not only slow with one of us
                self._line.close(error.reason)
            if self._breaker.failed():
                self._report(f"auth.dovecot: {error.reason}; left alone for a while")
            raise Unavailable(f"auth.dovecot: {error.reason}") from None
        if self._breaker.succeeded():
            self._report("auth.dovecot: answers again")
        return _user(answer)

    def close(self) -> None:
        """Close the connection."""
        if self._line:
            self._line.close("closed")

    def _request(self, credentials: Credentials, session: Session) -> Answer:
        secret = b"\0".join([b"", octets(credentials.username), octets(credentials.password)])
        return [
            "PLAIN",
            f"service={self._service}",
            "nologin",  # there is no master login that would ask for this one
            "no-penalty",  # we have limits of our own, and a penalty makes Dovecot slow to answer, up to 15 s
            f"session={session.id}",
            *([f"rip={session.remote_address}", f"rport={session.remote_port}"] if session.remote_address else []),
            *([f"lip={session.local_address}", f"lport={session.local_port}"] if session.local_address else []),
            *(["secured"] if session.secure else []),
            f"resp={base64text.encoded(secret)}",  # always the last
        ]

    def _connected(self) -> _Line:
        if self._line is None or self._line.ended:
            self._line = _Line(self._path)
        line = self._line
        line.ready.get()  # raises what went wrong, for everybody who waits
        return line


class _Line:
    """One connection: its reader is a greenlet of its own."""

    def __init__(self, path: str) -> None:
        self.ready = AsyncResult()
        self.ended = False
        self.heard_at = 0.0  # time.monotonic()
        self._path = path
        self._writing = BoundedSemaphore(1)
        self._ids = itertools.count(1)
        self._waiting: dict[str, AsyncResult] = {}
        self._socket: Any = None
        self._reader = gevent.spawn(self._run)

    def ask(self, words: Answer) -> Answer:
        """The answer's words, "OK" or "FAIL" first, without the id. `Unavailable`."""
        number = str(next(self._ids) % (1 << 31))
        answer = self._waiting[number] = AsyncResult()
        try:
            self._send("\t".join(["AUTH", number, *map(_escaped, words)]))
            got: Answer = answer.get()
        finally:
            del self._waiting[number]
        return got

    def close(self, reason: str) -> None:
        """End it; everybody who waits is told that nobody knows."""
        self._end(reason)
        self._reader.kill(block=False)

    def _send(self, line: str) -> None:
        with self._writing:  # lines stay whole
            try:
                self._socket.sendall(octets(line + "\n"))
            except OSError:
                self._end("connection lost")
                raise Unavailable("connection lost") from None
            except BaseException:  # a time-out: half a line may have been sent
                self._end("connection lost")
                raise

    def _run(self) -> None:
        try:
            with gevent.Timeout(10.0, TimeoutError()):
                self._socket = stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                stream._sock.connect(self._path)  # at once or not at all; gevent would poll a full queue
                number = secrets.randbelow((1 << 31) - 1) + 1  # CPID: unlike that of all others, also in other pods
                stream.sendall(f"VERSION\t{VERSION[0]}\t{VERSION[1]}\nCPID\t{number}\n".encode())
                lines = self._lines(stream)
                self._greet(lines)
            self.ready.set(None)
            for words in lines:
                self._deliver(words)
            self._end("connection closed")
        except Unavailable as error:
            self._end(error.reason)
        except (OSError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) else None
            self._end(f"cannot be asked ({text or type(error).__name__})")

    def _lines(self, stream: Any) -> Any:
        left = b""
        while data := stream.recv(_READ_BYTES):
            self.heard_at = time.monotonic()
            *whole, left = (left + data).split(b"\n")
            if len(left) > _MAX_LINE_BYTES:
                raise Unavailable("speaks no auth protocol")
            for line in whole:
                yield [_unescaped(word) for word in line.decode("utf-8", "replace").split("\t")]

    def _greet(self, lines: Any) -> None:
        mechanisms = set()
        for words in lines:
            if words[0] == "VERSION" and words[1:2] != [VERSION[0]]:
                raise Unavailable("speaks another version of its protocol")
            if words[0] == "MECH":
                mechanisms.update(words[1:2])
            if words[0] == "DONE":
                if "PLAIN" not in mechanisms:
                    raise Unavailable("does not offer PLAIN")
                return
        raise Unavailable("closed the connection")

    def _deliver(self, words: Answer) -> None:
        answer = self._waiting.get(words[1]) if len(words) > 1 else None
        if answer is None or answer.ready():
            return  # who asked has gone, or it is something that we did not ask for
        if words[0] in ("OK", "FAIL"):
            answer.set([words[0], *words[2:]])
        else:  # CONT: PLAIN with a response has nothing more to ask
            answer.set_exception(Unavailable("its answer is not understood"))

    def _end(self, reason: str) -> None:
        self.ended = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # not connected
                self._socket.shutdown(socket.SHUT_RDWR)  # now; gevent closes when the reader has left
            self._socket.close()
        down = Unavailable(reason)
        for answer in (self.ready, *self._waiting.values()):
            if not answer.ready():
                answer.set_exception(down)


def _user(answer: Answer) -> User | None:
    """What an answer says. A failure that is only for now is no "no"."""
    word, *parameters = answer
    if word == "OK":
        names = [text.removeprefix("user=") for text in parameters if text.startswith("user=")]
        if not names or not names[0]:
            raise Unavailable("auth.dovecot: its answer is not understood")
        return User(names[0])
    if "temp" in parameters or "code=temp_fail" in parameters:
        raise Unavailable("auth.dovecot: cannot know now")
    return None


def _escaped(word: str) -> str:
    """No word can hold what ends words and lines: a name with a tab in it would add parameters."""
    return (
        word.replace("\001", "\0011")
        .replace("\t", "\001t")
        .replace("\n", "\001n")
        .replace("\r", "\001r")
        .replace("\0", "\0010")
    )


def _unescaped(word: str) -> str:
    if "\001" not in word:
        return word
    head, *rest = word.split("\001")
    meant = {"1": "\001", "t": "\t", "n": "\n", "r": "\r", "0": "\0"}
    return head + "".join(meant.get(part[:1], "") + part[1:] for part in rest)
