"""Whatever a settings file holds, loading it either succeeds or raises SettingsError, whose every fault is one line."""

from __future__ import annotations

import os
from pathlib import Path

from mta_front.config import SettingsError, load
from mta_front.settings.render import defaults_toml, effective_toml
from mta_front.settings.sources import Tree

SEEDS = [
    defaults_toml().encode(),
    b"[[listeners]]\nbind = ['[::1]:25', 'unix:x']\nrelay_domains = ['*', '*.a.b', '[192.0.2.1]']\n",
    b"[store]\nurl = 'redis://a:b@c:1/2'\npassword_file = '/dev/null'\n[server]\nworkers = 1e3\nname = '''\nx'''\n",
    b"[[relay.routes]]\nnext_hops = ['a:1']\n[[relay.routes]]\ntransport = 'maildir'\npath = \"\\u0000\"\n",
    b"a.b.c = {d = [1979-05-27T07:32:00Z, inf, nan]}\n",
]

_MEMORY = os.memfd_create("mta-front.toml")
_FILE = Path(f"/proc/self/fd/{_MEMORY}")


def one_input(data: bytes) -> None:
    """The data is the file."""
    _FILE.write_bytes(data)
    try:
        settings = load(_FILE, {}, {})
    except SettingsError as error:
        assert error.faults
        assert not any("\n" in fault for fault in error.faults), error.faults
    else:
        effective_toml(settings, Tree())
        assert load(_FILE, {}, {}) == settings
