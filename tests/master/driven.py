"""A real master with stand-ins for its children, as a test holds it (see `tests/master/driver.py`)."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests import settingsfile
from tests.front import Front
from tests.ports import free_port
from tests.processes import python
from tests.wait import until

QUICK = {"first_s": 0.05, "longest_s": 0.2, "good_life_s": 0.0}
"""A pace for tests that end children on purpose."""


class Driven(Front):
    """`python -m tests.master.driver`. `plan`: by kind, what the children do; `pace`: how soon they come again."""

    def __init__(
        self,
        directory: Path,
        plan: Mapping[str, Any] | None = None,
        pace: Mapping[str, Any] = QUICK,
        env: Mapping[str, str] | None = None,
        before: tuple[str, ...] = (),
        **sections: Any,
    ) -> None:
        """`before`: words in front of the command, such as a program that changes the namespace."""
        self._plan = dict(plan or {})
        self._pace = dict(pace)
        self._before = before
        self.notes_dir = directory / "notes"
        self.notes_dir.mkdir(exist_ok=True)
        route = {"recipients": ["*"], "transport": "discard"}
        sections["listener"] = {"relay_domains": ["ours.example"]} | sections.get("listener", {})
        tree = settingsfile.settings(directory, free_port(), free_port(), route, **sections)
        super().__init__(directory, tree, {"DRIVER_NOTES": str(self.notes_dir)} | dict(env or {}))

    def command(self) -> list[str]:
        """How it is started."""
        words = python("-m", "tests.master.driver", str(self.directory / "mta-front.toml"))
        return [*self._before, *words, json.dumps(self._plan), json.dumps(self._pace)]

    def launch(self) -> Self:
        """Start it without waiting for anything."""
        super(Front, self).start()
        return self

    def start(self) -> Self:
        """Start it and wait until it says that it is ready."""
        self.launch()

        def ready_or_ended() -> bool:
            assert self.running(), f"the master ended with {self.wait(1.0)}\n{self.log_tail()}"
            return self.ready()

        until(ready_or_ended, 20.0, "the master is ready")
        return self

    def notes(self, what: str, kind: str = "worker", index: int | None = None) -> list[dict[str, Any]]:
        """What the children left, oldest first."""
        pattern = f"{kind}-{'*' if index is None else index}-*-{what}.json"
        found = []
        for path in self.notes_dir.glob(pattern):
            pid = int(path.name.split("-")[2])
            found.append(json.loads(path.read_text("utf-8")) | {"pid": pid})
        return sorted(found, key=lambda note: float(note["at"]))

    def lines(self) -> list[dict[str, Any]]:
        """Its log, line by line."""
        rows = [row for row in self.log_text().splitlines() if row.startswith("{") and row.endswith("}")]
        return [dict(json.loads(row)) for row in rows]

    def events(self) -> list[str]:
        """The texts of its log."""
        return [str(line["event"]) for line in self.lines()]

    def await_event(self, text: str, timeout_s: float = 10.0, count: int = 1) -> dict[str, Any]:
        """The `count`th log line with this text, once it is there."""

        def found() -> dict[str, Any] | None:
            lines = [line for line in self.lines() if line["event"] == text]
            return lines[count - 1] if len(lines) >= count else None

        try:
            line = until(found, timeout_s, f"{count} × {text!r} in the log")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from None
        assert line is not None
        return line

    def ask(self) -> tuple[int, int]:
        """Connect: the slot and the pid of the worker that answers."""
        with socket.create_connection(self.address, timeout=5.0) as client:
            slot, pid = client.recv(100).split()
            return int(slot), int(pid)

    def child(self, kind: str, index: int = 0) -> dict[str, Any]:
        """Its row in /status."""
        rows = [row for row in self.status()["children"] if row["kind"] == kind and row["index"] == index]
        assert len(rows) == 1, rows
        return dict(rows[0])
