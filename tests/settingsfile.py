"""Settings files for tests: a dict becomes TOML, with defaults for quick tests that stay in `tmp_path`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS = "ours.example"  # the domain for which the server under test takes mail


def settings(
    directory: Path, smtp_port: int, admin_port: int, route: Mapping[str, Any], **sections: Any
) -> dict[str, Any]:
    """A complete settings tree; a keyword is a section whose keys are added to, or replace, the defaults here.

    `listener={…}` changes the one listener, `listeners=[…]` replaces all.
    """
    listener = {
        "name": "mx",
        "bind": [f"127.0.0.1:{smtp_port}"],
        "relay_domains": [OURS],
        "socket_timeout_s": 20.0,
        "auth_optional": True,
    } | sections.pop("listener", {})
    tree: dict[str, Any] = {
        "server": {
            "name": "front.example",
            "workers": 2,
            "data_dir": str(directory / "var"),
            "drain_grace_s": 0.0,
            "drain_timeout_s": 10.0,
        },
        "listeners": sections.pop("listeners", [listener]),
        "store": {"durability": "fsync", "timeout_ms": 3000},
        "relay": {"workers": 1, "schedule_s": [1], "expire_s": 3600, "lease_s": 5.0, "routes": [dict(route)]},
        "admin": {"bind": f"127.0.0.1:{admin_port}"},
        "log": {"format": "json", "level": "info"},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    return tree


def smtp_route(next_hop: str, **options: Any) -> dict[str, Any]:
    """A route for everything to one next hop."""
    return {"recipients": ["*"], "transport": "smtp", "next_hops": [next_hop], **options}


def write(path: Path, tree: Mapping[str, Any]) -> Path:
    """Write the tree as a TOML file; returns the path."""
    path.write_text(toml(tree), "utf-8")
    return path


def toml(tree: Mapping[str, Any], prefix: str = "") -> str:
    """A nested dict as TOML: plain values first, then tables, then arrays of tables."""
    plain, tables = list[str](), list[str]()
    for name, value in tree.items():
        key = name if re.fullmatch(r"[\w-]+", name) else json.dumps(name)
        if isinstance(value, Mapping):
            tables.append(f"\n[{prefix}{key}]\n{toml(value, f'{prefix}{key}.')}")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            tables += [f"\n[[{prefix}{key}]]\n{toml(item, f'{prefix}{key}.')}" for item in value]
        else:
            plain.append(f"{key} = {_value(value)}\n")
    return "".join(plain) + "".join(tables)


def _value(value: Any) -> str:
    """One TOML value. JSON's strings, numbers, booleans and lists of them are TOML's too."""
    if isinstance(value, (str, int, float, list)):
        return json.dumps(value)
    raise TypeError(f"no TOML for {value!r}")
