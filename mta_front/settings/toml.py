"""Values as TOML text. The standard library reads TOML and does not write it."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any


def toml_text(value: object) -> str:
    """A value as it may stand right of `key =`. Things that TOML does not know appear as text."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case dict():
            return "{" + ", ".join(f"{toml_key(str(key))} = {toml_text(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(toml_text(item) for item in value) + "]"
        case _:
            # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(key: str) -> str:
    """A key, quoted where it must be."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_text(key)


def toml_value(text: str) -> Any:
    """What `text` means right of `key =`, in TOML or else in JSON. Raises ValueError if it is neither."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return json.loads(text)
    if parsed.keys() != {"value"}:
        raise ValueError("more than one value")
    return parsed["value"]
