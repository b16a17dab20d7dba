"""What the project says of itself: versions, pins, documents, examples."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mta_front
from tests.processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def pins() -> dict[str, str]:
    """Name, in its normal form, and version of each line of constraints.txt."""
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    return {_normal(name): version for name, _, version in (line.partition("==") for line in lines)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(requirements: list[str]) -> list[str]:
    return [_normal(re.split(r"[^A-Za-z0-9._-]", requirement)[0]) for requirement in requirements]


def test_each_line_pins_one_version() -> None:
    """And none names an index, an address or a path."""
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+!]*", line), line
        assert "://" not in line
        assert "--" not in line


def test_every_dependency_is_pinned() -> None:
    wanted = _names(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        wanted += _names(extra)
    assert set(wanted) <= pins().keys()


DOCUMENTS = ["README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "docs/OVERVIEW.md"]
DOCUMENTS += [f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name != "OVERVIEW.md"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_exist_and_their_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{name}: {target}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_documents_tell_to_make_can_be_made(name: str) -> None:
    targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    told = re.findall(r"(?:^|`)make ([a-z0-9]+)", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    assert set(told) <= set(targets)


def test_one_version_everywhere() -> None:
    assert mta_front.__version__ == PROJECT["version"]


def test_the_public_names_are_there() -> None:
    for name in mta_front.__all__:
        assert getattr(mta_front, name)
    assert set(mta_front.__all__) <= set(dir(mta_front))
    with pytest.raises(AttributeError, match="nonsense"):
        mta_front.nonsense  # noqa: B018


def test_the_readme_settings_are_good(tmp_path: Path) -> None:
    """The example in README.md passes `check`, but for the password file, which is not here."""
    [example] = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    path = tmp_path / "mta-front.toml"
    password = tmp_path / "redis-password"
    password.write_text("secret")
    path.write_text(example.replace("/etc/mta-front/redis-password", str(password)))
    command = [sys.executable, "-m", "mta_front.cli", "check", "-c", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
