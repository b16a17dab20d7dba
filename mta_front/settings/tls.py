"""The settings of TLS: `[tls]` for all listeners, `[listeners.tls]` over it for one, `[tls.sni."NAME"]` for one name.

A key that is not set in the narrower table is as in the wider one. A certificate goes with its key and its OCSP
response: who names one of its own inherits none of the three. Paths only: `config show` must never print a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mta_front.settings.lines import KeyPath
from mta_front.settings.section import RuleFault, Section
from mta_front.settings.values import PemFile, PemFiles
from mta_front.tls.options import NameOptions, TlsOptions

if TYPE_CHECKING:
    from mta_front.settings.model import Listener, Settings

DEVELOPMENT_CERTIFICATE = Path("tls/development.pem")
"""In data_dir: key and certificate in one file, so that they are replaced as one."""

_CERT = Field(description="PEM file of the certificate with its chain; a list: one for each kind of key")
_KEY = Field(description="PEM file of its private key; a list: those of the certificates, in any order")
_OCSP = Field(description="file with an OCSP response (DER) about the certificate, which is sent along")
_CA = Field(description="PEM files: who may have issued client certificates")
_REQUEST = Field(description="true = ask clients for a certificate")
_REJECT = Field(description="true = when asked for one, no client comes in without a valid one")
_MIN = Field(description="oldest version of TLS")
_MAX = Field(description='newest version of TLS; "" = whatever is newest')
_CIPHERS = Field(description="suites by OpenSSL's names, with colons between; weak ones are never used")
_TICKETS = Field(description="true = clients may resume sessions; not together with client certificates")
_SELF_SIGNED = Field(description="true = where there is no cert, one for development is made in data_dir")

OldestVersion = Literal["TLSv1.2", "TLSv1.3"]
NewestVersion = Literal["", "TLSv1.2", "TLSv1.3"]


class NameTls(Section):
    """TLS for clients that ask for this name (SNI), or for *.DOMAIN; what is not set is as for all other names."""

    cert: Annotated[PemFiles | None, _CERT] = None
    key: Annotated[PemFiles | None, _KEY] = None
    ocsp_file: Annotated[PemFile | None, _OCSP] = None
    ca: Annotated[PemFiles | None, _CA] = None
    request_cert: Annotated[bool | None, _REQUEST] = None
    reject_unauthorized: Annotated[bool | None, _REJECT] = None


class ListenerTls(NameTls):
    """TLS for this listener; what is not set is as in [tls]."""

    min_version: Annotated[OldestVersion | None, _MIN] = None
    max_version: Annotated[NewestVersion | None, _MAX] = None
    ciphers: Annotated[str | None, _CIPHERS] = None
    tickets: Annotated[bool | None, _TICKETS] = None
    self_signed: Annotated[bool | None, _SELF_SIGNED] = None
    sni: dict[str, NameTls] = Field(default={}, description="certificates for certain names")


class Tls(Section):
    """TLS for every listener. Without a certificate there is none."""

    cert: Annotated[PemFiles, _CERT] = Field(default="", validate_default=True)
    key: Annotated[PemFiles, _KEY] = Field(default="", validate_default=True)
    ocsp_file: Annotated[PemFile, _OCSP] = ""
    ca: Annotated[PemFiles, _CA] = Field(default="", validate_default=True)
    request_cert: Annotated[bool, _REQUEST] = False
    reject_unauthorized: Annotated[bool, _REJECT] = True
    min_version: Annotated[OldestVersion, _MIN] = "TLSv1.2"
    max_version: Annotated[NewestVersion, _MAX] = ""
    ciphers: Annotated[str, _CIPHERS] = ""
    tickets: Annotated[bool, _TICKETS] = False
    self_signed: Annotated[bool, _SELF_SIGNED] = False
    sni: dict[str, NameTls] = Field(default={}, description="certificates for certain names")


AnyTls = Tls | NameTls
"""A table with the keys of `NameTls`, set or not."""


def tls_options(settings: Settings, listener: Listener) -> TlsOptions | None:
    """What the settings say about TLS on this listener; None without a certificate."""
    base, own = settings.tls, listener.tls
    identity = _identity_of(base, own)
    if not identity:
        development = base.self_signed if own.self_signed is None else own.self_signed
        if not development:
            return None
        path = str(settings.server.data_dir / DEVELOPMENT_CERTIFICATE)
        identity = {"cert": (path,), "key": (path,)}
    return TlsOptions(
        **identity,
        **{name: _chosen(name, own, base) for name in (*_CLIENTS, *_SHARED)},
        sni={name: _name_options(base.sni.get(name), own.sni.get(name)) for name in (*own.sni, *base.sni)},
    )


def tls_of_listeners(settings: Settings) -> dict[str, TlsOptions]:
    """The options of each listener that has TLS, by its name."""
    options = {listener.name: tls_options(settings, listener) for listener in settings.listeners}
    return {name: each for name, each in options.items() if each is not None}


def is_self_signed(settings: Settings, listener: Listener) -> bool:
    """Whether the listener uses the development certificate."""
    options = tls_options(settings, listener)
    return options is not None and options.cert == (str(settings.server.data_dir / DEVELOPMENT_CERTIFICATE),)


def option_path(settings: Settings, number: int, option: tuple[str, ...]) -> KeyPath:
    """The key of the settings to which an option of the `TlsOptions` of listener `number` belongs.

    `option`: as in `tls.loading.Fault`, such as ("cert",) or ("sni", "mail.example.com", "cert").
    """
    listener = settings.listeners[number]
    base, own = settings.tls, listener.tls
    key = option[-1]
    if option[0] == "sni":
        there = _is_set(own.sni.get(option[1]), key) if len(option) > 2 else option[1] in own.sni
        is_own = there or option[1] not in base.sni
    elif key in ("cert", "key") and is_self_signed(settings, listener):
        option, is_own = ("self_signed",), own.self_signed is not None
    else:
        is_own = _is_set(own, key) or not _says(base, key)
    return (*(("listeners", number) if is_own else ()), "tls", *option)


def faults_of(settings: Settings) -> Iterator[RuleFault]:
    """Every rule across keys that the settings of TLS break."""
    yield from _halves(("tls",), settings.tls)
    for number, listener in enumerate(settings.listeners):
        here: KeyPath = ("listeners", number)
        yield from _halves((*here, "tls"), listener.tls)
        yield from _without_certificate(settings, here, listener)
        secure, upgrade = (*here, "secure"), (*here, "needs_upgrade")
        if listener.secure and listener.needs_upgrade:
            yield [upgrade, secure], "cannot be: with secure = true it begins with TLS, and STARTTLS is for others"
        elif listener.needs_upgrade and "STARTTLS" in listener.disabled_commands:
            yield [upgrade, (*here, "disabled_commands")], "cannot be met: STARTTLS is among disabled_commands"


def _without_certificate(settings: Settings, here: KeyPath, listener: Listener) -> Iterator[RuleFault]:
    if tls_options(settings, listener) is not None:
        return
    tables: list[KeyPath] = [("tls",), (*here, "tls")]
    for key in ("secure", "needs_upgrade"):
        if getattr(listener, key):
            yield [(*here, key), *tables], "needs a certificate: set cert and key in [tls]"
    for table, path in ((listener.tls, (*here, "tls", "sni")), (settings.tls, ("tls", "sni"))):
        for name in table.sni:
            yield [(*path, name), *tables], "needs cert and key in [tls] too, for clients that ask for another name"
            return


def _halves(here: KeyPath, table: AnyTls) -> Iterator[RuleFault]:
    """A certificate without its key, and the like."""
    cert, key = (*here, "cert"), (*here, "key")
    if table.cert and not table.key:
        yield [cert, key], "needs key beside it"
    if table.key and not table.cert:
        yield [key, cert], "needs cert beside it"
    if isinstance(table, Tls | ListenerTls):
        for name, of_name in table.sni.items():
            yield from _halves((*here, "sni", name), of_name)


# -- one table over another --------------------------------------------------------------------------------------------

_CLIENTS = ("ca", "request_cert", "reject_unauthorized")
_SHARED = ("min_version", "max_version", "ciphers", "tickets")


def _is_set(table: NameTls | None, key: str) -> bool:
    return getattr(table, key, None) is not None


def _says(table: Tls, key: str) -> bool:
    """Whether the value is another than the default."""
    return bool(getattr(table, key) != Tls.model_fields[key].get_default(call_default_factory=True))


def _chosen(key: str, own: NameTls | None, base: AnyTls | None) -> Any:
    value = getattr(own, key, None)
    return getattr(base, key, None) if value is None else value


def _identity_of(base: AnyTls | None, own: NameTls | None) -> Mapping[str, Any]:
    """Certificate, key and OCSP response, all from one table but for a response alone; nothing if there is none."""
    named = own is not None and (own.cert is not None or own.key is not None or getattr(own, "self_signed", None))
    table = own if named else base
    if table is None or not table.cert:
        return {}
    staple = table.ocsp_file if named else _chosen("ocsp_file", own, base)
    return {"cert": table.cert, "key": table.key or (), "ocsp_file": staple or ""}


def _name_options(base: NameTls | None, own: NameTls | None) -> NameOptions:
    return NameOptions(**_identity_of(base, own), **{key: _chosen(key, own, base) for key in _CLIENTS})
