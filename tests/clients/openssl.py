"""`openssl s_client`, another OpenSSL than ours, in an SMTP session: TLS, EHLO, QUIT."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass

from tests.needs import program

FLAGS = {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}
VERSIONS = tuple(FLAGS)
TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Visit:
    """What s_client said; `answers` is how the server answered to EHLO over TLS, nothing where it came not so far."""

    text: str
    answers: tuple[str, ...]

    @property
    def served(self) -> bool:
        """Whether TLS came up and SMTP was spoken over it."""
        return bool(self.answers) and "221 2.0.0" in self.text

    @property
    def subject(self) -> str:
        """Of the server's certificate, as in "CN = mx.ours.example"."""
        return self._found(r"^subject=(.*)$")

    @property
    def suite(self) -> str:
        """By OpenSSL's name."""
        return self._found(r"^(?:New|Reused), TLSv1\.\d, Cipher is (\S+)$")

    @property
    def resumed(self) -> bool:
        """Whether the session was a resumed one."""
        return bool(self._found(r"^(Reused), TLS"))

    def _found(self, pattern: str) -> str:
        found = re.search(pattern, self.text, re.MULTILINE)
        return found[1] if found else ""


def visit(port: int, *arguments: str, starttls: bool = True, say: str = "quit") -> Visit:
    """Connect to 127.0.0.1, bring up TLS, say EHLO, and then `say`; s_client takes a line "R" for a renegotiation."""
    command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-crlf", *arguments]
    if starttls:
        command += ["-starttls", "smtp", "-name", "client.example"]
    process = subprocess.Popen(
        ["timeout", str(TIMEOUT_S), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: list[str] = []
    ends: list[int] = []  # of what the server said before we speak, and of its answer to EHLO
    with process:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            # STARTTLS: s_client shows the last line of the answer to its own EHLO, in clear
            if re.match(r"2[25]0 ", line) and len(ends) < 2:
                with suppress(BrokenPipeError):  # it may have ended since, on an alert
                    process.stdin.write(f"{say if ends else 'ehlo client.example'}\n")
                    process.stdin.flush()
                ends.append(len(lines))
        with suppress(BrokenPipeError):
            process.stdin.close()
    answers = [line for line in lines[ends[0] : ends[1]] if line.startswith("250")] if len(ends) > 1 else []
    return Visit("\n".join(lines), tuple(answers))
