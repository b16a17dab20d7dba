"""Where settings come from, laid over one another: defaults < file < environment < flags.

A `Tree` holds the values as plain TOML types and, for each key that somebody set, its `Origin`. What is wrong with the
sources themselves is gathered in `Tree.faults`; what is wrong with the values, the model finds later.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mta_front.settings.faults import SCHEMA, key_text, unknown_key, value_text
from mta_front.settings.lines import KeyPath, lines_of
from mta_front.settings.toml import toml_value

ENVIRONMENT_PREFIX = "MTA_FRONT_"

_OF_KUBERNETES = re.compile(r"(?:_SERVICE_HOST|_SERVICE_PORT(?:_\w+)?|_PORT|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)$")
"""Variables that Kubernetes makes for a Service named mta-front or mta-front-something. They are not settings."""


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a value was set. Ordered as faults are shown; `rank` is the layer: later layers win."""

    rank: int
    line: int
    where: str


BUILT_IN = Origin(0, 0, "default")


@dataclass(slots=True)
class Tree:
    """Settings before the model has seen them."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    faults: list[tuple[Origin, str]] = field(default_factory=list)

    def put(self, path: KeyPath, value: object, origin: Origin) -> None:
        """Set one value over what earlier layers said."""
        *sections, last = path
        table = self.values
        for section in sections:
            table = table.setdefault(str(section), {})
            if not isinstance(table, dict):  # not a table, which is a fault that the model will name
                return
        table[str(last)] = value
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]
        self.origins[path] = origin

    def get(self, path: KeyPath) -> Any:
        """The value at `path`, or None."""
        found: Any = self.values
        for part in path:
            try:
                found = found[part]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def origin(self, path: KeyPath) -> Origin:
        """Where the value at `path`, or the closest table or list around it, was set."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return BUILT_IN

    def fault(self, path: KeyPath, message: str, *, show_value: bool = True) -> None:
        """Note a fault at `path`."""
        self.faults.append((self.origin(path), self.line(path, message, show_value=show_value)))

    def line(self, path: KeyPath, message: str, *, show_value: bool = True) -> str:
        """What is to be said about the value at `path`: where it was set, the key, the value, the message."""
        value = self.get(path)
        is_table = isinstance(value, dict) and (SCHEMA.node(path) or {}).get("type") == "object"  # too much to show
        shown = f" = {value_text(path, value)}" if show_value and value is not None and not is_table else ""
        origin = self.origin(path)
        where = "" if origin == BUILT_IN else f"{origin.where}: "
        return f"{where}{key_text(path)}{shown}: {message}"

    def fault_lines(self) -> list[str]:
        """All faults, in the order of their origins."""
        return [line for _, line in sorted(self.faults, key=lambda fault: fault[0])]


def add_values(tree: Tree, values: Mapping[str, Any], origin: Origin) -> None:
    """Lay nested values over the tree, key by key; lists are taken whole."""
    for path, value in _leaves((), values):
        tree.put(path, value, origin)


def _leaves(path: tuple[str, ...], values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves((*path, key), value)
        else:
            yield (*path, key), value


def add_file(tree: Tree, path: Path) -> None:
    """Lay a TOML file over the tree."""
    try:
        document = path.read_bytes().decode("utf-8-sig")
        values = tomllib.loads(document)
    except OSError as error:
        tree.faults.append((Origin(1, 0, ""), f"{path}: cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        tree.faults.append((Origin(1, 0, ""), f"{path}: is not UTF-8 (at byte {error.start})"))
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        at = re.fullmatch(r"line (\d+), column (\d+)\)", place)
        line, column = (at[1], f" (column {at[2]})") if at else (document.rstrip("\n").count("\n") + 1, "")
        tree.faults.append((Origin(1, 0, ""), f"{path}:{line}: is not TOML: {message or error}{column}"))
    else:
        add_values(tree, values, Origin(1, 0, str(path)))
        for key, number in lines_of(document).items():
            tree.origins[key] = Origin(1, number, f"{path}:{number}")


def add_environment(tree: Tree, environ: Mapping[str, str]) -> None:
    """Lay the variables MTA_FRONT_SECTION__KEY over the tree. What is not text is read as TOML or JSON."""
    known = {ENVIRONMENT_PREFIX + "__".join(key).upper(): key for key in SCHEMA.paths()}
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        origin = Origin(2, 0, name)
        path = known.get(name)
        if path is not None and _settable(path):
            tree.put(path, _value(path, environ[name]), origin)
        elif not _OF_KUBERNETES.search(name):
            settable = [variable for variable, key in known.items() if _settable(key)]
            near = difflib.get_close_matches(name, settable, n=1, cutoff=0.7)
            hint = f"; did you mean {near[0]}?" if near else ""
            tree.faults.append((origin, f"{name}: no setting has this name{hint}"))


def _settable(path: KeyPath) -> bool:
    """True for a key that one variable can hold: not a whole section, nor a key inside a list or a named table."""
    node = SCHEMA.node(path)
    return node is not None and "properties" not in node


def _value(path: KeyPath, text: str) -> object:
    node = SCHEMA.node(path) or {}
    if node.get("type") == "string":
        return text
    try:
        value = toml_value(text)
    except ValueError:
        return text
    return text if "anyOf" in node and not isinstance(value, list) else value  # text or a list of texts


def add_flags(tree: Tree, flags: Mapping[str, Any]) -> None:
    """Lay command line options over the tree: {"server.workers": 3}. None means that the option was not given."""
    for key, value in flags.items():
        if value is not None:
            path = tuple(key.split("."))
            if SCHEMA.node(path) is None:
                raise KeyError(unknown_key(path))
            tree.put(path, value, Origin(3, 0, "--" + path[-1].replace("_", "-")))


def read_secrets(tree: Tree) -> None:
    """For each secret given as `KEY_file`, read the file. The later layer wins; both in one layer are a fault."""
    for path in [key for key in SCHEMA.paths() if SCHEMA.is_secret(key)]:
        file_path = (*path[:-1], f"{path[-1]}_file")
        name, inline = tree.get(file_path), tree.get(path)
        if not isinstance(name, str) or not name:
            continue
        if inline and tree.origin(path).rank == tree.origin(file_path).rank:
            tree.fault(file_path, f"stands beside {key_text(path)}; give one of them")
        elif not inline or tree.origin(path).rank < tree.origin(file_path).rank:
            _read_secret(tree, path, file_path, Path(name))


def _read_secret(tree: Tree, path: KeyPath, file_path: KeyPath, file: Path) -> None:
    try:
        secret = file.read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        tree.fault(file_path, f"cannot be read: {error.strerror}")
    except ValueError:
        tree.fault(file_path, "is not UTF-8 text")
    else:
        if secret:
            tree.put(path, secret, tree.origin(file_path))
        else:
            tree.fault(file_path, "is empty")
