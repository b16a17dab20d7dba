"""The settings of the master and its workers: `[server]`. Names and units as in `model`."""

from __future__ import annotations

from pydantic import Field

from mta_front.settings.section import Section
from mta_front.settings.values import Directory, HostName, OptionalPath, Seconds


class Server(Section):
    """The master and its workers."""

    name: HostName = Field(default="", description='name in the greeting and in Received:; "" = the name of the host')
    workers: int = Field(default=0, ge=0, le=512, description="front workers; 0 = one for each CPU")
    max_workers: int = Field(
        default=0, ge=0, le=512, description="how far the signal TTIN can go; 0 = twice as many as workers"
    )
    data_dir: Directory = Field(
        default="var",
        validate_default=True,
        description="embedded store and run-time files; held by one master",
    )
    user: str = Field(
        default="", description='whom to run as, once the ports are bound; only when started as root; "" = no change'
    )
    group: str = Field(default="", description='its group; "" = that of the user')
    drain_grace_s: float = Field(
        default=5.0, ge=0, allow_inf_nan=False, description="from TERM (unready at once) until the first 421"
    )
    drain_timeout_s: Seconds = Field(default=30.0, description="then sessions that still run are closed")
    max_connections: int = Field(default=20_000, ge=1, description="sessions at once in one worker; others get 421")
    backlog: int = Field(
        default=2048, ge=1, le=65_535, description="connections that wait in the kernel, per listener and worker"
    )
    pid_file: OptionalPath = Field(
        default="", validate_default=True, description='file that holds the pid of the master; "" = none'
    )
    block_warn_ms: int = Field(
        default=500, ge=10, le=60_000, description="a worker that stands still for so long is told of, with its stack"
    )
    block_kill_s: Seconds = Field(
        default=30.0, description="a process that stands still for so long is killed and replaced"
    )
    boot_timeout_s: Seconds = Field(default=60.0, description="a worker not ready after so long is killed and replaced")

    max_sessions: int = Field(
        default=0, ge=0, description="a worker that has served about so many is replaced; 0 = never for that"
    )
    max_memory_bytes: int = Field(
        default=0, ge=0, description="a worker that holds more is replaced; 0 = never for that"
    )

    @property
    def slots(self) -> int:
        """The places for workers that listeners have sockets for. `workers` must be settled."""
        return max(self.workers, self.max_workers or min(512, 2 * self.workers))
