"""Settings as text for people and programs: the defaults with comments, what is in effect, the JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mta_front.settings.faults import REDACTED, SCHEMA, allowed_text
from mta_front.settings.lines import KeyPath
from mta_front.settings.model import Settings
from mta_front.settings.sources import BUILT_IN, Tree
from mta_front.settings.toml import toml_text

_COMMENT_COLUMN = 40


def schema_json() -> str:
    """The JSON schema of a settings file, for editors and other programs."""
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMA.document}, indent=2)


def defaults_toml() -> str:
    """A settings file that says what is so without one."""
    lines = [
        "# Every setting of mta-front with its default.",
        "# [[listeners]] and [[relay.routes]] stand in comments, since there are none; each may be repeated.",
        "# Each key of a section is also an environment variable, as in MTA_FRONT_SERVER__WORKERS=4.",
    ]
    repeatable: list[KeyPath] = []
    for path in SCHEMA.paths():
        node = SCHEMA.node(path) or {}
        if _is_table(node):
            lines += ["", f"# {node['description']}", f"[{path[0]}]"]
        elif _is_tables(node):
            repeatable.append(path)
        elif not any(path[: len(tables)] == tables for tables in repeatable):
            lines.append(_line(path, node["default"], _comment(node)))
    for tables in repeatable:
        node = SCHEMA.node((*tables, 0)) or {}
        lines += ["", f"# {node['description']}", f"#[[{'.'.join(map(str, tables))}]]"]
        for key in node["properties"]:
            child = SCHEMA.node((*tables, 0, key)) or {}
            lines.append("#" + _line((*tables, key), child["default"], _comment(child)))
    return "\n".join(lines) + "\n"


def effective_toml(settings: Settings, tree: Tree) -> str:
    """The settings in effect, secrets redacted, with a note where a value is not the default."""
    values = settings.model_dump(mode="json", by_alias=True)
    return "\n".join(_table_lines((), values, tree)).lstrip("\n") + "\n"


def _table_lines(path: KeyPath, table: dict[str, Any], tree: Tree) -> Iterator[str]:
    nested: list[tuple[KeyPath, dict[str, Any], str]] = []
    for key, value in table.items():
        here = (*path, key)
        node = SCHEMA.node(here) or {}
        if _is_table(node):
            nested.append((here, value, f"[{_header(here)}]"))
        elif _is_tables(node):
            nested += [((*here, number), element, f"[[{_header(here)}]]") for number, element in enumerate(value)]
        else:
            shown = (REDACTED if value else "") if SCHEMA.is_secret(here) else value
            yield _line(here, shown, _source(here, tree))
    for here, inner, header in nested:
        yield from ("", header)
        yield from _table_lines(here, inner, tree)


def _header(path: KeyPath) -> str:
    return ".".join(part for part in path if isinstance(part, str))


def _source(path: KeyPath, tree: Tree) -> str:
    origin = tree.origin(path)
    return "" if origin == BUILT_IN or tree.get(path) is None else origin.where


def _line(path: KeyPath, value: object, comment: str) -> str:
    setting = f"{path[-1]} = {toml_text(value)}"
    return f"{setting:<{_COMMENT_COLUMN}} # {comment}" if comment else setting


def _comment(node: dict[str, Any]) -> str:
    description = str(node["description"])
    choices = [toml_text(choice) for choice in node.get("enum", ())]
    return description if all(choice in description for choice in choices) else f"{description}: {allowed_text(node)}"


def _is_table(node: dict[str, Any]) -> bool:
    return "properties" in node


def _is_tables(node: dict[str, Any]) -> bool:
    return "$ref" in node.get("items", {})
