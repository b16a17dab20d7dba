"""The server without a settings file: what it is made of, and what it tells the developer who starts it.

Its certificate and its user are made at the first start (`mta_front.making`) and kept in `data_dir`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta_front import __version__
from mta_front.settings.sources import BUILT_IN, Tree
from mta_front.settings.tls import tls_options

if TYPE_CHECKING:
    from mta_front.config import Listener, Settings

USER = "dev"
USERS_FILE = Path("auth/users")
"""In data_dir: the user's hash, as `mta-front passwd` would write it."""
PASSWORD_FILE = Path("auth/dev-password")
"""In data_dir: the user's password, so that each start can show it. Only the owner may read it."""

MX = {"name": "mx", "bind": ["127.0.0.1:2525"], "relay_domains": ["*"], "auth_optional": True}
SUBMISSION = {"name": "submission", "bind": ["127.0.0.1:2587"], "needs_upgrade": True}
SUBMISSIONS = {"name": "submissions", "bind": ["127.0.0.1:2465"], "secure": True}
LMTP = {"name": "lmtp", "bind": ["127.0.0.1:2424"], "protocol": "lmtp", "relay_domains": ["*"], "auth_optional": True}


def layer(data_dir: str) -> dict[str, Any]:
    """The settings that differ from the defaults."""
    return {
        "server": {"workers": 2, "data_dir": "./var", "drain_grace_s": 0.0},
        "log": {"format": "console"},
        "tls": {"self_signed": True},
        "auth": {"backends": ["hook", "file"], "file": {"path": f"{data_dir}/{USERS_FILE}"}},
        "listeners": [MX, SUBMISSION, SUBMISSIONS, LMTP],
        "relay": {"routes": [{"recipients": ["*"], "transport": "maildir", "path": f"{data_dir}/mail"}]},
    }


def has_user(tree: Tree) -> bool:
    """Whether logins go to the users file that `layer` names, so that there is to be a user in it."""
    path = ("auth", "file", "path")
    return tree.get(path) is not None and tree.origin(path) == BUILT_IN and "file" in tree.get(("auth", "backends"))


def text(settings: Settings, *, with_user: bool) -> str:
    """What a developer wants to know when the server starts: where it listens, where mail goes, how to try it."""
    lines = [f"mta-front {__version__}: development server (there is no ./mta-front.toml)"]
    for listener in settings.listeners:
        scheme, demands = listener.protocol + ("s" if listener.secure else ""), _demands(settings, listener)
        lines += [f"  {listener.name:<11} {scheme}://{address}{demands}" for address in listener.addresses]
    password = _password(settings) if with_user else ""
    if password:
        lines.append(f"  {'login':<11} {USER}, password {password}")
    lines.append(f"  {'admin':<11} http://{settings.admin.bind}/metrics")
    lines.append(f"  {'store':<11} {settings.store.url or f'embedded, in {settings.server.data_dir}'}")
    if settings.relay.workers:
        lines += [f"  {'mail':<11} {route.path}/new" for route in settings.relay.routes if route.path is not None]
    plain = _first(settings, lambda listener: not _needs_login(listener) and not listener.needs_upgrade)
    if plain:
        lines += ["Send a test message from another terminal:", _command(plain, "")]
    login = _first(settings, lambda listener: listener.needs_upgrade and _needs_login(listener))
    if login and password:
        lines += ["The same with a login:", _command(login, f's.starttls(); s.login("{USER}", "{password}"); ')]
    return "\n".join(lines)


def _demands(settings: Settings, listener: Listener) -> str:
    before = ["STARTTLS"] if listener.needs_upgrade else []
    before += ["login"] if _needs_login(listener) else []
    if before:
        return f"  after {' and '.join(before)}"
    offered = not listener.secure and not listener.hide_starttls and tls_options(settings, listener) is not None
    return "  offers STARTTLS" if offered else ""


def _needs_login(listener: Listener) -> bool:
    return not listener.auth_optional and "AUTH" not in listener.disabled_commands


def _password(settings: Settings) -> str:
    try:
        return (settings.server.data_dir / PASSWORD_FILE).read_text("ascii").strip()
    except OSError:
        return ""


def _first(settings: Settings, suits: Any) -> str:
    """Host and port of the first SMTP listener that suits, as arguments of smtplib.SMTP."""
    for listener in settings.listeners:
        if listener.protocol == "smtp" and not listener.secure and suits(listener):
            for address in listener.addresses:
                if address.kind == "tcp":
                    return f'"{address.host}", {address.port}'
    return ""


def _command(address: str, login: str) -> str:
    message = r"Subject: It works\r\n\r\nHello.\r\n"
    send = f's.sendmail("me@example.com", "you@example.com", "{message}")'
    return f"  python3 -c 'import smtplib; s = smtplib.SMTP({address}); {login}{send}'"
