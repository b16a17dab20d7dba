"""What is wrong with settings, in words: one line for each fault, all faults at once.

A line names where the value was set, the key, the value and what is allowed:

    mta-front.toml:12: server.workers = "four": must be a whole number from 0 to 512
    MTA_FRONT_STORE__SHARD: store.shard: unknown key; did you mean store.shards?

The value of a secret or of an unknown key (which may be a misspelt secret) is never shown.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails, core_schema

from mta_front.settings.lines import KeyPath
from mta_front.settings.model import Settings
from mta_front.settings.toml import toml_key, toml_text

REDACTED = "<redacted>"
_VALUE_MAX_CHARS = 80
_CREDENTIALS = re.compile(r'(?<=://)[^\s"]*(?=@)|(?<=password=)[^\s"&]*')
"""What may be a password in a URL, also in one that cannot be parsed."""
_PEM = re.compile(r"-----BEGIN.*", re.DOTALL)
"""What may be a private key, and everything after it."""


class SettingsError(Exception):
    """The settings cannot be used. `faults` holds one line each, in the order of file, environment, flags."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


class _WithoutNull(GenerateJsonSchema):
    """TOML has no null: None stands for a key that is not there, and is no value."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Of what it is when it is there."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Without a default that is None."""
        found = super().default_schema(schema)
        return {key: value for key, value in found.items() if key != "default" or value is not None}


class Schema:
    """The settings model as JSON schema, with look-ups by path.

    A path may lead through elements of lists, by their number, and through tables whose keys are names that the
    operator gives (`[tls.sni."mail.example.com"]`).
    """

    def __init__(self, model: type[Settings] = Settings) -> None:
        self.document = model.model_json_schema(by_alias=True, schema_generator=_WithoutNull)

    def node(self, path: KeyPath) -> dict[str, Any] | None:
        """What the model says about the key at `path`; None if there is no such key."""
        node = self.document
        for part in path:
            if isinstance(part, int):
                if "items" not in node:
                    return None
                node = self._target(node["items"])
            elif part in node.get("properties", {}):
                node = self._target(node["properties"][part])
            elif node.get("additionalProperties"):
                node = self._target(node["additionalProperties"])
            else:
                return None
        return node

    def general(self, path: KeyPath) -> tuple[str, ...]:
        """The path without numbers and given names, as in `paths`; parts that are not known stay."""
        found: list[str] = []
        for position, part in enumerate(path):
            node = self.node(path[:position]) or {}
            if isinstance(part, str) and not node.get("additionalProperties"):
                found.append(part)
        return tuple(found)

    def _target(self, node: dict[str, Any]) -> dict[str, Any]:
        reference = node.get("$ref")
        return self.document["$defs"][reference.rpartition("/")[2]] if reference else node

    def is_secret(self, path: KeyPath) -> bool:
        """True if the value at `path` must never be shown."""
        node = self.node(path)
        return node is not None and bool(node.get("writeOnly"))

    def paths(self) -> Iterator[tuple[str, ...]]:
        """The paths of all keys, without the numbers of list elements and the names of named tables."""
        yield from self._paths_below((), self.document)

    def _paths_below(self, path: tuple[str, ...], node: dict[str, Any]) -> Iterator[tuple[str, ...]]:
        for name, child in node.get("properties", {}).items():
            yield (*path, name)
            target = self._target(child)
            inner = target.get("items") or target.get("additionalProperties") or target
            yield from self._paths_below((*path, name), self._target(inner))


SCHEMA = Schema()


def key_text(path: KeyPath) -> str:
    """A path as text: ("listeners", 0, "bind") is `listeners[0].bind`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{toml_key(part)}" for part in path).removeprefix(".")


def value_text(path: KeyPath, value: object) -> str:
    """A value as it would stand in a file, cut when it is long, without secrets."""
    if SCHEMA.is_secret(path):
        return REDACTED
    text = _PEM.sub(REDACTED, _CREDENTIALS.sub(REDACTED, toml_text(value)))
    return text if len(text) <= _VALUE_MAX_CHARS else text[: _VALUE_MAX_CHARS - 1] + "…"


def allowed_text(node: dict[str, Any]) -> str:
    """What a value may be, in words that follow "must be"."""
    if "const" in node:
        return toml_text(node["const"])
    if "enum" in node:
        *first, last = [toml_text(value) for value in node["enum"]]
        return f"{', '.join(first)} or {last}" if first else last
    match node.get("type"):
        case "integer":
            return "a whole number" + _range_text(node)
        case "number":
            return "a number" + _range_text(node)
        case "boolean":
            return "true or false"
        case "string":
            return "text in quotes"
        case "array":
            return "a list" + (" with something in it" if node.get("minItems") else "")
        case _:
            return "a table"


def _range_text(node: dict[str, Any]) -> str:
    low, high, above = node.get("minimum"), node.get("maximum"), node.get("exclusiveMinimum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return f" greater than {above:g}" if above is not None else ""


def nearest_key(path: KeyPath) -> str:
    """A known key that an unknown one may have meant, or ""."""
    *section, wrong = SCHEMA.general(path)
    known = list(SCHEMA.paths())
    siblings = {key[-1]: key for key in known if list(key[:-1]) == section}
    for name in difflib.get_close_matches(wrong, siblings, n=1, cutoff=0.6):
        return ".".join(siblings[name])
    for name in difflib.get_close_matches(wrong, dict.fromkeys(key[-1] for key in known), n=1, cutoff=0.8):
        candidates = [key for key in known if key[-1] == name]
        closest = max(candidates, key=lambda key: _shared(key, section))
        return ".".join(closest)
    return ""


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts two paths have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def unknown_key(path: KeyPath) -> str:
    """The words of a fault about a key that does not exist."""
    near = nearest_key(path)
    return "unknown key" + (f"; did you mean {near}?" if near else "")


def message_of(error: ErrorDetails, path: KeyPath) -> str:
    """The words of a fault that the model found."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return "must be " + allowed_text(SCHEMA.node(path) or {})
