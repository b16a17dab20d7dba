"""What every test gets: its programs are ended and reaped after it, and a failed one's report shows their logs.

`--full` runs the end-to-end tests in the sizes that docs/testing.md promises; without it they are smaller. Figures that
tests report with `figures` are printed at the end of the run.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import processes
from tests.ports import free_port
from tests.postfix import SmtpSink

if TYPE_CHECKING:  # only loaded where used: they bring asyncio, ssl and redis into the test's process
    from tests.front import Front
    from tests.sink import Sink

FIGURES: list[str] = []
"""What tests reported, in the process that prints."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full`."""
    parser.addoption("--full", action="store_true", help="end-to-end tests in full size (minutes)")


def pytest_configure() -> None:
    """A program that is started where Ctrl-C is ignored (by nohup, by some CI) ignores it too: our tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Gather the figures, also of tests that ran in another process."""
    if report.when == "teardown":
        FIGURES.extend(str(value) for name, value in report.user_properties if name == "figure")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures."""
    if FIGURES:
        terminalreporter.section("figures")
        for line in FIGURES:
            terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test's report shows the ends of the logs of what it started."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {' '.join(each.argv[1:4])}", each.log_tail()) for each in processes.started]
    return report


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Whatever a test started is ended and reaped when it is over."""
    yield
    while processes.started:
        processes.started.pop().end()


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the full sizes are wanted."""
    return bool(request.config.getoption("--full"))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`figures("20,000 accepted")`: print a line at the end of the run, under the test's name."""
    properties = request.node.user_properties
    return lambda line: properties.append(("figure", f"{request.node.name}: {line}"))


@pytest.fixture
def smtp_sink(tmp_path: Path) -> SmtpSink:
    """A running smtp-sink."""
    return SmtpSink(tmp_path).start()


@pytest.fixture
def sink(tmp_path: Path) -> Sink:
    """A running next hop that logs each delivery."""
    from tests.sink import Sink

    return Sink(tmp_path, free_port(), keep=True).start()


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Front]:
    """`serve(route, listener={…}, store={…}, …)`: a running front door; sections as in `tests/settingsfile.py`."""
    from tests import front

    def start(route: dict[str, Any], **sections: Any) -> Front:
        return front.make(tmp_path, route, **sections).start()

    return start
