"""A load client that keeps its word: it takes no 250 for granted and gives no message up lightly.

    python -m tests.load --port 2525 --connections 20 --seconds 10 --log attempts.jsonl

Each message has a Message-ID of its own and states the digest of its body in a header. A message that was answered 4xx,
cut off or not answered in time is sent again, the same bytes under the same Message-ID, until it is accepted or the
patience ends. Each attempt is logged with its outcome, so that afterwards the log of what the next hop got can be held
against it. TERM: no new messages, those in hand are brought to an end. Number and time are bounded.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from tests.processes import ROOT, Program, python
from tests.smtp_talk import Answer, Closed, Silence, Talk, stuffed

Outcome = Literal["accepted", "refused", "cut", "unknown"]
RETRY_FIRST_S, RETRY_MOST_S = 0.05, 1.0


@dataclass(slots=True, frozen=True, kw_only=True)
class Attempt:
    """One try to hand one message over. Times are of the monotonic clock.

    `outcome`: accepted (250 after the final dot) · refused (a 4xx or 5xx, to `stage`) · cut (connection refused, lost
    or silent before the whole message was sent: it cannot have been taken) · unknown (the same after the final dot was
    sent: it may have been taken).
    """

    message_id: str
    rcpt_to: tuple[str, ...]
    number: int
    outcome: Outcome
    stage: str  # connect, MAIL, RCPT, DATA, body, dot
    code: int
    queue_id: str  # of the 250
    text: str
    began_at: float
    dot_at: float  # when the final dot was about to be sent, 0.0 if it never was
    at: float

    @property
    def may_be_taken(self) -> bool:
        """Whether the server may have taken responsibility though it did not say so (S3: unknown is answered 451)."""
        return self.outcome == "unknown" or (self.outcome == "refused" and self.stage == "dot" and self.code < 500)


def read_attempts(path: Path) -> list[Attempt]:
    """All attempts of a log."""
    if not path.exists():
        return []
    records = (json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1])
    return [Attempt(**record | {"rcpt_to": tuple(record["rcpt_to"])}) for record in records]


class Load(Program):
    """The load client as a test holds it."""

    def __init__(self, directory: Path, port: int, **options: str | float) -> None:
        self.attempts_log = directory / f"attempts-{port}.jsonl"
        argv = python("-m", "tests.load", "--port", str(port), "--log", str(self.attempts_log))
        for name, value in options.items():
            argv += [f"--{name.replace('_', '-')}", str(value)]
        super().__init__(argv, directory / f"load-{port}.log", ROOT)

    def attempts(self) -> list[Attempt]:
        """What it logged so far."""
        return read_attempts(self.attempts_log)

    def accepted(self) -> int:
        """How many messages got a 250 so far."""
        return sum(attempt.outcome == "accepted" for attempt in self.attempts())


def message(number: int, size_bytes: int, run: str) -> tuple[str, bytes]:
    """A Message-ID and the bytes of a message: lines of text, some with leading dots, some 8-bit, CRLF at the end."""
    source = random.Random(f"{run}/{number}")
    lines = list[bytes]()
    left = size_bytes
    while left > 0:
        line = (b".", b"..", b"", "grüße ".encode(), b"From ")[source.randrange(5)] + source.randbytes(
            33
        ).hex().encode()
        lines.append(line)
        left -= len(line) + 2
    body = b"\r\n".join(lines) + b"\r\n"
    message_id = f"<{run}.{number}@load.example>"
    head = (
        f"From: <sender@load.example>\r\nTo: <rcpt@ours.example>\r\nSubject: message {number}\r\n"
        f"Message-ID: {message_id}\r\nX-Body-SHA256: {hashlib.sha256(body).hexdigest()}\r\n\r\n"
    )
    return message_id, head.encode() + body


# -- the process -----------------------------------------------------------------------------------------------------


class _Client:
    """What all connections share: the numbers, the clock, the log."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.run = f"{os.getpid():x}-{time.time_ns():x}"
        self.began_at = time.monotonic()
        self.stopping = threading.Event()
        self.numbers = iter(range(options.messages))
        self.lock = threading.Lock()
        self.log = os.open(options.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.outcomes: Counter[str] = Counter()
        self.given_up = 0

    def next_numbers(self) -> Iterator[int]:
        """Numbers of new messages, at the rate asked for, until count, time or TERM end it."""
        while not self.stopping.is_set():
            with self.lock:
                number = next(self.numbers, None)
            if number is None:
                return
            if self.options.rate:
                due_at = self.began_at + number / self.options.rate
                self.stopping.wait(max(0.0, due_at - time.monotonic()))
            if time.monotonic() - self.began_at > self.options.seconds or self.stopping.is_set():
                return
            yield number

    def note(self, attempt: Attempt) -> None:
        """Log one attempt: one write, so lines of several threads do not mix."""
        os.write(self.log, json.dumps(asdict(attempt)).encode() + b"\n")
        with self.lock:
            self.outcomes[attempt.outcome] += 1


class _Connection(threading.Thread):
    """One client: one message after the other, a new connection where the old one is spent or broken."""

    def __init__(self, client: _Client, index: int) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.options = client.options
        self.random = random.Random(index)
        self.talk: Talk | None = None
        self.sent_here = 0

    def run(self) -> None:
        for number in self.client.next_numbers():
            message_id, content = message(number, self.random.choice(self.options.sizes), self.client.run)
            recipients = tuple(self.options.recipients[number % len(self.options.recipients)].split("+"))
            self._deliver(message_id, stuffed(content), recipients)
        self._hang_up(polite=True)

    def _deliver(self, message_id: str, wire: bytes, recipients: tuple[str, ...]) -> None:
        """Try until it is accepted or refused for good; give up after the patience."""
        give_up_at = time.monotonic() + self.options.patience_s
        pause_s = RETRY_FIRST_S
        for number in itertools.count(1):
            attempt = self._attempt(message_id, wire, recipients, number)
            self.client.note(attempt)
            if attempt.outcome == "accepted":
                return
            if attempt.code >= 500 or time.monotonic() + pause_s > give_up_at:
                break
            time.sleep(pause_s * (0.5 + self.random.random()))
            pause_s = min(pause_s * 2, RETRY_MOST_S)
        with self.client.lock:
            self.client.given_up += 1

    def _attempt(self, message_id: str, wire: bytes, recipients: tuple[str, ...], number: int) -> Attempt:
        began_at, dot_at = time.monotonic(), 0.0
        stage, outcome, answer, text = "connect", "cut", Answer(0, ()), ""
        try:
            talk = self._connected()
            for step, line, code in (
                ("MAIL", "MAIL FROM:<sender@load.example>", 250),
                *(("RCPT", f"RCPT TO:<{recipient}>", 250) for recipient in recipients),
                ("DATA", "DATA", 354),
                ("dot", "", 250),
            ):
                stage = step
                if step == "dot":
                    stage = "body"
                    talk.raw(wire[:-3])
                    stage, dot_at, outcome = "dot", time.monotonic(), "unknown"
                    talk.raw(wire[-3:])
                    answer = talk.reply()
                else:
                    answer = talk.command(line)
                if answer.code != code:
                    outcome, text = "refused", str(answer)
                    break
            else:
                outcome, text = "accepted", str(answer)
        except (Silence, Closed, OSError, AssertionError) as error:
            text = f"{type(error).__name__}: {error}"
        self._after(outcome)
        queue_id = re.search(r"queued as (\S+)", text) if outcome == "accepted" else None
        return Attempt(
            message_id=message_id,
            rcpt_to=recipients,
            number=number,
            outcome=outcome,  # type: ignore[arg-type]
            stage=stage,
            code=answer.code if outcome in {"accepted", "refused"} else 0,
            queue_id=queue_id.group(1) if queue_id else "",
            text=text[:200],
            began_at=began_at,
            dot_at=dot_at,
            at=time.monotonic(),
        )

    def _connected(self) -> Talk:
        if self.talk is None:
            self.talk = Talk((self.options.host, self.options.port), self.options.timeout_s)
            self.talk.greeting("load.example")
            self.sent_here = 0
        return self.talk

    def _after(self, outcome: str) -> None:
        """Keep the connection only after a 250, and only for so many messages."""
        self.sent_here += 1
        if outcome != "accepted":
            self._hang_up(polite=False)
        elif self.sent_here >= self.options.per_connection:
            self._hang_up(polite=True)

    def _hang_up(self, *, polite: bool) -> None:
        if self.talk is None:
            return
        if polite:
            with contextlib.suppress(Silence, Closed, OSError):
                self.talk.quit()
        self.talk.close()
        self.talk = None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m tests.load", description="load whose every message is accounted for")
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--log", type=Path, required=True, help="each attempt, one JSON object a line")
    p.add_argument("--connections", type=int, default=20)
    p.add_argument("--messages", type=int, default=1_000_000, help="at most so many")
    p.add_argument("--seconds", type=float, default=30.0, help="no new messages after this time")
    p.add_argument(
        "--rate", type=float, default=0.0, help="new messages a second over all connections, 0 = as many as go"
    )
    p.add_argument("--sizes", type=lambda s: [int(n) for n in s.split(",")], default=[1000, 4000, 4000, 100_000])
    p.add_argument(
        "--recipients", type=lambda s: s.split(","), default=["b@ours.example"], help="in turn; a+b: both at once"
    )
    p.add_argument("--per-connection", type=int, default=10, help="messages before QUIT")
    p.add_argument("--timeout-s", type=float, default=20.0, help="for each reply")
    p.add_argument("--patience-s", type=float, default=60.0, help="for each message, over all its attempts")
    return p


def main() -> None:
    """Run, print one line of figures; exit 1 if a message was given up."""
    client = _Client(parser().parse_args())

    def stop(number: int, frame: FrameType | None) -> None:
        client.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    connections = [_Connection(client, index) for index in range(client.options.connections)]
    for connection in connections:
        connection.start()
    for connection in connections:
        connection.join()
    took_s = time.monotonic() - client.began_at
    print(json.dumps({**client.outcomes, "given_up": client.given_up, "took_s": round(took_s, 2)}), flush=True)
    raise SystemExit(1 if client.given_up else 0)


if __name__ == "__main__":
    main()
