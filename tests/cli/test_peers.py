"""`check` on who may say who the client is: use_proxy, use_xclient, use_xforward and what they must not be with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import put, run

REST = "auth_optional = true\n[[relay.routes]]\ntransport = 'discard'\n"
OPEN = "bind = ['0.0.0.0:2525']\n"
LOCAL = "bind = ['127.0.0.1:2525', '[::1]:2525', 'unix:s']\n"
WOULD_TRUST = "would trust everybody; say use_proxy = true if you mean it"
HAS_PROXIES = "has addresses of use_proxy in it: what a proxy sends of its own would be trusted"
ANY = "lets whoever can connect here say that it is any client"
BETTER = "better name your proxies"


def checked(tmp_path: Path, text: str) -> tuple[int, list[str]]:
    """Exit code, and what is said of lines of the listener, which begins in line 2 with `bind`."""
    file = put(tmp_path, f"[[listeners]]\n{text}{REST}")
    result = run(tmp_path, "check", "-c", file.name)
    start = "mta-front.toml:"
    lines = [line.removeprefix("remark: ").removeprefix(start) for line in result.lines if start in line]
    return result.code, [line.partition(": ")[2] for line in lines if ": listeners[0]." in line]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"{OPEN}use_proxy = ['10.0.0.1', '0.0.0.0/0']\n", f'use_proxy[1] = "0.0.0.0/0": {WOULD_TRUST}'),
        (f"{OPEN}use_proxy = ['::/0']\n", f'use_proxy[0] = "::/0": {WOULD_TRUST}'),
        (
            f"{OPEN}use_proxy = ['10.0.0.0/24']\ntrusted_networks = ['192.0.2.1', '10.0.0.9']\n",
            f'trusted_networks[1] = "10.0.0.9": {HAS_PROXIES}',
        ),
        (
            f"{OPEN}use_proxy = ['10.0.0.9']\ntrusted_networks = ['10.0.0.0/8']\n",
            f'trusted_networks[0] = "10.0.0.0/8": {HAS_PROXIES}',
        ),
        (f"{OPEN}use_xclient = true\n", "use_xclient = true: must name networks, since 0.0.0.0:2525 is open to others"),
        (
            "bind = ['[::1]:2525', '[::]:2526']\nuse_xforward = true\n",
            "use_xforward = true: must name networks, since [::]:2526 is open to others",
        ),
        (
            f"{LOCAL}use_proxy = ['127.0.0.1']\nuse_xclient = true\n",
            "use_xclient = true: must name networks, since use_proxy brings clients from anywhere",
        ),
        (
            f"{LOCAL}use_proxy = true\nuse_xforward = true\n",
            "use_xforward = true: must name networks, since use_proxy brings clients from anywhere",
        ),
        (
            f"{LOCAL}use_proxy = ['::ffff:10.0.0.0/104']\n",
            'use_proxy = ["::ffff:10.0.0.0/104"]: must be written as IPv4: "10.0.0.0/8"',
        ),
        (
            f"{LOCAL}use_proxy = ['::ffff:10.0.0.1']\n",
            'use_proxy = ["::ffff:10.0.0.1"]: must be written as IPv4: "10.0.0.1/32"',
        ),
    ],
)
def test_who_would_be_trusted_by_accident_is_a_fault(tmp_path: Path, text: str, fault: str) -> None:
    assert checked(tmp_path, text) == (78, [f"listeners[0].{fault}"])


@pytest.mark.parametrize(
    ("text", "remarks"),
    [
        (f"{OPEN}use_proxy = true\n", [f"{ANY}; {BETTER}"]),
        (
            f"{OPEN}use_proxy = true\ntrusted_networks = ['10.0.0.0/8']\n",
            [f"{ANY}, so that it may relay by trusted_networks; {BETTER}"],
        ),
        (f"{LOCAL}use_proxy = true\n", []),
        (f"{OPEN}use_proxy = ['10.0.0.0/8']\ntrusted_networks = ['192.0.2.0/24']\nuse_xclient = ['127.0.0.1']\n", []),
        (f"{LOCAL}use_xclient = true\nuse_xforward = true\n", []),
    ],
)
def test_trust_in_all_is_remarked_on(tmp_path: Path, text: str, remarks: list[str]) -> None:
    assert checked(tmp_path, text) == (0, [f"listeners[0].use_proxy = true: {remark}" for remark in remarks])
