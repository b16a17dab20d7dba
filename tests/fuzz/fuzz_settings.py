"""Whatever a settings file and the environment hold, loading them either succeeds or raises SettingsError.

Every fault is one line. What succeeds can be shown as TOML, and that, where it hides no secret, means the same.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from mta_front.config import Loaded, SettingsError, file_layer, finish
from mta_front.settings.faults import REDACTED, SCHEMA
from mta_front.settings.render import defaults_toml, effective_toml
from mta_front.settings.sources import ENVIRONMENT_PREFIX

HEADER_BYTES = 0

SEEDS = [
    defaults_toml().encode(),
    b"[[listeners]]\nbind = ['[::1]:25', 'unix:x']\nrelay_domains = ['*', '*.a.b', '[192.0.2.1]']\n",
    b"[store]\nurl = 'redis://a:b@c:1/2'\npassword_file = '/dev/null'\n[server]\nworkers = 1e3\nname = '''\nx'''\n",
    b"[[relay.routes]]\nnext_hops = ['a:1']\n[[relay.routes]]\ntransport = 'maildir'\npath = \"\\u0000\"\n",
    b"a.b.c = {d = [1979-05-27T07:32:00Z, inf, nan]}\n",
    b"SERVER__WORKERS=2\nSTORE__PASSWORD=x\nSERVER__NAME=\xff\0[server]\nname = 'a.example'\n",
    b"LISTENERS=[{bind = ['127.0.0.1:25']}]\nRELAY__SCHEDULE_S=[1, 2\nLOG__LEVEL=\0",
]

TOKENS = [
    *("__".join(path).upper() + "=" for path in SCHEMA.paths()),
    *(".".join(path) + " = " for path in SCHEMA.paths()),
    *("[[listeners]]\n", "[[relay.routes]]\n", "true", "nan", "1e400", "'''", '"""', "\\u0000"),
]

_MEMORY = os.memfd_create("mta-front.toml")
_FILE = Path(f"/proc/self/fd/{_MEMORY}")


def one_input(data: bytes) -> None:
    """What stands before the last NUL are variables of the environment, a line each; the rest is the file."""
    variables, _, file = data.rpartition(b"\0")
    environ = {}
    for line in variables.decode("utf-8", "surrogateescape").split("\n"):
        name, _, value = line.partition("=")
        environ[ENVIRONMENT_PREFIX + name] = value.replace("\0", "")
    try:
        loaded = _load(file, environ if variables else {})
    except SettingsError as error:
        assert error.faults
        assert not any("\n" in fault for fault in error.faults), error.faults
        return
    shown = effective_toml(loaded.settings, loaded.tree)
    tomllib.loads(shown)
    if REDACTED not in shown:
        assert _load(shown.encode(), {}).settings == loaded.settings


def _load(file: bytes, environ: dict[str, str]) -> Loaded:
    _FILE.write_bytes(file)
    return finish(file_layer(_FILE), environ, {})
