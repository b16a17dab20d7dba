"""A live server as a client under test meets it: two listeners, SMTP and LMTP, and a Maildir behind them.

The Maildir holds what was received behind the headers that delivery adds, so "byte for byte" is a comparison of files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.clients.letters import Letter
from tests.clients.noting import NOTES
from tests.front import Front
from tests.ports import free_port
from tests.settingsfile import OURS
from tests.wait import until

PROTOCOLS = ("smtp", "lmtp")


class Door:
    """A running server. `port(protocol)` is where the client goes."""

    def __init__(self, directory: Path, serve: Callable[..., Front]) -> None:
        self._ports = {protocol: free_port() for protocol in PROTOCOLS}
        self._maildir = directory / "mail"
        self._notes = directory / NOTES
        self.front = serve(
            {"recipients": ["*"], "transport": "maildir", "path": str(self._maildir)},
            listeners=[self._listener(protocol) for protocol in PROTOCOLS],
            server={"workers": 1},
            hooks={"class": "tests.clients.noting:Noting"},
        )

    def _listener(self, protocol: str) -> dict[str, Any]:
        return {
            "name": protocol,
            "protocol": protocol,
            "bind": [f"127.0.0.1:{self._ports[protocol]}"],
            "relay_domains": [OURS],
            "auth_optional": True,
        }

    def port(self, protocol: str) -> int:
        """Where a listener is, on 127.0.0.1."""
        return self._ports[protocol]

    def messages(self) -> list[Path]:
        """What lies in the Maildir."""
        return list((self._maildir / "new").glob("*"))

    def arrived(self, letter: Letter, protocol: str, added: tuple[str, ...] = ()) -> None:
        """Wait for the letter; AssertionError unless all of it is there, unchanged, with its envelope.

        `added`: headers that the client itself puts before a message.
        """
        content = until(lambda: self._find(letter), 20.0, f"{letter.name} lies in the Maildir")
        before = _before(content, letter)
        names = tuple(re.findall(r"^([\w-]+):", before, re.MULTILINE))
        delivered = ("Return-Path", *["Delivered-To"] * len(letter.rcpt_to))
        assert names == (*delivered, "Received", *added), before
        assert before.startswith(f"Return-Path: <{letter.mail_from}>\r\n")
        for recipient in letter.rcpt_to:
            assert f"\r\nDelivered-To: {recipient}\r\n" in before
        kind = ("UTF8" if letter.utf8 else "E" if protocol == "smtp" else "") + protocol.upper()  # RFC 6531 §4.3
        assert f"(mta-front) with {kind} id " in before

    def declared(self, letter: Letter) -> set[tuple[str, bool]]:
        """What the client said of the letter in MAIL: its BODY and whether SMTPUTF8."""
        notes = [json.loads(line) for line in self._notes.read_text("utf-8").splitlines()]
        return {
            (note["body_type"], note["smtp_utf8"])
            for note in notes
            if note["mail_from"] == letter.mail_from and note["rcpt_to"] in letter.rcpt_to
        }

    def _find(self, letter: Letter) -> bytes:
        """The one file with this sender, b"" when it is not there."""
        wanted = f"Return-Path: <{letter.mail_from}>\r\n".encode()
        found = [path for path in self.messages() if _begins_with(path, wanted)]
        assert len(found) < 2, f"{letter.name} was delivered {len(found)} times"
        return found[0].read_bytes() if found else b""


def _begins_with(path: Path, wanted: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(wanted)) == wanted


def _before(content: bytes, letter: Letter) -> str:
    """What was put before the letter. A difference is shown where it begins: pytest compares 20 MiB for minutes."""
    whole = letter.whole
    if content.endswith(whole):
        return content[: len(content) - len(whole)].decode()
    start = max(content.find(whole[:30]), 0)
    got = content[start:]
    at = next((at for at, (one, other) in enumerate(zip(got, whole, strict=False)) if one != other), len(got))
    raise AssertionError(
        f"{letter.name} was changed on its way: {len(got)} octets for {len(whole)}, the first other one at {at}: "
        f"{got[max(at - 40, 0) : at + 40]!r} for {whole[max(at - 40, 0) : at + 40]!r}"
    )
