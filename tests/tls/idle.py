"""How much memory one idle channel takes: prints KiB. `python -m tests.tls.idle OCTETS`, received by each before."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from mta_front.tls.channel import Channel
from tests.tls.authority import Authority
from tests.tls.wires import client_context, connected, contexts

SESSIONS = 300
FEED_BYTES = 131072


def main(octets: int) -> None:
    """Print resident KiB per channel."""
    server, context = contexts(Authority().issue("mx.ours.example")), client_context()
    data = os.urandom(octets)

    def run(many: int) -> list[Channel]:
        kept = []
        for _ in range(many):
            client, channel = connected(server, context)
            client.write(data)
            ciphertext = client.take()
            for at in range(0, len(ciphertext), FEED_BYTES):
                channel.feed(ciphertext[at : at + FEED_BYTES])
                while channel.read(65536):
                    pass
            channel.write(b"250 2.0.0 queued\r\n")
            channel.take()
            kept.append(channel)
        return kept

    run(3)
    before = _resident_bytes()
    kept = run(SESSIONS)
    sys.stdout.write(f"{(_resident_bytes() - before) / len(kept) / 1024:.1f}\n")


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]))
