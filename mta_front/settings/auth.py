"""The settings of authentication: `[auth]` and a table for each backend. Names and units as in `model`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from mta_front.settings.lines import KeyPath
from mta_front.settings.section import RuleFault, Section
from mta_front.settings.storeurl import split_credentials
from mta_front.settings.values import OptionalPath, Printable, Seconds, StoreUrl

Mechanism = Literal["PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "EXTERNAL"]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Never "none", and none with a shared secret (HS256 …): an issuer's public key would be taken for one."""


def parse_web_url(text: str) -> str:
    """An http or https URL without credentials, or ""."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.fragment
    except ValueError:
        good = False
    if not good or re.search(r"[\x00-\x20\x7f]", text):
        raise ValueError("must be an URL like https://login.example.net/auth")
    if "@" in parts.netloc:
        raise ValueError("must have no credentials in it; they have keys of their own")
    return text


def is_clear(url: str) -> bool:
    """Whether passwords sent to this URL would cross a network in clear."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname in (None, "localhost"):
        return False
    try:
        return not ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return True


WebUrl = Annotated[str, AfterValidator(parse_web_url)]


class AuthFile(Section):
    """The backend "file": users in a file that `mta-front passwd` writes; read again when it changes."""

    path: OptionalPath = Field(default="", validate_default=True, description="the users file")


