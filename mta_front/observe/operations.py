"""Limits over HTTP, as JSON, for whoever has the token: what is counted, who is banned; bans made and lifted.

    GET  /limits/list?group=bans&cursor=&count=100   a page of bans, lockouts, or of what a group counts, and a cursor
    GET  /limits/top?group=connections&count=10      who uses most of it
    GET  /limits/show?key=192.0.2.1                  all that is counted of an address, a network or a user
    POST /limits/ban    {"subject": "address", "key": "192.0.2.0/24", "reason": "spam", "seconds": 3600}
    POST /limits/unban  {"subject": "address", "key": "192.0.2.0/24"}

A cursor of "" is the first page's, and after the last one. All is bounded: a body by `BODY_MAX_BYTES`, a page by
`COUNT_MAX`, those who ask the store at once by `AT_ONCE`. Who may ask is `access`'s business.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any, Protocol
from urllib.parse import parse_qsl

from mta_front.observe.log import logger

BODY_MAX_BYTES = 4096
COUNT_MAX = 1000
TEXT_MAX_CHARS = 320
BAN_MAX_S = 10 * 365 * 86_400
AT_ONCE = 4

Environ = Mapping[str, Any]
Answer = tuple[str, dict[str, Any]]
"""Status and content."""


class Inspector(Protocol):
    """What is asked of `store.limits.admin.Inspector`."""

    def page(self, group: Any, cursor: str = "", count: int = 100) -> Any:
        """`items` and `cursor`."""

    def top(self, group: Any, count: int = 10) -> Sequence[Any]:
        """Who uses most."""

    def show(self, key: str) -> Sequence[Any]:
        """All that is counted of a key."""

    def ban(self, subject: Any, key: str, reason: str, seconds: float) -> Any:
        """Make a ban."""

    def unban(self, subject: Any, key: str) -> bool:
        """Lift it; whether there was one."""


class Operation(Protocol):
    """A page that needs the token."""

    method: str

    def __call__(self, environ: Environ) -> Answer:
        """Answer one request; its body has not been read yet."""


class _Refused(Exception):
    """The request is wrong."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


BAD, LARGE, NO_JSON, NO_LENGTH = (
    "400 Bad Request",
    "413 Content Too Large",
    "415 Unsupported Media Type",
    "411 Length Required",
)
AWAY = "503 Service Unavailable"

Fields = Mapping[str, Any]


class _LimitOperation:
    """One of them. `fields`: their types, the required ones first; `required`: how many those are."""

    def __init__(
        self,
        desk: LimitDesk,
        method: str,
        fields: Mapping[str, type | tuple[type, ...]],
        required: int,
        work: Callable[[Inspector, Fields], dict[str, Any]],
    ) -> None:
        self.method = method
        self._desk = desk
        self._fields = fields
        self._required = list(fields)[:required]
        self._work = work

    def __call__(self, environ: Environ) -> Answer:
        try:
            given = self._checked(_body(environ) if self.method == "POST" else _query(environ))
            return self._desk.ask(lambda inspector: self._work(inspector, given))
        except _Refused as refused:
            return refused.status, {"error": str(refused)}

    def _checked(self, given: Mapping[str, Any]) -> Fields:
        for name in given:
            if name not in self._fields:
                raise _Refused(BAD, f"{name[:TEXT_MAX_CHARS]}: not known here; known are {', '.join(self._fields)}")
        for name in self._required:
            if name not in given:
                raise _Refused(BAD, f"{name}: is missing")
        for name, value in given.items():
            if not isinstance(value, self._fields[name]) or isinstance(value, bool):
                raise _Refused(BAD, f"{name}: is of the wrong type")
            if isinstance(value, str) and len(value) > TEXT_MAX_CHARS:
                raise _Refused(BAD, f"{name}: has more than {TEXT_MAX_CHARS} characters")
        return given


