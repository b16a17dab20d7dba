"""`check` on [admin] agent_check: what HAProxy's agent needs of the other settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import put, run

REST = "[[listeners]]\nauth_optional = true\n[[relay.routes]]\ntransport = 'discard'\n"
REMARK = "is less than agent-inter + inter × fall of HAProxy can be: clients may be sent to a server that has closed"


@pytest.mark.parametrize(
    ("agent", "grace_s", "remarks"),
    [
        ("0.0.0.0:9581", "1.5", [f"remark: mta-front.toml:2: server.drain_grace_s = 1.5: {REMARK}"]),
        ("0.0.0.0:9581", "2.0", []),
        ("", "0.0", []),
    ],
)
def test_the_grace_is_remarked_on(tmp_path: Path, agent: str, grace_s: str, remarks: list[str]) -> None:
    file = put(tmp_path, f"[server]\ndrain_grace_s = {grace_s}\n[admin]\nagent_check = '{agent}'\n{REST}")
    result = run(tmp_path, "check", "-c", str(file.name))
    assert result.code == 0
    assert [line for line in result.lines if "agent" in line] == remarks


@pytest.mark.parametrize(
    ("admin", "fault"),
    [
        ("agent_check = '9581'", 'admin.agent_check = "9581": must be'),
        ("agent_check = '127.0.0.1:9580'", "127.0.0.1:9580 is bound already"),
    ],
)
def test_what_is_no_port_of_its_own_is_refused(tmp_path: Path, admin: str, fault: str) -> None:
    file = put(tmp_path, f"[admin]\n{admin}\n{REST}")
    result = run(tmp_path, "check", "-c", str(file.name))
    assert result.code == 78
    assert fault in "\n".join(result.lines)