class AuthRedis(Section):
    """The backend "redis": a hash for each user, PREFIX:user:NAME, with the fields password and addresses."""

    url: StoreUrl = Field(default="", description='redis://, rediss:// or unix:// URL; "" = the store')
    username: str = Field(default="", description="user of that Redis; overrides the one in url")
    password: SecretStr = Field(default=SecretStr(""), description="password of that Redis; overrides the one in url")
    password_file: OptionalPath = Field(
        default="", validate_default=True, description='file that holds the password; "" = none'
    )
    timeout_ms: int = Field(default=1000, ge=10, le=60_000, description="longest wait for it; then 454")
    methods: list[Literal["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]] = Field(
        default=["PLAIN", "LOGIN"],
        min_length=1,
        description="what its users' passwords are good for: SCRAM-… needs SCRAM keys, CRAM-MD5 plain passwords",
    )

    @model_validator(mode="before")
    @classmethod
    def _split_credentials(cls, values: Any) -> Any:
        return split_credentials(values)


class AuthHttp(Section):
    """The backend "http": a program of yours decides; it gets a POST with JSON and answers 200, or 401 or 403."""

    url: WebUrl = Field(default="", description="where to ask")
    insecure: bool = Field(default=False, description="true = passwords may go to an http:// URL that is not loopback")
    token: SecretStr = Field(default=SecretStr(""), description='sent as "Authorization: Bearer"; "" = none')
    token_file: OptionalPath = Field(
        default="", validate_default=True, description='file that holds the token; "" = none'
    )
    ca_file: OptionalPath = Field(
        default="", validate_default=True, description='PEM certificates to trust; "" = those of the system'
    )
    timeout_s: Seconds = Field(default=2.0, description="for a whole answer; then 454")
    connections: int = Field(default=20, ge=1, le=1000, description="connections at once from one worker")
    methods: list[Mechanism] = Field(
        default=["PLAIN", "LOGIN"], min_length=1, description="the mechanisms that it can verify"
    )
    failures: int = Field(default=5, ge=1, le=1000, description="failures in a row after which it is left alone")
    open_s: Seconds = Field(default=10.0, description="for so long; then one request at a time tries again")


class AuthOAuth2(Section):
    """The backend "oauth2": access tokens, judged by the issuer's keys (JWT) or by the issuer (RFC 7662)."""

    jwks_url: WebUrl = Field(default="", description='the issuer\'s keys, a JWK set; "" = tokens are not judged here')
    introspection_url: WebUrl = Field(
        default="", description="where tokens are shown to the issuer: those that are no JWT, or all without jwks_url"
    )
    insecure: bool = Field(default=False, description="true = tokens and keys may go over http:// that is not loopback")
    client_id: str = Field(default="", description="who shows the tokens, for HTTP Basic authentication")
    client_secret: SecretStr = Field(default=SecretStr(""), description="the secret that belongs to client_id")
    client_secret_file: OptionalPath = Field(
        default="", validate_default=True, description='file that holds client_secret; "" = none'
    )
    ca_file: OptionalPath = Field(
        default="", validate_default=True, description='PEM certificates to trust; "" = those of the system'
    )
    issuer: str = Field(default="", description="what iss must be; needed with jwks_url")
    audience: str = Field(default="", description="what aud must be or contain; needed with jwks_url")
    algorithms: list[Algorithm] = Field(
        default=["RS256", "ES256", "PS256", "EdDSA"], min_length=1, description="signatures that are good enough"
    )
    required_scope: str = Field(default="", description="scopes that a token must have, with spaces between")
    username_claim: str = Field(default="email", min_length=1, description="the claim that says who the user is")
    leeway_s: float = Field(
        default=30.0, ge=0, le=600, allow_inf_nan=False, description="how far clocks may differ, for exp and nbf"
    )
    openid_configuration: WebUrl = Field(default="", description="told to clients whose token is refused (RFC 7628)")
    timeout_s: Seconds = Field(default=3.0, description="for each answer of the issuer; then 454")
    failures: int = Field(default=5, ge=1, le=1000, description="failures in a row after which it is left alone")
    open_s: Seconds = Field(default=10.0, description="for so long; then one request at a time tries again")


class AuthDovecot(Section):
    """The backend "dovecot": Dovecot's auth process, by its client socket."""

    path: OptionalPath = Field(default="", validate_default=True, description="the socket, such as .../auth-client")
    service: Printable = Field(default="smtp", min_length=1, description="what Dovecot is told that we are")
    timeout_s: Seconds = Field(default=10.0, description="for an answer; Dovecot says no only after 2 s; then 454")
    failures: int = Field(default=5, ge=1, le=1000, description="failures in a row after which it is left alone")
    open_s: Seconds = Field(default=10.0, description="for so long; then one login at a time tries again")


class Auth(Section):
    """Who may log in, and as whom users may send."""

    backends: list[Literal["file", "redis", "http", "oauth2", "dovecot", "hook"]] = Field(
        default=["hook"], description='asked in this order, the first yes wins; "hook" is on_auth of [hooks] class'
    )
    unlisted_senders: Literal["any", "own", "none"] = Field(
        default="any",
        description='what users without a list of addresses may send as: "any", their "own" name, or "none"',
    )
    null_sender: bool = Field(default=True, description="whether users may send from <>, as receipts and bounces are")
    certificates: bool = Field(
        default=False, description="true = a client certificate logs in the user that it names (EXTERNAL; file, redis)"
    )
    hash_threads: int = Field(default=2, ge=1, le=64, description="password hashes computed at once in one worker")
    hash_queue: int = Field(default=100, ge=0, le=10_000, description="logins that wait for one; others get 454")
    secret: SecretStr = Field(
        default=SecretStr(""), description='what invented answers for unknown users follow from; "" = kept in the store'
    )
    secret_file: OptionalPath = Field(
        default="", validate_default=True, description='file that holds the secret; "" = none'
    )
    file: AuthFile = Field(default_factory=AuthFile)
    redis: AuthRedis = Field(default_factory=AuthRedis)
    http: AuthHttp = Field(default_factory=AuthHttp)
    oauth2: AuthOAuth2 = Field(default_factory=AuthOAuth2)
    dovecot: AuthDovecot = Field(default_factory=AuthDovecot)


def faults_of(auth: Auth) -> Iterator[RuleFault]:
    """Every rule across keys that the section breaks."""
    here: KeyPath = ("auth", "backends")
    for number, name in enumerate(auth.backends):
        if name in auth.backends[:number]:
            yield [(*here, number)], f'"{name}" stands there twice'
    used = set(auth.backends)
    if "file" in used and auth.file.path is None:
        yield [("auth", "file", "path"), here], 'must name a file for the backend "file"'
    if "dovecot" in used and auth.dovecot.path is None:
        yield [("auth", "dovecot", "path"), here], 'must name a socket for the backend "dovecot"'
    if "http" in used:
        yield from _http_faults(auth.http, here)
    if "oauth2" in used:
        yield from _oauth2_faults(auth.oauth2, here)


def _http_faults(http: AuthHttp, backends: KeyPath) -> Iterator[RuleFault]:
    table: KeyPath = ("auth", "http")
    if not http.url:
        yield [(*table, "url"), backends], 'must be set for the backend "http"'
    elif is_clear(http.url) and not http.insecure:
        yield [(*table, "url"), (*table, "insecure")], "must be https://, or set insecure = true"


def _oauth2_faults(oauth2: AuthOAuth2, backends: KeyPath) -> Iterator[RuleFault]:
    table: KeyPath = ("auth", "oauth2")
    if not oauth2.jwks_url and not oauth2.introspection_url:
        yield [(*table, "jwks_url"), backends], 'or introspection_url must be set for the backend "oauth2"'
    for key, url in (("jwks_url", oauth2.jwks_url), ("introspection_url", oauth2.introspection_url)):
        if is_clear(url) and not oauth2.insecure:
            yield [(*table, key), (*table, "insecure")], "must be https://, or set insecure = true"
    for key, value in (("issuer", oauth2.issuer), ("audience", oauth2.audience)):
        if oauth2.jwks_url and not value:
            yield [(*table, key), (*table, "jwks_url"), backends], "must be set with jwks_url: else any token would do"
