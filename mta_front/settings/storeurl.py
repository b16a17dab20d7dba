"""URLs of stores: one server, the master that Sentinels name, or a Cluster; and what of them is secret. Pure.

redis://HOST:PORT/DB               rediss:// the same over TLS
unix:///PATH?db=N
redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB     NAME: the master's, as the Sentinels call it
redis+cluster://HOST:PORT,HOST:PORT              any nodes; they name the others
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

REDIS_PORT, SENTINEL_PORT = 6379, 26_379

Kind = Literal["single", "sentinel", "cluster"]

_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("single", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_ALLOWED = (
    'must be "" (embedded), redis://HOST:PORT/DB, unix:///PATH, redis+sentinel://HOST,HOST/NAME/DB or '
    "redis+cluster://HOST,HOST; with TLS rediss:// and the like"
)
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:,/\s]+)(?::([0-9]{1,5}))?")
_MASTER_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """What a URL says. `seeds`: hosts and ports to begin with; empty for a Unix socket."""

    kind: Kind
    tls: bool
    seeds: tuple[tuple[str, int], ...] = ()
    path: str = ""
    master: str = ""
    db: int = 0
    query: str = ""  # options for TLS: ssl_…

    @property
    def fails_over(self) -> bool:
        """Whether another server may take the master's place by itself, with what had reached it by then."""
        return self.kind != "single"


def read_store_url(text: str) -> StoreUrl:
    """The parts of a URL, without its credentials. ValueError says what is allowed."""
    try:
        parts = urlsplit(text)
        kind, tls = _SCHEMES[parts.scheme]
    except (ValueError, KeyError):
        raise ValueError(_ALLOWED) from None
    options = parse_qsl(parts.query, keep_blank_values=True)
    if not all(key == "db" or key.startswith("ssl_") for key, _ in options) or len(dict(options)) != len(options):
        raise ValueError("may have the options db=N and ssl_… only, each once")
    query = "&".join(each for each in parts.query.split("&") if each.startswith("ssl_"))
    if query and not tls:
        raise ValueError("may have options for TLS with rediss:// only")
    db = _database(parts.path, dict(options).get("db"), parts.scheme)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme == "unix":
        if host or not parts.path.startswith("/"):
            raise ValueError("must have an absolute path, as in unix:///run/redis.sock")
        return StoreUrl(kind, tls, path=unquote(parts.path), db=db)
    seeds = _seeds(host, SENTINEL_PORT if kind == "sentinel" else REDIS_PORT)
    if kind == "single" and len(seeds) > 1:
        raise ValueError("must name one host; several are for redis+sentinel:// and redis+cluster://")
    master = ""
    if kind == "sentinel":
        master = parts.path.split("/")[1] if parts.path else ""
        if not _MASTER_NAME.fullmatch(master):
            raise ValueError("must name the master behind its Sentinels, as in redis+sentinel://s1,s2,s3/mymaster")
    elif kind == "cluster" and db:
        raise ValueError("must not name a database: a Cluster has one")
    return StoreUrl(kind, tls, seeds, master=master, db=db, query=query)


def _database(path: str, option: str | None, scheme: str) -> int:
    """The number of the database, which stands at the end of the path or in the option db."""
    number = "" if option is None else option
    if scheme != "unix":
        words = path.split("/")[1:]
        last = words[1:] if scheme.endswith("+sentinel") else words
        if len(last) > 1 or not all(re.fullmatch(r"[0-9]{0,5}", word) for word in last):
            raise ValueError("must have the number of a database as its path, as in redis://redis.internal:6379/0")
        number = option if option is not None else "".join(last)
    if not re.fullmatch(r"[0-9]{0,5}", number):
        raise ValueError("must have the number of a database in db=N")
    return int(number or 0)


def _seeds(hosts: str, port: int) -> tuple[tuple[str, int], ...]:
    if not hosts or hosts.startswith(":"):
        raise ValueError("must name a host, as in redis://redis.internal:6379/0")
    seeds = []
    for each in hosts.split(","):
        found = _PLACE.fullmatch(each)
        if not found or not 1 <= int(found[2] or port) <= 65_535:
            raise ValueError(_ALLOWED)
        seeds.append((found[1].strip("[]").lower(), int(found[2] or port)))
    return tuple(seeds)


def parse_store_url(text: str) -> str:
    """A URL as above, or "" for the embedded store. Credentials are no part of it any more."""
    if text:
        read_store_url(text)
    return text


def split_credentials(values: Any) -> Any:
    """For a table with `url`, `username` and `password`: move user and password out of the URL, so that the URL can be
    shown and logged. Keys that were given for themselves win.
    """
    if not isinstance(values, dict) or not isinstance(values.get("url"), str) or "@" not in values["url"]:
        return values
    url = values["url"]
    try:
        netloc = urlsplit(url).netloc
    except ValueError:
        return values  # no URL, as its own check says
    userinfo, at, host = netloc.rpartition("@")
    if not at:
        return values
    username, _, password = userinfo.partition(":")
    split = {"username": unquote(username), "password": unquote(password)}
    given = {key: value for key, value in values.items() if key not in split or _plain(value)}
    return split | given | {"url": url.replace(f"//{netloc}", f"//{host}", 1)}


def _plain(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
