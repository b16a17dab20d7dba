"""From the settings `[auth]` to the chain of a worker. Imports libraries that only a patched process may load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mta_front.observe.events import NOBODY, Events
from mta_front.policy.auth.backend import Backend, Report, unheard
from mta_front.policy.auth.chain import Chain
from mta_front.policy.auth.decoys import Decoys
from mta_front.policy.auth.hook import HookBackend
from mta_front.policy.auth.offload import Threads
from mta_front.policy.auth.passwords import PasswordBackend
from mta_front.store.errors import StoreError
from mta_front.store.options import StoreOptions
from mta_front.store.users import UserHashes

if TYPE_CHECKING:
    from pathlib import Path

    from mta_front.hooks import Session
    from mta_front.policy.auth.oauth2 import OAuth2Backend
    from mta_front.policy.auth.web import Web
    from mta_front.settings.auth import Auth, AuthHttp, AuthOAuth2
    from mta_front.smtp.credentials import Credentials

OnAuth = Callable[["Credentials", "Session"], Any]


def build(
    auth: Auth,
    store: StoreOptions,
    *,
    on_auth: OnAuth | None = None,
    hook_methods: frozenset[str] = frozenset(),
    events: Events = NOBODY,
    report: Report = unheard,
) -> Chain:
    """The backends that `auth.backends` names, started.

    `store`: the spool's, where the backend `redis` has no Redis of its own, and where the secret of decoys is kept.
    `on_auth`: of the user's hooks; None when the class has none, and then there is no such backend. `hook_methods`: the
    mechanisms that it is asked for. Raises `file.UsersFileError`.
    """
    threads = Threads(auth.hash_threads, auth.hash_queue)
    decoys = _decoys(auth, store)
    backends: list[Backend] = []
    for name in auth.backends:
        if name == "file":
            from mta_front.policy.auth.file import FileUsers

            assert auth.file.path is not None, "settings.auth.faults_of"
            users = FileUsers(auth.file.path, decoys, certificates=auth.certificates, report=report)
            backends.append(PasswordBackend(name, users, threads))
        elif name == "redis":
            backends.append(PasswordBackend(name, _redis_users(auth, store, decoys, events, report), threads))
        elif name == "http":
            backends.append(_http(auth.http, report))
        elif name == "oauth2":
            backends.append(_oauth2(auth.oauth2, report))
        elif name == "dovecot":
            from mta_front.policy.auth.dovecot import DovecotBackend

            said = auth.dovecot
            backends.append(
                DovecotBackend(
                    str(said.path),
                    service=said.service,
                    timeout_s=said.timeout_s,
                    failures=said.failures,
                    open_s=said.open_s,
                    report=report,
                )
            )
        elif on_auth is not None:
            backends.append(HookBackend(on_auth, hook_methods))
    return Chain(backends, decoys, threads)


def _decoys(auth: Auth, store: StoreOptions) -> Decoys:
    secret = auth.secret.get_secret_value()
    if secret:
        return Decoys(secret.encode)

    def fetch() -> bytes:
        hashes = UserHashes(store)
        hashes.start()
        try:
            return hashes.fleet_secret()
        finally:
            hashes.close()

    return Decoys(fetch, (StoreError,))


def _redis_users(auth: Auth, store: StoreOptions, decoys: Decoys, events: Events, report: Report) -> Any:
    from mta_front.policy.auth.redis import RedisUsers

    said = auth.redis
    options = replace(store, timeout_ms=said.timeout_ms)
    if said.url:
        options = replace(options, url=said.url, username=said.username, password=said.password.get_secret_value())
    hashes = UserHashes(options, events)
    hashes.start()
    methods = frozenset(said.methods) | ({"EXTERNAL"} if auth.certificates else set())
    return RedisUsers(hashes, methods, decoys, report)


def _http(said: AuthHttp, report: Report) -> Backend:
    from mta_front.policy.auth.http import HttpBackend

    web = _web("auth.http", said.url, said, said.connections, report)
    return HttpBackend(web, frozenset(said.methods), said.token.get_secret_value())


def _oauth2(said: AuthOAuth2, report: Report) -> OAuth2Backend:
    from mta_front.policy.auth.jwks import KeySet
    from mta_front.policy.auth.oauth2 import Introspection, OAuth2Backend, Rules

    keys, introspection = None, None
    if said.jwks_url:
        keys = KeySet(_web("auth.oauth2.jwks_url", said.jwks_url, said, 1, report))
    if said.introspection_url:
        web = _web("auth.oauth2.introspection_url", said.introspection_url, said, 20, report)
        introspection = Introspection(web, said.client_id, said.client_secret.get_secret_value())
    rules = Rules(
        issuer=said.issuer,
        audience=said.audience,
        algorithms=tuple(said.algorithms),
        required_scope=said.required_scope,
        username_claim=said.username_claim,
        leeway_s=said.leeway_s,
        openid_configuration=said.openid_configuration,
    )
    return OAuth2Backend(rules, keys, introspection)


def _web(name: str, url: str, said: AuthHttp | AuthOAuth2, connections: int, report: Report) -> Web:
    from mta_front.policy.auth.web import Web

    return Web(
        name,
        url,
        timeout_s=said.timeout_s,
        connections=connections,
        failures=said.failures,
        open_s=said.open_s,
        ca_file=_text(said.ca_file),
        report=report,
    )


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)
