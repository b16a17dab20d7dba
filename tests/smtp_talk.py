"""A small blocking SMTP client for tests: it says exactly the bytes it is told to, and every wait has a deadline."""

from __future__ import annotations

import select
import socket
import ssl
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self


class Silence(AssertionError):
    """The server did not answer within the deadline."""


class Closed(AssertionError):
    """The server closed or reset the connection where a reply was due."""


@dataclass(slots=True, frozen=True)
class Answer:
    """One reply: its code and the text of its lines, without codes and line ends."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The text of all lines, joined with a line feed."""
        return "\n".join(self.lines)

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Talk:
    """One connection to an SMTP server.

    `address` is `(host, port)` or the path of a Unix socket. `timeout_s` limits each wait: connecting, sending,
    one whole reply. As a context manager it closes the socket, without QUIT.
    """

    def __init__(self, address: tuple[str, int] | str, timeout_s: float = 10.0) -> None:
        self.timeout_s = timeout_s
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(timeout_s)
            self.sock.connect(address)
        else:
            self.sock = socket.create_connection(address, timeout_s)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, without a word."""
        self.sock.close()

    def secure(self, context: ssl.SSLContext, name: str = "mx.ours.example") -> None:
        """Bring up TLS and go on over it; `name` is asked for (SNI). AssertionError when something was said before."""
        assert not self._input, f"left over from before TLS: {self._input!r}"
        self.sock.settimeout(self.timeout_s)
        self.sock = context.wrap_socket(self.sock, server_hostname=name)

    def raw(self, data: bytes) -> None:
        """Send these bytes as they are."""
        self.sock.settimeout(self.timeout_s)
        try:
            self.sock.sendall(data)
        except TimeoutError:
            raise Silence(f"the server did not read within {self.timeout_s} s") from None
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed(f"while sending: {error}") from error

    def reply(self, timeout_s: float | None = None) -> Answer:
        """The next reply, all its lines. Raises Silence or Closed."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        lines: list[str] = []
        while True:
            line = self._line(deadline)
            if len(line) < 3 or not line[:3].isdigit():
                raise AssertionError(f"not a reply: {line!r}")
            lines.append(line[4:])
            if line[3:4] != "-":
                return Answer(int(line[:3]), tuple(lines))

    def readable(self) -> bool:
        """Whether something can be read now, without waiting. Not over TLS."""
        return bool(self._input or select.select([self.sock], [], [], 0)[0])

    def command(self, line: str, timeout_s: float | None = None) -> Answer:
        """Send one line, return its reply."""
        self.raw(line.encode() + b"\r\n")
        return self.reply(timeout_s)

    def expect(self, line: str, code: int) -> Answer:
        """Send one line; AssertionError unless the reply has this code."""
        answer = self.command(line)
        assert answer.code == code, f"{line!r}: expected {code}, got {answer}"
        return answer

    def greeting(self, name: str = "client.example", verb: str = "EHLO") -> Answer:
        """Read the banner, say EHLO (or `verb`); return the reply with the extensions."""
        banner = self.reply()
        assert banner.code == 220, f"banner: {banner}"
        return self.expect(f"{verb} {name}", 250)

    def envelope(self, mail_from: str, rcpt_to: list[str]) -> None:
        """MAIL, RCPT and DATA up to the 354."""
        self.expect(f"MAIL FROM:<{mail_from}>", 250)
        for recipient in rcpt_to:
            self.expect(f"RCPT TO:<{recipient}>", 250)
        self.expect("DATA", 354)

    def body(self, data: bytes, timeout_s: float | None = None) -> Answer:
        """Send a message, dots stuffed, and the final dot; return the reply to it."""
        self.raw(stuffed(data))
        return self.reply(timeout_s)

    def send(self, data: bytes, mail_from: str = "a@client.example", rcpt_to: str = "b@ours.example") -> Answer:
        """One whole message; return the reply to its final dot."""
        self.envelope(mail_from, [rcpt_to])
        return self.body(data)

    def quit(self) -> Answer:
        """QUIT; the reply."""
        return self.command("QUIT")

    def ended(self, timeout_s: float | None = None) -> bool:
        """Wait for the server to close: True at its FIN or RST, AssertionError when it says something instead."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        try:
            line = self._line(deadline)
        except Closed:
            return True
        raise AssertionError(f"the server should have closed, but said {line!r}")

    def _line(self, deadline: float) -> str:
        while b"\n" not in self._input:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Silence(f"no reply in time; so far {self._input!r}")
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                continue
            except ConnectionResetError as error:
                raise Closed(str(error)) from error
            if not data:
                raise Closed(f"end of stream; unread {self._input!r}")
            self._input += data
        line, self._input = self._input.split(b"\n", 1)
        assert line.endswith(b"\r"), f"a reply line without CR: {line!r}"
        return line[:-1].decode("utf-8", "replace")


def stuffed(data: bytes) -> bytes:
    """The bytes of `data` on the wire (RFC 5321 §4.5.2): dots doubled, the final dot added."""
    out = data.replace(b"\r\n.", b"\r\n..")
    if out.startswith(b"."):
        out = b"." + out
    if out and not out.endswith(b"\r\n"):
        out += b"\r\n"
    return out + b".\r\n"


def talk(address: tuple[str, int] | str, timeout_s: float = 10.0) -> Talk:
    """Connect and greet: a session ready for MAIL."""
    session = Talk(address, timeout_s)
    try:
        session.greeting()
    except BaseException:
        session.close()
        raise
    return session
