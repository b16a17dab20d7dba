"""Log lines: structlog to standard error, one line per event, one `write` per line.

`set_up` is called once per process, by the master and again in each child. Lines are JSON objects or text for people;
either way a control character that came from the network is escaped, a value under a secret's name is `<redacted>`, and
tracebacks show no local variables. Writing a line never raises: a log that is gone must not end a session.

`LogEvents` turns what the parts report into lines: a session at debug, a message at info, a state of the store that
changed at info or warning, a bug at error with its traceback.
"""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from mta_front.observe.events import Events

SECRETS = frozenset(
    {"password", "secret", "token", "access_token", "authorization", "credentials", "challenge_response"}
)
"""Names under which no value is ever written."""

REDACTED = "<redacted>"
STANDARD_ERROR = 2

Line = MutableMapping[str, Any]
Write = Callable[[bytes], None]


def to_standard_error(line: bytes) -> None:
    """Write the whole line at once, so that the lines of several processes do not mix (pipe(7): up to 4,096 bytes)."""
    try:
        while line:
            line = line[os.write(STANDARD_ERROR, line) :]
    except OSError:
        pass  # nobody reads: there is no place left to say so


def set_up(
    form: Literal["json", "console"] = "json", level: str = "info", *, write: Write = to_standard_error, **process: Any
) -> None:
    """Configure structlog, and the standard library's logging into it. `process`: fields that each line bears."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[_Shape(process), _as_json if form == "json" else _as_text],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _Writer(write),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_FromStandardLibrary()]
    root.setLevel(max(threshold, logging.INFO))
    logging.captureWarnings(True)


def logger() -> Any:
    """A logger: `.debug/.info/.warning/.error(text, **fields)`. Take it after `set_up`."""
    return structlog.get_logger().bind()


class LogEvents(Events):
    """What the parts report, as log lines."""

    def __init__(self) -> None:
        self._log = logger()

    def session_closed(self, listener: str, reason: str, summary: dict[str, Any]) -> None:
        self._log.debug("session closed", **{"listener": listener, "reason": reason} | summary)

    def message_accepted(self, listener: str, summary: dict[str, Any]) -> None:
        self._log.info("message accepted", **{"listener": listener} | summary)

    def message_refused(self, listener: str, code: int, summary: dict[str, Any]) -> None:
        self._log.info("message refused", **{"listener": listener, "code": code} | summary)

    def command_refused(self, listener: str, verb: str, code: int) -> None:
        self._log.debug("command refused", listener=listener, verb=verb, code=code)

    def login(self, listener: str, method: str, code: int) -> None:
        self._log.debug("login", listener=listener, method=method, code=code)

    def proxy_refused(self, listener: str, reason: str) -> None:
        self._log.debug("PROXY header refused", listener=listener, reason=reason)

    def tls_failed(self, listener: str, reason: str) -> None:
        self._log.debug("TLS failed", listener=listener, reason=reason)

    def tls_reloaded(self, listener: str, good: bool, why: str) -> None:
        if good:
            self._log.info("certificates reloaded", listener=listener)
        else:
            self._log.error("new certificates refused, the old ones serve on", listener=listener, reason=why)

    def fault(self, error: BaseException, where: str) -> None:
        self._log.error("fault", where=where, error=f"{type(error).__name__}: {error}", exc_info=error)

    def store_state(self, purpose: str, up: bool, reason: str) -> None:
        write = self._log.info if up else self._log.warning
        write("store up" if up else "store down", purpose=purpose, reason=reason)

    def store_replicas(self, purpose: str, found: int, counted: int) -> None:
        write = self._log.warning if found > counted else self._log.info
        write("store replicas", purpose=purpose, found=found, counted=counted)

    def reception(self, open_: bool, reason: str) -> None:
        write = self._log.info if open_ else self._log.warning
        write("reception open" if open_ else "reception stopped", reason=reason)

    def limits_mode(self, mode: str, reason: str) -> None:
        write = self._log.info if mode == "shared" else self._log.warning
        write(f"limits {mode}", reason=reason)

    def attempted(self, transport: str, outcome: str, recipients: int, duration_s: float) -> None:
        self._log.debug(
            "delivery attempted",
            transport=transport,
            outcome=outcome,
            recipients=recipients,
            duration_s=round(duration_s, 3),
        )

    def settled(self, summary: dict[str, Any]) -> None:
        write = self._log.warning if summary.get("outcome") == "buried" else self._log.info
        write("message settled", **summary)


class _Writer:
    """The last step of structlog: takes rendered bytes."""

    __slots__ = ("_write",)

    def __init__(self, write: Write) -> None:
        self._write = write

    def debug(self, line: bytes) -> None:
        self._write(line + b"\n")

    info = warning = error = critical = exception = msg = debug


class _Shape:
    """Put time, level and text first, add the process's fields, hide secrets, render a traceback."""

    __slots__ = ("_process",)

    def __init__(self, process: dict[str, Any]) -> None:
        self._process = process

    def __call__(self, _logger: Any, method: str, fields: Line) -> Line:
        now = datetime.fromtimestamp(time.time(), UTC)
        line: Line = {
            "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": method,
            "event": fields.pop("event", ""),
        }
        error = fields.pop("exc_info", None)
        line.update(self._process)
        line.update(fields)
        for name in SECRETS & line.keys():
            line[name] = REDACTED
        if isinstance(error, BaseException):
            line["exception"] = "".join(traceback.format_exception(error)).rstrip()
        return line


def _as_json(_logger: Any, _method: str, line: Line) -> bytes:
    # JSON escapes control characters, and everything that is not ASCII, by itself.
    return json.dumps(line, default=_as_str, separators=(",", ":")).encode()


def _as_text(_logger: Any, _method: str, line: Line) -> bytes:
    taken = ("timestamp", "level", "event", "exception", "process", "index")
    process = str(line.get("process", "")) + (f"/{line['index']}" if "index" in line else "")
    rest = " ".join(f"{key}={printable(_as_str(value))}" for key, value in line.items() if key not in taken)
    head = f"{line['timestamp'][11:23]} {line['level']:<7} {process:<9} {printable(str(line['event']))}"
    tail = "".join(f"\n    {printable(row)}" for row in str(line.get("exception", "")).split("\n") if row)
    return f"{head}  {rest}{tail}".rstrip().encode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """`text` with everything escaped that could move a terminal's cursor, colour it or forge a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _as_str(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


class _FromStandardLibrary(logging.Handler):
    """What libraries write through `logging`, as lines like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        write = getattr(logger(), record.levelname.lower(), logger().info)
        error = record.exc_info[1] if record.exc_info else None
        write(record.getMessage(), logger=record.name, exc_info=error)
