"""The main of the child that `mta_front.checks` forks: tries what the settings name as a worker would, and tells.

What needs no user code comes first: that may end the process. Each answer is one JSON line:

    {"cannot": [exit code, text]}                       the development's files cannot be made
    {"tls": [number of the listener, option, text]}     a fault, as in `tls.loading.Fault`
    {"route": [number of the route, key, text]}         a fault of a file that a route names
    {"auth": text}                                      a fault of the users file
    {"methods": [mechanism, …], "remarks": [text, …]}   what backends, the hook aside, can verify
    {"loading": true}                                   the hooks class is being loaded
    {"on_auth": bool}                                   it is good; whether it has on_auth
    {"hooks": text}                                     it cannot be used
    {"end": true}                                       nothing more comes
"""

from __future__ import annotations

import importlib
import json
import os
import traceback
from functools import cache
from typing import Any

from mta_front.config import Settings
from mta_front.settings.tls import DEVELOPMENT_CERTIFICATE, is_self_signed, tls_options
from mta_front.tls.options import TlsOptions


def main(settings: Settings, answers: int, *, make: bool, held: bool, with_user: bool) -> int:
    """`answers`: the descriptor that they go to. `make`, `held`, `with_user`: as in `checks.examine`."""
    if settings.hooks.class_:
        from gevent import monkey

        monkey.patch_all()

    def tell(**answer: object) -> None:
        os.write(answers, json.dumps(answer).encode() + b"\n")

    if not make or _make(settings, tell, held=held, with_user=with_user):
        _try_certificates(settings, tell, made=make)
        _try_backends(settings, tell, made=make or not with_user)
        _try_routes(settings, tell)
        if settings.hooks.class_:
            _try_hooks(settings.hooks.class_, tell)
    tell(end=True)
    return 0


def _make(settings: Settings, tell: Any, *, held: bool, with_user: bool) -> bool:
    """Make what a development server needs; False if that failed."""
    certificate = any(is_self_signed(settings, listener) for listener in settings.listeners)
    if not certificate and not with_user:
        return True
    from mta_front import making
    from mta_front.master.failure import CannotStart
    from mta_front.master.lock import hold_data_dir
    from mta_front.passwd import PasswdError

    lock = None
    try:
        if not held:  # two first starts at once: only one makes, and the other is told now what it would hear later
            lock = hold_data_dir(settings.server.data_dir.absolute())
        if certificate:
            making.make_certificate(settings)
        if with_user:
            making.make_user(settings)
    except CannotStart as failure:
        tell(cannot=[failure.exit_code, failure.message])
    except PermissionError as error:
        tell(cannot=[os.EX_NOPERM, f"{error.filename}: {error.strerror}"])
    except OSError as error:
        tell(cannot=[os.EX_CANTCREAT, f"{error.filename}: {error.strerror}"])
    except PasswdError as error:
        tell(cannot=[error.code, str(error)])
    else:
        return True
    finally:
        if lock is not None:
            lock.close()
    return False


def _try_certificates(settings: Settings, tell: Any, *, made: bool) -> None:
    from mta_front.tls.contexts import TlsSettingsError, load
    from mta_front.tls.loading import read_file

    to_be_made = "" if made else str(settings.server.data_dir / DEVELOPMENT_CERTIFICATE)

    @cache
    def read(path: str) -> bytes:
        if path != to_be_made:
            return read_file(path)
        from mta_front.making import certificate

        return certificate(settings)  # both key and certificate, so it must be the same each time

    seen: list[TlsOptions] = []
    for number, listener in enumerate(settings.listeners):
        options = tls_options(settings, listener)
        if options is None or options in seen:
            continue
        seen.append(options)
        try:
            load(options, read=read)
        except TlsSettingsError as error:
            for fault in error.faults:
                tell(tls=[number, fault.option, fault.text])


def _try_backends(settings: Settings, tell: Any, *, made: bool) -> None:
    """`made`: the users file is not one that a start would only make."""
    if set(settings.auth.backends) <= {"hook"}:
        return
    from mta_front.policy.auth.backend import PASSWORD_METHODS, SCRAM_METHODS
    from mta_front.policy.auth.offer import offer_of

    auth, methods = settings.auth, frozenset[str]()
    if not made and auth.file.path is not None and not auth.file.path.exists():
        auth = auth.model_copy(update={"backends": [name for name in auth.backends if name != "file"]})
        methods = PASSWORD_METHODS
    offer = offer_of(auth)
    for fault in offer.faults:
        tell(auth=fault)
    wanted = {method for listener in settings.listeners for method in listener.auth_methods}
    partial = offer.remarks if wanted & {"CRAM-MD5", *SCRAM_METHODS} else ()
    tell(methods=sorted(offer.methods | methods), remarks=partial)


def _try_routes(settings: Settings, tell: Any) -> None:
    from mta_front.relay.files import faults_of

    for fault in faults_of(settings.relay.routes):
        tell(route=fault)


def _try_hooks(name: str, tell: Any) -> None:
    silence = os.open(os.devnull, os.O_RDWR)  # what user code prints while it is loaded is no part of the answer
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    from mta_front.hooks import is_overridden, load_hooks

    tell(loading=True)
    try:
        tell(on_auth=is_overridden(load_hooks(name), "on_auth"))
    except SystemExit as end:
        tell(hooks=f"loading it ends the process (exit status {end.code})")
    except Exception as error:  # noqa: BLE001 (user code may raise anything)
        tell(hooks=f"cannot be used: {_told(error)}")


def _told(error: Exception) -> str:
    """The error in one line, with the place in the user's code where it came from."""
    ours = (os.path.dirname(__file__), os.path.dirname(importlib.__file__), "<frozen")  # noqa: PTH120
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}{where}"
