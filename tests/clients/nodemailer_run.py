"""nodemailer, by the program tests/clients/nodemailer/send.js."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.needs import node_packages, program
from tests.processes import clean_environment

SEND = Path(__file__).parent / "nodemailer" / "send.js"


def nodemailer(job: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """Send the letters of a job, as send.js has them: it prints a line of JSON for each."""
    return subprocess.run(
        [program("node"), str(SEND), json.dumps(job)],
        env=clean_environment() | {"NODE_PATH": str(node_packages("nodemailer"))},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
