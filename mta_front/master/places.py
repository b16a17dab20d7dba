"""Places and the processes in them: a place is what there is to fill (slot 2, relay 0), a child is one process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mta_front.master.child import Kind
from mta_front.master.control import Control
from mta_front.master.heartbeat import Heartbeat

if TYPE_CHECKING:
    from mta_front.master.generation import Generation

NAMES: dict[Kind, str] = {"worker": "slot", "relay": "relay", "admin": "admin"}
"""How the number of a place is called."""

HUNG_S = 2.5
"""A worker silent for so long gets no new connections, and others accept what waits for it. It beats each second."""


@dataclass(slots=True, eq=False)
class Child:
    """One process."""

    pid: int
    lane: int
    control: Control
    heartbeat: Heartbeat
    generation: Generation
    accepting: bool = False
    ending: bool = False
    """It was told to drain or to stop, or does so by itself."""
    end_by_at: float = float("inf")
    """When one that leaves, while others go on, is killed."""
    sessions: int = 0
    covers: tuple[int, ...] = ()
    """The slots of others that it was told to accept for."""
    standstill: dict[str, Any] | None = None
    """What its watchdog said of its hub, which stands still."""
    fault: str = ""
    """What it said about its end."""
    killed: bool = False
    kill_at: float = float("inf")
    """It was asked for its stack; then it is killed."""

    @property
    def state(self) -> str:
        if self.ending:
            return "draining"
        return "ready" if self.heartbeat.ready_at else "booting"

    def is_fit(self, now: float) -> bool:
        """Whether it accepts, and answers whom it accepts."""
        in_service = self.accepting and not self.ending and not self.killed
        return in_service and not self.standstill and now < self.heartbeat.heard_at + HUNG_S

    def row(self, now: float) -> dict[str, Any]:
        """Its part of the status."""
        return {
            "pid": self.pid,
            "lane": self.lane,
            "state": self.state,
            "accepting": self.accepting,
            "sessions": self.sessions,
            "standstill": self.standstill,
            "silent_s": round(now - self.heartbeat.heard_at, 1) if self.heartbeat.heard_at else None,
        }

    def handed_over(self, now: float) -> dict[str, Any]:
        """For the next program in this process."""
        end_in_s = None if self.end_by_at == float("inf") else self.end_by_at - now
        return {
            "pid": self.pid,
            "lane": self.lane,
            "control": self.control.state(),
            "ready": bool(self.heartbeat.ready_at),
            "accepting": self.accepting,
            "ending": self.ending,
            "end_in_s": end_in_s,
            "sessions": self.sessions,
            "covers": list(self.covers),
        }

    @classmethod
    def taken_over(cls, state: dict[str, Any], generation: Generation, now: float) -> Child:
        """A process that an earlier program started."""
        server = generation.settings.server
        heartbeat = Heartbeat(now, server.boot_timeout_s, server.block_kill_s, now, now if state["ready"] else 0.0)
        return cls(
            state["pid"],
            state["lane"],
            Control.of_state(state["control"]),
            heartbeat,
            generation,
            accepting=state["accepting"],
            ending=state["ending"],
            end_by_at=float("inf") if state["end_in_s"] is None else now + state["end_in_s"],
            sessions=state["sessions"],
            covers=tuple(state["covers"]),
        )


NOBODY: dict[str, Any] = {"pid": 0, "state": "none", "accepting": False, "sessions": 0}


@dataclass(slots=True, eq=False)
class Place:
    """What a child fills, and its successor will."""

    kind: Kind
    index: int
    child: Child | None = None
    successor: Child | None = None
    """Boots while `child` serves on."""
    renewal: str = ""
    """Why the child is to be replaced while it serves; "": it is not."""
    counted: bool = True
    """Somebody is expected in it. One that is added while others serve is counted on once it is filled."""
    pending: bool = False
    """It is there for the successor only, until a reload is done."""
    due_at: float = 0.0
    short_lives: int = 0
    restarts: int = 0
    living: list[Child] = field(default_factory=list)
    """`child`, `successor`, and those that drain still."""

    def row(self, now: float) -> dict[str, Any]:
        """Its part of the status."""
        row: dict[str, Any] = {"kind": self.kind, "index": self.index, "restarts": self.restarts}
        return row | (self.child.row(now) if self.child else NOBODY)

    def names(self, child: Child) -> dict[str, Any]:
        """The child in a log line."""
        return {NAMES[self.kind]: self.index, "pid": child.pid, "lane": child.lane}
