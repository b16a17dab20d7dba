"""Settings as text for people and programs: the defaults with comments, what is in effect, the JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mta_front.settings.faults import REDACTED, SCHEMA, allowed_text
from mta_front.settings.lines import KeyPath
from mta_front.settings.model import Settings
from mta_front.settings.sources import BUILT_IN, Tree
from mta_front.settings.toml import toml_key, toml_text

_COMMENT_COLUMN = 40


def schema_json() -> str:
    """The JSON schema of a settings file, for editors and other programs."""
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMA.document}, indent=2)


def defaults_toml() -> str:
    """A settings file that says what is so without one."""
    lines = [
        "# Every setting of mta-front with its default.",
        "# [[listeners]] and [[relay.routes]] stand in comments, since there are none; each may be repeated.",
        "# A key with nothing behind it has no default of its own: it is as the comment of its table says.",
        "# Each key of a section is also an environment variable, as in MTA_FRONT_SERVER__WORKERS=4.",
    ]
    lines += _default_lines((), "")
    for path in SCHEMA.paths():
        if _is_tables(SCHEMA.node(path) or {}):
            lines += _default_table((*path, 0), f"#[[{_header(path)}]]", "#")
    return "\n".join(lines) + "\n"


def _default_table(path: KeyPath, header: str, mark: str) -> Iterator[str]:
    node = SCHEMA.node(path) or {}
    yield from ("", f"# {node['description']}", header)
    yield from _default_lines(path, mark)


def _default_lines(path: KeyPath, mark: str) -> Iterator[str]:
    """The keys of the table at `path`, then the tables in it. `mark`: "#" for what stands in a comment."""
    nested: list[Iterator[str]] = []
    for key in (SCHEMA.node(path) or {})["properties"]:
        here = (*path, key)
        node = SCHEMA.node(here) or {}
        if _is_table(node):
            nested.append(_default_table(here, f"{mark}[{_header(here)}]", mark))
        elif _is_named_tables(node):
            name = (*here, "mail.example.com")
            nested.append(_default_table(name, f"# [{_header(name)}]", "# "))
        elif "default" not in node:
            yield f"# {f'{key} =':<{_COMMENT_COLUMN - 1}}# {_comment(node)}"
        elif not _is_tables(node):
            yield mark + _line(here, node["default"], _comment(node))
    for lines in nested:
        yield from lines


def effective_toml(settings: Settings, tree: Tree) -> str:
    """The settings in effect, secrets redacted, with a note where a value is not the default."""
    values = settings.model_dump(mode="json", by_alias=True)
    return "\n".join(_table_lines((), values, tree)).lstrip("\n") + "\n"


def _table_lines(path: KeyPath, table: dict[str, Any], tree: Tree) -> Iterator[str]:
    nested: list[str] = []
    for key, value in table.items():
        here = (*path, key)
        node = SCHEMA.node(here) or {}
        if _is_table(node):
            lines = list(_table_lines(here, value, tree))
            nested += ["", f"[{_header(here)}]", *lines] if lines else []
        elif _is_tables(node):
            for number, element in enumerate(value):
                nested += ["", f"[[{_header(here)}]]", *_table_lines((*here, number), element, tree)]
        elif _is_named_tables(node):
            for name, element in value.items():
                nested += ["", f"[{_header((*here, name))}]", *_table_lines((*here, name), element, tree)]
        elif value is not None:
            shown = (REDACTED if value else "") if SCHEMA.is_secret(here) else value
            yield _line(here, shown, _source(here, tree))
    yield from nested


def _header(path: KeyPath) -> str:
    return ".".join(toml_key(part) for part in path if isinstance(part, str))


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


def _is_named_tables(node: dict[str, Any]) -> bool:
    return "$ref" in (node.get("additionalProperties") or {})
