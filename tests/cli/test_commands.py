"""The command line as a user meets it: real processes, their output and exit codes."""

from __future__ import annotations

import json
import os
import re
import time
import tomllib
from pathlib import Path

import pytest

from mta_front.config import load
from tests.cli.running import put, run
from tests.processes import ROOT

GOOD = """
[[listeners]]
auth_optional = true
relay_domains = ["example.net"]
[[relay.routes]]
next_hops = ["mail.internal:25"]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty working directory."""
    return tmp_path


def test_version(directory: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    result = run(directory, "--version")
    assert (result.code, result.out) == (0, f"mta-front {project['version']}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["nonsense"],
        ["serve", "--nonsense"],
        ["serve", "--workers", "many"],
        ["serve", "-c"],
        ["check", "file"],
        ["config", "nonsense"],
        ["relay"],
    ],
)
def test_wrong_usage_is_64(directory: Path, arguments: list[str]) -> None:
    result = run(directory, *arguments)
    assert result.code == os.EX_USAGE
    assert any("Error: " in line or "Commands:" in line for line in result.lines), result.lines


class TestCheck:
    """`mta-front check`."""

    def test_good_file(self, directory: Path) -> None:
        path = put(directory, GOOD, "other.toml")
        result = run(directory, "check", "-c", str(path))
        assert (result.code, result.out, result.lines) == (0, f"{path}: no faults\n", [])

    def test_without_a_file_the_development_settings(self, directory: Path) -> None:
        assert run(directory, "check").out == "development settings: no faults\n"

    def test_file_of_the_directory_is_found(self, directory: Path) -> None:
        put(directory, GOOD)
        assert run(directory, "check").out == "mta-front.toml: no faults\n"

    def test_one_line_for_each_fault(self, directory: Path) -> None:
        put(directory, GOOD + "worker = 1\n[server]\nworkers = 'x'\n")
        result = run(directory, "check", MTA_FRONT_LOG__LEVEL="loud")
        assert (result.code, result.out) == (os.EX_CONFIG, "")
        assert result.lines == [
            "mta-front.toml:7: relay.routes[0].worker: unknown key; did you mean relay.workers?",
            'mta-front.toml:9: server.workers = "x": must be a whole number from 0 to 512',
            'MTA_FRONT_LOG__LEVEL: log.level = "loud": must be "debug", "info", "warning" or "error"',
        ]

    def test_file_that_is_not_there(self, directory: Path) -> None:
        result = run(directory, "check", "-c", "no.toml")
        assert (result.code, result.lines) == (os.EX_CONFIG, ["no.toml: cannot be read: No such file or directory"])

    def test_nothing_to_listen_on(self, directory: Path) -> None:
        put(directory, "")
        result = run(directory, "check")
        assert (result.code, result.lines) == (os.EX_CONFIG, ["listeners: there is none; add [[listeners]]"])


HOOKS = {
    "good": "import mta_front\n\nclass Policy(mta_front.Hooks):\n    pass\n",
    "unrelated": "class Policy:\n    pass\n",
    "function": "def Policy():\n    pass\n",
    "broken": "import nonexistent_module\n",
    "syntax": "class Policy(:\n",
    "talks": "print('noise')\nimport mta_front\nclass Policy(mta_front.Hooks):\n    pass\n",
    "raises": "import mta_front\nclass Policy(mta_front.Hooks):\n    def __init__(self):\n        raise OSError(5)\n",
    "ends": "import os\nos._exit(3)\n",
    "leaves": "raise SystemExit(4)\n",
    "forks": (
        "import os, time, mta_front\nif os.fork() == 0:\n    began = time.monotonic()\n"
        "    while not os.path.exists('done') and time.monotonic() < began + 20:\n        time.sleep(0.02)\n"
        "    os._exit(0)\n"
        "class Policy(mta_front.Hooks):\n    pass\n"
    ),
    "patched": (
        "import socket, gevent.monkey, mta_front\n"
        "assert gevent.monkey.is_module_patched('socket')\n"
        "class Policy(mta_front.Hooks):\n    pass\n"
    ),
}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("good:Policy", None),
        ("talks:Policy", None),
        ("patched:Policy", None),
        ("forks:Policy", None),
        ("unrelated:Policy", "cannot be used: TypeError: unrelated:Policy is no subclass of mta_front.Hooks"),
        ("function:Policy", "cannot be used: TypeError: function:Policy is no subclass of mta_front.Hooks"),
        ("good:Missing", "cannot be used: AttributeError: module 'good' has no attribute 'Missing'"),
        ("absent:Policy", "cannot be used: ModuleNotFoundError: No module named 'absent'"),
        (
            "broken:Policy",
            "cannot be used: ModuleNotFoundError: No module named 'nonexistent_module' (…/broken.py:1)",
        ),
        ("syntax:Policy", "cannot be used: SyntaxError: invalid syntax (syntax.py, line 1)"),
        ("raises:Policy", "cannot be used: OSError: 5 (…/raises.py:4)"),
        ("ends:Policy", "loading it ends the process (exit status 3)"),
        ("leaves:Policy", "loading it ends the process (exit status 4)"),
    ],
)
@pytest.mark.parametrize("command", ["check", "serve"])
def test_hooks_class_is_tried_before_anything_starts(
    directory: Path, command: str, name: str, fault: str | None
) -> None:
    """As a worker would load it, from the working directory, in a process that ends with it."""
    for module, text in HOOKS.items():
        put(directory, text, f"{module}.py")
    put(directory, GOOD + f"[hooks]\nclass = '{name}'\n")
    if fault is None:
        if command == "check":
            began = time.monotonic()
            result = run(directory, "check")
            assert (result.code, result.lines) == (0, [])
            put(directory, "", "done")
            assert time.monotonic() - began < 15.0, "what the class left running was waited for"
        return
    result = run(directory, command)
    assert result.code == os.EX_CONFIG
    assert [line.replace(str(directory), "…") for line in result.lines] == [
        f'mta-front.toml:8: hooks.class = "{name}": {fault}'
    ]