class LimitDesk:
    """All operations on limits, by path.

    `open_inspector`: one for the time of a request. `away`: what it raises while the store does not answer.
    """

    def __init__(
        self, open_inspector: Callable[[], AbstractContextManager[Inspector]], away: tuple[type[Exception], ...]
    ) -> None:
        self._open_inspector = open_inspector
        self._away = away
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self.operations: dict[str, Operation] = {
            "/limits/list": _LimitOperation(self, "GET", {"group": str, "cursor": str, "count": str}, 0, _list),
            "/limits/top": _LimitOperation(self, "GET", {"group": str, "count": str}, 1, _top),
            "/limits/show": _LimitOperation(self, "GET", {"key": str}, 1, _show),
            "/limits/ban": _LimitOperation(self, "POST", BAN_FIELDS, 4, _ban),
            "/limits/unban": _LimitOperation(self, "POST", {"subject": str, "key": str}, 2, _unban),
        }

    def ask(self, work: Callable[[Inspector], dict[str, Any]]) -> Answer:
        """Do it with an inspector, if one is free and the store there."""
        if not self._turns.acquire(blocking=False):
            return AWAY, {"error": "too many ask at once; try again"}
        try:
            with self._open_inspector() as inspector:
                return "200 OK", work(inspector)
        except self._away as error:
            return AWAY, {"error": f"the limits' Redis does not answer: {error}"}
        except ValueError as error:
            return BAD, {"error": str(error)}
        finally:
            self._turns.release()


BAN_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "subject": str,
    "key": str,
    "reason": str,
    "seconds": (int, float),
}


def _list(inspector: Inspector, given: Fields) -> dict[str, Any]:
    page = inspector.page(given.get("group", "bans"), given.get("cursor", ""), _count(given, 100))
    return {"items": [_as_json(item) for item in page.items], "cursor": page.cursor}


def _top(inspector: Inspector, given: Fields) -> dict[str, Any]:
    return {"items": [_as_json(item) for item in inspector.top(given["group"], _count(given, 10))]}


def _show(inspector: Inspector, given: Fields) -> dict[str, Any]:
    return {"items": [_as_json(item) for item in inspector.show(given["key"])]}


def _ban(inspector: Inspector, given: Fields) -> dict[str, Any]:
    seconds = given["seconds"]
    if not 1 <= seconds <= BAN_MAX_S:  # not so of NaN either
        raise ValueError(f"seconds: must be from 1 to {BAN_MAX_S}")
    made = inspector.ban(given["subject"], given["key"], given["reason"], float(seconds))
    logger().warning("banned", subject=made.subject, key=made.key, reason=made.reason, ends_at=made.ends_at)
    return {"ban": _as_json(made)}


def _unban(inspector: Inspector, given: Fields) -> dict[str, Any]:
    found = inspector.unban(given["subject"], given["key"])
    if found:
        logger().warning("unbanned", subject=given["subject"], key=given["key"])
    return {"found": found}


def _as_json(item: Any) -> dict[str, Any]:
    return {"kind": type(item).__name__.lower()} | asdict(item)


def _count(given: Fields, default: int) -> int:
    text = given.get("count", str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= COUNT_MAX):
        raise ValueError(f"count: must be from 1 to {COUNT_MAX}")
    return int(text)


def _query(environ: Environ) -> dict[str, str]:
    try:
        pairs = parse_qsl(str(environ.get("QUERY_STRING", "")), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise _Refused(BAD, "too many parameters") from None
    if len({name for name, _ in pairs}) < len(pairs):
        raise _Refused(BAD, "a parameter is there twice")
    return dict(pairs)


def _body(environ: Environ) -> dict[str, Any]:
    """The body's object. Only as JSON: a form in somebody's browser cannot send that unasked."""
    kind = str(environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()
    if kind != "application/json":
        raise _Refused(NO_JSON, "must be application/json")
    length = str(environ.get("CONTENT_LENGTH", ""))
    if not (length.isascii() and length.isdigit()):
        raise _Refused(NO_LENGTH, "must have a Content-Length")
    if len(length) > len(str(BODY_MAX_BYTES)) or int(length) > BODY_MAX_BYTES:
        raise _Refused(LARGE, f"must have at most {BODY_MAX_BYTES} octets")
    try:
        found = json.loads(environ["wsgi.input"].read(int(length)))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _Refused(BAD, "must be a JSON object")
    return found
