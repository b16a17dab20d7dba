"""Can the settings be used? Asked in a child that does nothing else, before a master starts and when it reloads (P1).

Certificates and users files are read with libraries that the master must not hold, and the hooks class is user code:
what it starts when it is loaded must not be there when the master forks. The child is forked as workers are, so it is
quick, and finds what they would find.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mta_front import development
from mta_front.settings import limitfaults
from mta_front.settings.lines import KeyPath
from mta_front.settings.tls import option_path, tls_of_listeners, tls_options

if TYPE_CHECKING:
    from mta_front.config import Listener, Loaded, Settings

TIMEOUT_S = 60.0
"""For all that the child tries."""

NEED_TLS = frozenset({"EXTERNAL", "SCRAM-SHA-256-PLUS"})
"""Mechanisms that do not exist without TLS, whatever `allow_insecure_auth` says."""

AGENT_INTER_S = 2.0
"""How often HAProxy asks an agent, unless its agent-inter says otherwise. We cannot see what that says."""


@dataclass(frozen=True, slots=True)
class Findings:
    """One line each. With `faults` nothing can be served, and the process ends with `exit_code`: 78, or 73 or 77 when
    the files of a development server cannot be made. `remarks` are what an operator may not have meant.
    """

    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    exit_code: int = os.EX_OK


@dataclass(slots=True)
class _Answers:
    """What the child said; see `mta_front.checking`."""

    cannot: tuple[int, str] | None = None
    tls: list[tuple[int, list[str], str]] = field(default_factory=list)
    routes: list[tuple[int, str, str]] = field(default_factory=list)
    auth: list[str] = field(default_factory=list)
    methods: frozenset[str] = frozenset()
    remarks: list[str] = field(default_factory=list)
    loading: bool = False
    on_auth: bool = False
    hooks: str = ""
    ended: bool = False

    def take(self, line: bytes) -> None:
        match json.loads(line):
            case {"cannot": [code, text]}:
                self.cannot = code, text
            case {"tls": [number, option, text]}:
                self.tls.append((number, option, text))
            case {"route": [number, key, text]}:
                self.routes.append((number, key, text))
            case {"auth": text}:
                self.auth.append(text)
            case {"methods": methods, "remarks": remarks}:
                self.methods, self.remarks = frozenset(methods), remarks
            case {"loading": _}:
                self.loading = True
            case {"on_auth": on_auth}:
                self.on_auth = on_auth
            case {"hooks": text}:
                self.hooks = text
            case {"end": _}:
                self.ended = True


def examine(loaded: Loaded, *, make: bool, held: bool = False) -> Findings:
    """Try the certificates of all listeners, the users file, the files of routes and the hooks class.

    `make`: first make, or renew, the certificate and the user for development, where the settings are to have them; as
    `serve` does, and `check` does not. `held`: this process holds data_dir. Faults that `loaded.tree` has already are
    told too.
    """
    with_user = development.has_user(loaded.tree)
    answers = _Answers()
    if _has_questions(loaded.settings):
        answers = _ask(loaded.settings, make=make, held=held, with_user=with_user)
    if answers.cannot:
        exit_code, text = answers.cannot
        return Findings([text], exit_code=exit_code)
    for number, option, text in answers.tls:
        _blame_option(loaded, number, tuple(option), text)
    for number, key, text in answers.routes:
        loaded.tree.fault(("relay", "routes", number, key), text)
    for text in answers.auth:
        loaded.tree.fault(("auth", "file", "path"), text)
    if answers.hooks:
        loaded.tree.fault(("hooks", "class"), answers.hooks)
    faults = list(dict.fromkeys(loaded.tree.fault_lines()))  # several listeners may share one fault
    if faults:
        return Findings(faults, exit_code=os.EX_CONFIG)
    told = (_login_remarks(loaded, answers), _limit_remarks(loaded), _proxy_remarks(loaded), _agent_remarks(loaded))
    return Findings(remarks=[*answers.remarks, *(remark for remarks in told for remark in remarks)])


def _has_questions(settings: Settings) -> bool:
    hooks_only = set(settings.auth.backends) <= {"hook"}
    names_files = any(route.tls_ca or route.tls_cert or route.password_file for route in settings.relay.routes)
    return bool(settings.hooks.class_) or not hooks_only or names_files or bool(tls_of_listeners(settings))


def _blame_option(loaded: Loaded, number: int, option: tuple[str, ...], text: str) -> None:
    path = option_path(loaded.settings, number, option)
    shown = loaded.tree.get(path)
    loaded.tree.fault(path, text.removeprefix(f"{shown} ") if isinstance(shown, str) else text)


def _limit_remarks(loaded: Loaded) -> Iterator[str]:
    def is_set(path: KeyPath) -> bool:
        return loaded.tree.get(path) is not None

    for path, text in limitfaults.remarks_of(loaded.settings, is_set):
        yield loaded.tree.line(path, text)


def _proxy_remarks(loaded: Loaded) -> Iterator[str]:
    """`use_proxy = true` is allowed, for networks that only proxies can reach; we cannot see whether this is one."""
    for number, listener in enumerate(loaded.settings.listeners):
        if listener.use_proxy is not True or all(address.is_loopback for address in listener.addresses):
            continue
        text = "lets whoever can connect here say that it is any client"
        if listener.trusted_networks:
            text += ", so that it may relay by trusted_networks"
        yield loaded.tree.line(("listeners", number, "use_proxy"), f"{text}; better name your proxies")


def _agent_remarks(loaded: Loaded) -> Iterator[str]:
    settings = loaded.settings
    if settings.admin.agent_check and settings.server.drain_grace_s < AGENT_INTER_S:
        text = (
            "is less than agent-inter + inter × fall of HAProxy can be: clients may be sent to a server that has closed"
        )
        yield loaded.tree.line(("server", "drain_grace_s"), text)


# -- the child ---------------------------------------------------------------------------------------------------------


def _ask(settings: Settings, *, make: bool, held: bool, with_user: bool) -> _Answers:
    from mta_front.master.forking import fork

    reader, writer = os.pipe()

    def run() -> int:
        from mta_front.checking import main

        os.close(reader)
        return main(settings, writer, make=make, held=held, with_user=with_user)

    try:
        pid = fork(run)
        os.close(writer)
        answers, code = _hear(pid, reader)
    finally:
        os.close(reader)
    if not answers.ended:
        why = f"takes longer than {TIMEOUT_S:.0f} s" if code is None else f"ends the process (exit status {code})"
        if answers.loading:
            answers.hooks = f"loading it {why}"
        else:  # files that cannot be read in time, or a bug, of which the child has told on standard error
            exit_code = os.EX_UNAVAILABLE if code is None else os.EX_SOFTWARE
            answers.cannot = exit_code, f"checking certificates and users {why}"
    return answers


def _hear(pid: int, reader: int) -> tuple[_Answers, int | None]:
    """What the child says until it has said all or has ended; with its exit status, None if it did neither in time.

    The end of the pipe would not do: a process that user code has left behind may have it still open.
    """
    answers, heard = _Answers(), b""
    process = os.pidfd_open(pid)
    watched = [reader, process]
    deadline = time.monotonic() + TIMEOUT_S
    ready = watched
    while ready and not answers.ended:
        ready, _, _ = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))
        if reader in ready:
            piece = os.read(reader, 65_536)
            *lines, heard = (heard + piece).split(b"\n")
            for line in lines:
                answers.take(line)
            if not piece:
                watched = [process]
        elif process in ready:
            break
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGKILL)  # it has ended, or must
    os.close(process)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return answers, code if ready else None


# -- logins ------------------------------------------------------------------------------------------------------------


def _login_remarks(loaded: Loaded, answers: _Answers) -> Iterator[str]:
    settings = loaded.settings
    for number, listener in enumerate(settings.listeners):
        methods = listener.auth_methods
        asks_hook = answers.on_auth and "hook" in settings.auth.backends
        verified = [method for method in methods if asks_hook or method in answers.methods]
        unverified = [method for method in methods if method not in verified]
        here: KeyPath = ("listeners", number)
        if unverified and loaded.tree.get((*here, "auth_methods")) is not None:
            text = f"no backend of [auth] can verify {' and '.join(unverified)}: not offered"
            yield loaded.tree.line((*here, "auth_methods"), text)
        why = _nobody(settings, listener, verified)
        if why and not listener.auth_optional and "AUTH" not in listener.disabled_commands:
            text = f"nobody can log in, so nobody can send: {why}; is auth_optional = true meant?"
            yield loaded.tree.line((*here, "auth_optional"), text, show_value=False)


def _nobody(settings: Settings, listener: Listener, verified: Sequence[str]) -> str:
    """Why nobody can log in, if that is so; `verified`: the listener's mechanisms that some backend can verify."""
    if not verified:
        methods = " or ".join(listener.auth_methods)
        return f"no backend of [auth] can verify {methods}" if methods else "auth_methods is empty"
    options = tls_options(settings, listener)
    if options is None:
        if not listener.allow_insecure_auth:
            return "there is no certificate for TLS, and allow_insecure_auth is false"
        return f"{' and '.join(verified)} need TLS" if NEED_TLS.issuperset(verified) else ""
    asked = options.request_cert or any(name.request_cert for name in options.sni.values())
    return "EXTERNAL needs request_cert = true" if list(verified) == ["EXTERNAL"] and not asked else ""