class TestConfig:
    """`mta-front config`."""

    def test_defaults_parse_and_are_the_defaults(self, directory: Path) -> None:
        path = put(directory, run(directory, "config", "defaults").out)
        assert load(path, {}, {}) == load(None, {}, {})

    def test_defaults_of_the_repeatable_tables_hold_too(self, directory: Path) -> None:
        """Uncommented, [[listeners]], [[relay.routes]] and [[limits.networks]] are what an empty one is."""
        text = re.sub(r"^#(?! )", "", run(directory, "config", "defaults").out, flags=re.MULTILINE)
        for needed in ("next_hops = ['h:25']", "networks = ['192.0.2.0/24']"):
            text = text.replace(f"\n{needed.partition(' ')[0]} = []", f"\n{needed}")
        full = load(put(directory, text, "full.toml"), {}, {})
        empty = (
            "[[listeners]]\n[[relay.routes]]\nnext_hops = ['h:25']\n[[limits.networks]]\nnetworks = ['192.0.2.0/24']\n"
        )
        short = load(put(directory, empty, "short.toml"), {}, {})
        assert full == short

    def test_documented_defaults_are_these(self, directory: Path) -> None:
        """Fails when a setting was changed: `mta-front config defaults >docs/settings.toml` writes them anew."""
        assert (ROOT / "docs" / "settings.toml").read_text("utf-8") == run(directory, "config", "defaults").out

    def test_every_key_is_explained(self, directory: Path) -> None:
        for line in run(directory, "config", "defaults").out.splitlines():
            assert not line or line.startswith(("#[", "[")) or "# " in line, line

    def test_schema(self, directory: Path) -> None:
        schema = json.loads(run(directory, "config", "schema").out)
        assert schema["properties"]["listeners"]["type"] == "array"
        listener = schema["$defs"]["Listener"]["properties"]
        assert listener["unix_mode"]["default"] == "0660"
        assert listener["bare_newline"]["enum"] == ["normalize", "reject", "accept"]
        for section in schema["$defs"].values():
            for name, key in section["properties"].items():
                assert "$ref" in key or key["description"], name
                inherits = re.fullmatch(r"(Listener|Name|Network|Own).+", section["title"])
                assert "$ref" in key or "default" in key or inherits, name

    def test_show_says_what_is_in_effect_and_where_it_was_set(self, directory: Path) -> None:
        put(directory, GOOD + "[store]\nurl = 'redis://u:hunter2@h:1/0'\n")
        result = run(directory, "config", "show", MTA_FRONT_SERVER__WORKERS="3")
        assert result.code == 0
        lines = [" ".join(line.split()) for line in result.out.splitlines()]
        assert "workers = 3 # MTA_FRONT_SERVER__WORKERS" in lines
        assert 'relay_domains = ["example.net"] # mta-front.toml:4' in lines
        assert 'url = "redis://h:1/0" # mta-front.toml:8' in lines
        assert 'password = "<redacted>"' in lines
        assert "backlog = 2048" in lines
        assert "hunter2" not in result.out

    def test_show_is_a_settings_file(self, directory: Path) -> None:
        put(directory, GOOD)
        shown = put(directory, run(directory, "config", "show").out, "shown.toml")
        assert load(shown, {}, {}) == load(directory / "mta-front.toml", {}, {})
