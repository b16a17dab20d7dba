"""Settings: the way in. `load` reads a file, the environment and flags; `development` needs none of them.

After either returns, nothing reads files or the environment again: the objects are frozen and hold everything. The
model is `mta_front.settings.model`. Harmless to import in the master: no threads, hubs, connections or user code.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mta_front import development as development_server
from mta_front.settings.admin import Admin
from mta_front.settings.faults import SettingsError, message_of, unknown_key
from mta_front.settings.lines import KeyPath
from mta_front.settings.model import Hooks, Listener, Log, Relay, Settings
from mta_front.settings.routes import Route
from mta_front.settings.rules import faults_of
from mta_front.settings.server import Server
from mta_front.settings.sources import BUILT_IN, Tree, add_environment, add_file, add_flags, add_values, read_secrets
from mta_front.settings.store import Store
from mta_front.settings.values import Bind

__all__ = [
    "Admin",
    "Bind",
    "Hooks",
    "Listener",
    "Loaded",
    "Log",
    "Relay",
    "Route",
    "Server",
    "Settings",
    "SettingsError",
    "Store",
    "development",
    "development_layer",
    "file_layer",
    "finish",
    "load",
]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with where each of them came from."""

    settings: Settings
    tree: Tree


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Settings from the file at `path`, if one is given, the environment, and flags, each over the one before.

    `flags` maps dotted keys to values; None means not given. Raises SettingsError with every fault.
    """
    return finish(file_layer(path), environ, flags).settings


def development(environ: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """The settings of a server without a file: loopback only, an embedded store, and a Maildir for all mail; TLS with
    a certificate of its own, and one user.

    Environment and flags hold over them. The Maildir lies in `data_dir`. Raises SettingsError.
    """
    return finish(development_layer(environ), environ, flags).settings


def file_layer(path: Path | None) -> Tree:
    """What the file says; nothing without one."""
    tree = Tree()
    if path is not None:
        add_file(tree, path)
    return tree


def development_layer(environ: Mapping[str, str]) -> Tree:
    """What `development` sets itself."""
    tree = Tree()
    add_values(tree, development_server.layer(environ.get("MTA_FRONT_SERVER__DATA_DIR") or "./var"), BUILT_IN)
    return tree


def finish(tree: Tree, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Loaded:
    """Lay environment and flags over the tree, check it all, and settle what depends on the host."""
    add_environment(tree, environ)
    add_flags(tree, flags)
    read_secrets(tree)
    settings = _validate(tree)
    if tree.faults or settings is None:
        raise SettingsError(tree.fault_lines())
    return Loaded(_of_this_host(settings), tree)


def _validate(tree: Tree) -> Settings | None:
    """The model's and the rules' faults go to the tree.

    Rules are checked even when some values are bad: on the rest, with the defaults in the place of what is bad, so that
    all faults are told at once.
    """
    bad: list[KeyPath] = []
    try:
        settings = Settings.model_validate(tree.values)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            path = details["loc"]
            bad.append(path)
            if details["type"] == "extra_forbidden":
                tree.fault(path, unknown_key(path), show_value=False)
            else:
                tree.fault(path, message_of(details, path))
        try:
            settings = Settings.model_validate(_without(tree.values, bad))
        except ValidationError:
            return None
    for paths, message in faults_of(settings):
        if not any(_touches(path, other) for path in paths for other in bad):
            tree.fault(paths[0], message)
    return settings


def _touches(path: KeyPath, other: KeyPath) -> bool:
    """True if one path is, or lies inside, the other."""
    shorter = min(len(path), len(other))
    return path[:shorter] == other[:shorter]


def _without(value: Any, bad: list[KeyPath], path: KeyPath = ()) -> Any:
    """A copy of `value` without the paths `bad`; a list of plain values that holds a bad one goes whole."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if not _goes((*path, key), item, bad)}
        return {key: _without(item, bad, (*path, key)) for key, item in kept.items()}
    if isinstance(value, list):
        return [_without(item, bad, (*path, number)) for number, item in enumerate(value)]
    return value


def _goes(path: KeyPath, item: object, bad: list[KeyPath]) -> bool:
    if path in bad:
        return True
    return isinstance(item, list) and any(other[:-1] == path and isinstance(other[-1], int) for other in bad)


def _of_this_host(settings: Settings) -> Settings:
    """Settle the defaults that depend on the host."""
    server = settings.server.model_copy(
        update={
            "name": settings.server.name or socket.gethostname(),
            "workers": settings.server.workers or len(os.sched_getaffinity(0)),
        }
    )
    return settings.model_copy(update={"server": server})
