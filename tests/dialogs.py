r"""Dialogs as files: what a client says and what the server must answer, readable by anyone who knows SMTP.

A file in `tests/wire/*.txt` is one session on one connection:

    # RFC 5321 §4.1.4: MAIL before EHLO is refused, and the session goes on    (comments; the first is the title)
    O: size_bytes = 1000                  an option of the listener (TOML) that this dialog needs
    S: 220                                a reply with this code
    C: EHLO client.example                the client sends this line and CRLF
    S: 250 SIZE 1000                      … some line of which begins with this text after the code
    S: /^250 2\.1\.0 .*$/                 … whose lines, each with its code, match this regular expression (multi-line)
    C< MAIL FROM:<a@b.example>\nRCPT      raw bytes, Python's escapes (\r \n \t \x00 \\), nothing is added;
                                          \{ab*3} is ababab
    S: close                              the server closes
    S: silence                            nothing more is said before the client's next bytes (0.2 s live)
    M< line\r\n                           the server took this message; all that it took are named, or none is
    M: none                               the server took no message
    T: handshake                          the client brings up TLS; what was said before must have been answered
    O: tls = true                         the server has a certificate
    O: client_certificate = "alice"       the client shows one, good for this name
    O: only = "live"                      makes sense against a live server only

Steps of the client that follow each other are sent at once, in one piece: that is pipelining. The same list of steps
drives the core alone (bytes in, bytes out, at every split) and a live server (`converse`).
"""

from __future__ import annotations

import codecs
import re
import ssl
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.smtp_talk import Answer, Closed, Silence, Talk

SILENCE_S = 0.2


@dataclass(slots=True, frozen=True)
class Step:
    """One line: `data` for the client's; `expected` for the server's ("close", "silence", a code or /regex/); with
    neither, "T": TLS begins.
    """

    side: Literal["C", "S", "T"]
    data: bytes
    expected: str
    line: int

    def accepts(self, code: int, lines: tuple[str, ...] | list[str]) -> bool:
        """Whether a reply with this code and these lines (without codes) is the expected one."""
        if self.expected.startswith("/"):
            return (
                re.search(self.expected[1:-1], "\n".join(f"{code} {text}" for text in lines), re.MULTILINE) is not None
            )
        wanted, _, text = self.expected.partition(" ")
        return wanted == str(code) and (not text or any(line.startswith(text) for line in lines))


@dataclass(slots=True, frozen=True)
class Dialog:
    """A whole file. `messages`: what the server must have taken, in order, None where the file does not say."""

    name: str
    title: str
    options: dict[str, Any]
    steps: list[Step]
    messages: list[bytes] | None = None
    live_only: bool = False

    def turns(self) -> Iterator[tuple[bytes, list[Step]]]:
        """What the client sends at once (b"" before the banner), with the replies due before it sends more."""
        for part in self.parts():
            yield from part

    def parts(self) -> list[list[tuple[bytes, list[Step]]]]:
        """The turns up to the first handshake, up to the second …"""
        parts: list[list[tuple[bytes, list[Step]]]] = [[]]
        data, due = b"", list[Step]()
        for step in [*self.steps, None]:
            if (step is None or step.side == "T" or (step.side == "C" and due)) and (data or due):
                parts[-1].append((data, due))
                data, due = b"", []
            if step is None:
                break
            if step.side == "T":
                parts.append([])
            elif step.side == "C":
                data += step.data
            else:
                due.append(step)
        return parts


def load_dialog(path: Path) -> Dialog:
    """Read one file. Raises ValueError with file and line where it is not a dialog."""
    title, options, steps = "", dict[str, Any](), list[Step]()
    messages: list[bytes] | None = None
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        mark, rest = line[:2], line[2:].removeprefix(" ")
        try:
            match mark:
                case "":
                    continue
                case "C:":
                    steps.append(Step("C", rest.encode() + b"\r\n", "", number))
                case "C<":
                    steps.append(Step("C", _unescaped(rest), "", number))
                case "S:":
                    steps.append(Step("S", b"", _expectation(rest.strip()), number))
                case "T:" if rest.strip() == "handshake":
                    steps.append(Step("T", b"", "", number))
                case "M<":
                    messages = [*(messages or ()), _unescaped(rest)]
                case "M:" if rest.strip() == "none":
                    messages = []
                case "O:":
                    options |= tomllib.loads(rest)
                case _ if line.startswith("#"):
                    title = title or line.lstrip("# ").strip()
                case _:
                    raise ValueError("a line begins with C:, C<, S:, T:, M<, O: or #")
        except ValueError as error:
            raise ValueError(f"{path.name}:{number}: {error}: {line!r}") from None
    if not title or not steps:
        raise ValueError(f"{path.name}: a title (# …) and steps are needed")
    only = options.pop("only", "")
    if only not in ("", "live"):
        raise ValueError(f"{path.name}: only = {only!r}")
    return Dialog(path.stem, title, options, steps, messages, only == "live")


def parse_dialog(path: Path) -> list[Step]:
    """The steps of one file."""
    return load_dialog(path).steps


def all_dialogs(directory: Path) -> list[Dialog]:
    """Every dialog of a directory, by name."""
    return [load_dialog(path) for path in sorted(directory.glob("*.txt"))]


def converse(
    dialog: Dialog, address: tuple[str, int] | str, timeout_s: float = 5.0, tls: ssl.SSLContext | None = None
) -> None:
    """Play a dialog against a live server; AssertionError names the line that went otherwise. `tls`: for handshakes."""
    with Talk(address, timeout_s) as session:
        for number, part in enumerate(dialog.parts()):
            if number:
                assert tls is not None
                session.secure(tls)
            for data, due in part:
                if data:
                    session.raw(data)
                for step in due:
                    try:
                        _hear(step, session)
                    except (Silence, Closed, AssertionError) as error:
                        where = f"{dialog.name}.txt:{step.line}: expected {step.expected!r}"
                        raise AssertionError(f"{where} ({dialog.title}): {error}") from error


def _hear(step: Step, session: Talk) -> None:
    if step.expected == "close":
        session.ended()
    elif step.expected == "silence":
        until_at = time.monotonic() + SILENCE_S
        try:
            answer = session.reply(SILENCE_S)
        except Silence:
            return
        raise AssertionError(f"{answer} came {until_at - time.monotonic():.2f} s too early")
    else:
        answer = session.reply()
        assert step.accepts(answer.code, answer.lines), _shown(answer)


def _shown(answer: Answer) -> str:
    return "got " + " / ".join(f"{answer.code} {line}" for line in answer.lines)


def _expectation(text: str) -> str:
    if text in {"close", "silence"}:
        return text
    if text.startswith("/"):
        if len(text) < 2 or not text.endswith("/"):
            raise ValueError("a regular expression ends with /")
        try:
            re.compile(text[1:-1])
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return text
    if not re.match(r"[2-5]\d\d( |$)", text):
        raise ValueError("a code, /regex/, close or silence is expected")
    return text


def _unescaped(text: str) -> bytes:
    """Python's escapes to bytes; other characters as UTF-8."""
    out, position = b"", 0
    for found in re.finditer(r"\\(?:x[0-9a-fA-F]{2}|[rnt0\\]|\{(.+?)\*(\d+)\})", text):
        out += text[position : found.start()].encode()
        if found[1]:
            out += found[1].encode() * int(found[2])
        else:
            out += codecs.decode(found.group(), "unicode_escape").encode("latin-1")
        position = found.end()
    rest = text[position:]
    if "\\" in rest:
        raise ValueError("an unknown escape")
    return out + rest.encode()
