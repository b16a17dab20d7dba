"""A next hop on loopback that says what a test wants: threads and blocking sockets, nothing of the code under test.

A script is a function that gets a `Talk`; it is run in a thread for each connection, and the connection ends with it.
`polite` is the script of a server that takes everything, with the replies that differ as arguments.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

OFFER = b"250-hop\r\n250-PIPELINING\r\n250-SIZE 0\r\n250 8BITMIME\r\n"


class Talk:
    """One connection as the next hop sees it. `heard`: every line; `bodies`: messages, un-stuffed, when they ended."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.heard: list[bytes] = []
        self.bodies: list[bytes] = []
        self.said = b""
        self.writes: list[bytes] = []
        self.chunks: list[bytes] = []
        self.ended = False
        self._pending = b""

    def say(self, data: bytes) -> None:
        self.stream.sendall(data)
        self.said += data

    def waits(self) -> bool:
        """Whether something has come that was not read yet."""
        with contextlib.suppress(BlockingIOError):
            return bool(self._pending or self.stream.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return False

    def _more(self) -> None:
        data = self.stream.recv(65536)
        if not data:
            raise EOFError
        self.writes.append(data)
        self._pending += data

    def hear(self) -> bytes:
        """The next line without its end. EOFError when the client closes."""
        while b"\n" not in self._pending:
            self._more()
        line, self._pending = self._pending.split(b"\n", 1)
        assert line.endswith(b"\r"), line
        self.heard.append(line[:-1])
        return line[:-1]

    def body(self) -> None:
        """The lines of a message up to the final dot."""
        mark = len(self.heard)
        while self.hear() != b".":
            pass
        lines = self.heard[mark:-1]
        del self.heard[mark:]
        self.heard.append(b"<body>")
        self.bodies.append(b"".join((line[1:] if line[:1] == b"." else line) + b"\r\n" for line in lines))

    def chunk(self, command: bytes) -> bool:
        """The octets of a BDAT command; whether it was the last. `bodies` gets them when it was."""
        words = command.split()
        size = int(words[1])
        while len(self._pending) < size:
            self._more()
        self.chunks.append(self._pending[:size])
        self._pending = self._pending[size:]
        if len(words) < 3:
            return False
        self.bodies.append(b"".join(self.chunks))
        self.chunks.clear()
        return True

    def reset(self) -> None:
        """Close with RST."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


Script = Callable[[Talk], None]


def late(go_on: threading.Event) -> type[Talk]:
    """A connection on which a message that came whole is answered once `go_on` is set."""

    class Late(Talk):
        def body(self) -> None:
            super().body()
            go_on.wait()

    return Late


def polite(talk: Talk, offer: bytes = OFFER, **replies: bytes) -> None:
    """A usual session; keywords in upper case replace the reply to a command, `FINAL` the one to a message (`BDAT` that
    to a chunk which is not the last).

    The reply b"" ends the connection instead.
    """
    talk.say(replies.get("GREETING", b"220 hop\r\n"))
    while True:
        verb = talk.hear()[:4].upper().decode()
        usual = {"EHLO": offer, "LHLO": offer, "DATA": b"354 go\r\n", "QUIT": b"221 bye\r\n"}.get(verb, b"250 ok\r\n")
        if verb == "RSET":
            talk.chunks.clear()
        if verb == "BDAT" and talk.chunk(talk.heard[-1]):
            verb, usual = "FINAL", b"250 2.0.0 taken\r\n"
        reply = replies.get(verb, usual)
        if not reply:
            return
        talk.say(reply)
        if verb == "DATA" and reply.startswith(b"354"):
            talk.body()
            final = replies.get("FINAL", b"250 2.0.0 taken\r\n")
            if not final:
                return
            talk.say(final)
        if verb == "QUIT":
            return


class ScriptedHop:
    """Listens; `talks` has every connection so far. `script` may be replaced at any time, for connections to come."""

    def __init__(
        self,
        script: Script = polite,
        talk: type[Talk] = Talk,
        family: int = socket.AF_INET,
        target: object = ("127.0.0.1", 0),
    ) -> None:
        """`talk`: a kind of Talk that hears or speaks in a way of its own."""
        self._talk = talk
        self.script = script
        self.talks: list[Talk] = []
        self.errors: list[BaseException] = []
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind(target)  # type: ignore[arg-type]
        self._listener.listen(100)
        self.address = _named(self._listener.getsockname())
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self.errors == []

    def stop(self) -> None:
        """Refuse connections from now on, and end those that live."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for talk in self.talks:
            with contextlib.suppress(OSError):
                talk.stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5.0)

    @property
    def port(self) -> int:
        """Of its address."""
        return int(self.address.rpartition(":")[2])

    @property
    def bodies(self) -> list[bytes]:
        return [body for talk in self.talks for body in talk.bodies]

    @property
    def verbs(self) -> list[list[str]]:
        """For each connection, the commands in their order."""
        return [[line.split(b" ")[0].decode() for line in talk.heard] for talk in self.talks]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._listener.accept()
                if stream.family != socket.AF_UNIX:
                    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                talk = self._talk(stream)
                self.talks.append(talk)
                thread = threading.Thread(target=self._run, args=(talk, self.script), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self, talk: Talk, script: Script) -> None:
        try:
            script(talk)
        except (EOFError, OSError):
            pass
        except BaseException as error:  # noqa: BLE001 - a failed assertion of the script fails the test
            self.errors.append(error)
        talk.ended = True
        with contextlib.suppress(OSError):
            talk.stream.close()


def _named(address: object) -> str:
    """As a route names it."""
    if not isinstance(address, tuple):
        return f"unix:{address}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
