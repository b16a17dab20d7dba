"""Benchmarks: `python -m bench [core] [server] [tls] [drip] [limits] [--runs N] [--messages N] …`, all by default.

core    the protocol core by itself (bench/core.py)
server  CPU time of the whole server for one message (bench/server.py)
tls     what TLS costs (bench/tls.py)
drip    an ordinary client among thousands that drip (bench/drip.py)
limits  what limits cost Redis and a worker (bench/limits.py)

Results are also appended to bench/out/results.jsonl.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterable
from pathlib import Path

from bench import core, drip, limits, server, tls

OUT = Path(__file__).resolve().parent / "out" / "results.jsonl"
PARTS = ("core", "server", "tls", "drip", "limits")


def main() -> None:
    """Run what was asked for and print tables."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="What things cost")
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, []], metavar="core | server | tls | drip | limits", help="all by default"
    )
    parser.add_argument("--runs", type=int, help="of each workload (core 15, server, tls and limits 3)")
    parser.add_argument("--messages", type=int, default=10_000, help="for each run of server (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="front workers of server (%(default)s)")
    parser.add_argument(
        "--durability", choices=("fsync", "memory"), default="fsync", help="of server, tls and drip (%(default)s)"
    )
    parser.add_argument("--sessions", type=int, default=5000, help="of drip (%(default)s)")
    arguments = parser.parse_args()

    OUT.parent.mkdir(parents=True, exist_ok=True)
    print(f"Python {platform.python_version()}, Linux {platform.release()}")
    for part in arguments.parts or PARTS:
        print()
        match part:
            case "core":
                _keep(core.run(arguments.runs or 15))
            case "server":
                _keep(server.run(arguments.runs or 3, arguments.messages, arguments.workers, arguments.durability))
            case "tls":
                _keep(tls.run(arguments.runs or 3, arguments.durability))
            case "drip":
                _keep(drip.run(arguments.sessions, arguments.durability))
            case "limits":
                _keep(limits.run(arguments.runs or 3))


def _keep(results: Iterable[dict[str, float | str | int]]) -> None:
    with OUT.open("a", encoding="utf-8") as out:
        for result in results:
            out.write(json.dumps(result) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
