"""Log lines: what they say, and what they never say."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from mta_front.observe import log
from mta_front.observe.log import LogEvents
from tests.processes import clean_environment, python

SUMMARY = {"id": "0abc", "size_bytes": 4096, "recipients": 2, "client": "192.0.2.7"}


class Lines(list[bytes]):
    """What was written."""

    @property
    def json(self) -> list[dict[str, Any]]:
        return [dict(json.loads(line)) for line in self]

    @property
    def text(self) -> str:
        return b"".join(self).decode()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Each test sets logging up for itself."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level


def lines(form: Literal["json", "console"] = "json", level: str = "info") -> Lines:
    written = Lines()
    log.set_up(form, level, write=written.append, process="worker", index=3)
    return written


def test_a_line_is_one_json_object_with_time_level_text_and_process() -> None:
    written = lines()
    LogEvents().message_accepted("mx", SUMMARY)
    (line,) = written.json
    assert list(line)[:6] == ["timestamp", "level", "event", "process", "index", "listener"]
    assert (line["level"], line["event"], line["process"], line["index"]) == ("info", "message accepted", "worker", 3)
    assert SUMMARY.items() <= line.items()
    assert written[0].endswith(b"}\n")
    assert written[0].count(b"\n") == 1
    assert abs(time.time() - _unix(line["timestamp"])) < 5.0


def test_sessions_are_lines_at_debug_only() -> None:
    quiet = lines(level="info")
    LogEvents().session_closed("mx", "quit", SUMMARY)
    LogEvents().command_refused("mx", "RCPT", 554)
    LogEvents().attempted("smtp", "delivered", 1, 0.1)
    assert quiet == []
    loud = lines(level="debug")
    LogEvents().session_closed("mx", "quit", SUMMARY)
    assert loud.json[0]["reason"] == "quit"


def test_what_became_of_messages_and_of_the_store_is_told() -> None:
    written = lines()
    events = LogEvents()
    events.message_refused("mx", 451, SUMMARY)
    events.settled({"id": "0abc", "outcome": "delivered"})
    events.settled({"id": "0abc", "outcome": "buried"})
    events.store_state("spool", False, "appendfsync is everysec")
    events.store_state("spool", True, "")
    events.reception(False, "memory")
    events.reception(True, "")
    events.store_replicas("spool", 1, 1)
    events.store_replicas("spool", 2, 1)
    assert [(line["level"], line["event"]) for line in written.json] == [
        ("info", "message refused"),
        ("info", "message settled"),
        ("warning", "message settled"),
        ("warning", "store down"),
        ("info", "store up"),
        ("warning", "reception stopped"),
        ("info", "reception open"),
        ("info", "store replicas"),
        ("warning", "store replicas"),
    ]
    assert written.json[0]["code"] == 451


def test_a_fault_is_an_error_with_its_traceback_and_without_local_variables() -> None:
    written = lines()

    def broken() -> None:
        password = "hunter2"
        raise ValueError(f"a bug near {len(password)}")

    try:
        broken()
    except ValueError as error:
        LogEvents().fault(error, "hooks")
    (line,) = written.json
    assert (line["level"], line["where"], line["error"]) == ("error", "hooks", "ValueError: a bug near 7")
    assert "in broken" in line["exception"]
    assert 'password = "hunter2"' not in line["exception"].replace("raise", "")


@pytest.mark.parametrize("form", ["json", "console"])
def test_control_characters_from_the_network_are_escaped(form: Literal["json", "console"]) -> None:
    """Else a client could forge a line, or colour and move the terminal of who reads it."""
    written = lines(form)
    evil = 'a@b\r\n{"event":"forged"}\x1b[2J\x00\x7f\x9b31m\u2028end'
    LogEvents().message_accepted("mx", {"mail_from": evil})
    try:
        raise ValueError(evil)
    except ValueError as error:
        LogEvents().fault(error, evil)
    text = written.text
    assert not set(text) & set("\r\x1b\x00\x9b\u2028")
    if form == "json":
        assert text.count("\n") == 2
        assert written.json[0]["mail_from"] == evil
    else:
        assert "\x7f" not in text
        assert not any(row.startswith("{") for row in text.splitlines())


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_secret_is_never_written(form: Literal["json", "console"]) -> None:
    written = lines(form, "debug")
    for name in sorted(log.SECRETS):
        LogEvents().session_closed("mx", "quit", {name: "hunter2"})
    assert "hunter2" not in written.text
    assert written.text.count(log.REDACTED) == len(log.SECRETS)


def test_bytes_and_broken_text_can_be_written() -> None:
    for form in ("json", "console"):
        written = lines(form)
        LogEvents().settled({"raw": b"caf\xe9", "lone": "\udce9", "path": object})
        assert len(written) == 1


def test_limits_that_have_lost_their_redis_are_a_warning() -> None:
    written = lines()
    LogEvents().limits_mode("degraded", "slow: 210 ms")
    LogEvents().limits_mode("shared", "")
    assert [(line["level"], line["event"], line["reason"]) for line in written.json] == [
        ("warning", "limits degraded", "slow: 210 ms"),
        ("info", "limits shared", ""),
    ]


def test_people_get_text() -> None:
    written = lines("console")
    LogEvents().message_accepted("mx", SUMMARY)
    assert written.text.endswith(
        " info    worker/3  message accepted  listener=mx id=0abc size_bytes=4096 recipients=2 client=192.0.2.7\n"
    )


def test_libraries_and_warnings_are_lines_too() -> None:
    written = lines()
    logging.getLogger("redis").warning("lost %s", "it")
    logging.getLogger("redis").debug("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert [(line["level"], line["logger"]) for line in written.json] == [
        ("warning", "redis"),
        ("warning", "py.warnings"),
    ]
    assert written.json[0]["event"] == "lost it"


def test_a_log_that_nobody_reads_ends_no_session() -> None:
    """Standard error is a pipe whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    code = (
        "from mta_front.observe import log\n"
        "log.set_up('json', 'info')\n"
        "log.LogEvents().message_accepted('mx', {})\n"
        "print('still here')"
    )
    done = subprocess.run(
        python("-c", code), stdout=subprocess.PIPE, stderr=writing, env=clean_environment(), timeout=30, text=True
    )
    os.close(writing)
    assert done.stdout == "still here\n"


def _unix(timestamp: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(timestamp).timestamp()
