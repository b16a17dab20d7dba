"""What the commands of the command line have in common: the settings file, exit codes, and how faults are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from mta_front.config import Loaded, SettingsError, development_layer, file_layer, finish


class Exit(IntEnum):
    """sysexits.h, as far as the command line gives them; the master has its own."""

    OK = 0
    USAGE = 64
    DATAERR = 65
    UNAVAILABLE = 69
    SOFTWARE = 70
    CONFIG = 78


DEFAULT_FILE = Path("mta-front.toml")

FileOption = Annotated[
    Path | None,
    typer.Option("-c", "--config", metavar="FILE", help=f"Settings file. Default: ./{DEFAULT_FILE}, if there is one."),
]


def settings_file(config: Path | None) -> Path | None:
    """The file to read: the one that was named, else ./mta-front.toml if it exists, else none."""
    if config is None and DEFAULT_FILE.exists():
        return DEFAULT_FILE
    return config


def load_settings(path: Path | None, flags: dict[str, Any]) -> Loaded:
    """The settings of that file, or those for development; ends the process when they have faults."""
    tree = development_layer(os.environ) if path is None else file_layer(path)
    try:
        return finish(tree, os.environ, flags)
    except SettingsError as error:
        refuse(error.faults)


def refuse(faults: Iterable[str], exit_code: int = Exit.CONFIG) -> NoReturn:
    """One line each, and the end of the process."""
    print("\n".join(faults), file=sys.stderr)
    raise typer.Exit(exit_code)
