"""`python -m tests.chaos --rounds 50 --seed 1 [--power-cut] [--durability memory]`: kill, restart, count, judge.

Exit status: 0 when nothing was lost or damaged and each double is explained; 1 otherwise. With `--durability memory`
and `--power-cut` messages *must* be lost: 1 when none is, since then the test would prove nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.rounds import TARGETS, Plan, play


def main() -> int:
    """Run; print each round, then the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="kill -9 at random moments under load")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    parser.add_argument("--durability", choices=["fsync", "memory"], default="fsync")
    parser.add_argument("--power-cut", action="store_true", help="take away what was not synced, too")
    parser.add_argument(
        "--targets", type=lambda s: tuple(s.split(",")), default=TARGETS, help="of " + ",".join(TARGETS)
    )
    parser.add_argument("--rate", type=float, default=150.0, help="new messages a second")
    parser.add_argument("--connections", type=int, default=12)
    parser.add_argument("--directory", type=Path, help="work here and keep it")
    options = parser.parse_args()
    plan = Plan(**{name: value for name, value in vars(options).items() if name != "directory"})
    directory = options.directory or Path(tempfile.mkdtemp(prefix="mta-front-chaos-"))
    directory.mkdir(exist_ok=True)
    print(f"seed {plan.seed}, {plan.rounds} rounds, durability {plan.durability}, power cut: {plan.power_cut}")
    result = play(plan, directory, print)
    print(result.table())
    print(f"{len(result.outages)} rounds in {result.took_s:.0f} s, seed {plan.seed}")
    must_lose = plan.power_cut and plan.durability == "memory"
    good = bool(result.verdict.lost) if must_lose else result.verdict.good
    if good and options.directory is None:
        shutil.rmtree(directory)
    elif not good:
        print(f"logs and files: {directory}", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
