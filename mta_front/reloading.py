"""The settings, read and checked anew while the server runs: what the master asks at HUP."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mta_front import checks
from mta_front.config import Loaded, Settings, SettingsError, development_layer, file_layer, finish


class Source:
    """Where the settings of a running server came from: a file (None: those for development), the environment as it was
    at the start, and flags. `receives`: it is to have listeners.
    """

    def __init__(self, path: Path | None, flags: Mapping[str, Any], *, receives: bool = True) -> None:
        self._path = path.absolute() if path else None
        self._flags = dict(flags)
        self._receives = receives
        self._loaded: Loaded | None = None

    def read(self) -> Settings:
        """What they say now. Raises SettingsError, with every fault."""
        tree = file_layer(self._path) if self._path else development_layer(os.environ)
        self._loaded = finish(tree, os.environ, self._flags)
        if self._receives and not self._loaded.settings.listeners:
            raise SettingsError(["listeners: there is none; add [[listeners]]"])
        return self._loaded.settings

    def examine(self) -> checks.Findings:
        """Try what was read: certificates, users, the hooks class. In a child: it takes its time, and waits."""
        assert self._loaded, "read comes first"
        return checks.Findings() if not self._receives else checks.examine(self._loaded, make=True, held=True)
