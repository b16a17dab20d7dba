"""`[tls]`, `[listeners.tls]` over it, and tables for certain names: what holds in the end, and how faults are told."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from mta_front.checks import NEED_TLS
from mta_front.config import Settings, SettingsError, file_layer, finish, load
from mta_front.settings.faults import SCHEMA
from mta_front.settings.render import effective_toml
from mta_front.settings.tls import ListenerTls, NameTls, Tls, option_path, tls_of_listeners, tls_options
from mta_front.settings.values import AuthMethod
from mta_front.smtp.sasl import MECHANISMS
from mta_front.tls.loading import VERSIONS
from mta_front.tls.options import NameOptions, TlsOptions
from tests.config.test_faults import faults

BASE = "[tls]\ncert = 'b.crt'\nkey = 'b.key'\n"


def settings(tmp_path: Path, text: str, **environ: str) -> Settings:
    """The settings in a file."""
    path = tmp_path / "f.toml"
    path.write_text(text, "utf-8")
    return load(path, {f"MTA_FRONT_{name}": value for name, value in environ.items()}, {})


def options(tmp_path: Path, text: str, **environ: str) -> TlsOptions:
    """Of the first listener, which has some."""
    found = settings(tmp_path, text, **environ)
    made = tls_options(found, found.listeners[0])
    assert made is not None
    return made


class TestWhatHolds:
    """One table over the other."""

    def test_nothing_is_no_tls(self, tmp_path: Path) -> None:
        found = settings(tmp_path, "[[listeners]]\n")
        assert tls_options(found, found.listeners[0]) is None
        assert tls_of_listeners(found) == {}

    def test_all_keys(self, tmp_path: Path) -> None:
        made = options(
            tmp_path,
            "[tls]\ncert = ['r.crt', 'e.crt']\nkey = ['r.key', 'e.key']\nca = 'ca.pem'\nrequest_cert = true\n"
            "reject_unauthorized = false\nmin_version = 'TLSv1.3'\nmax_version = 'TLSv1.3'\nciphers = 'X:Y'\n"
            "tickets = true\nocsp_file = 'o'\n[tls.sni.'a.example']\ncert = 'a.crt'\nkey = 'a.key'\nca = ['c', 'd']\n"
            "request_cert = false\nreject_unauthorized = true\nocsp_file = 'p'\n[[listeners]]\n",
        )
        name = NameOptions(
            cert=("a.crt",), key=("a.key",), ca=("c", "d"), request_cert=False, reject_unauthorized=True, ocsp_file="p"
        )
        assert made == TlsOptions(
            cert=("r.crt", "e.crt"),
            key=("r.key", "e.key"),
            ca=("ca.pem",),
            request_cert=True,
            reject_unauthorized=False,
            min_version="TLSv1.3",
            max_version="TLSv1.3",
            ciphers="X:Y",
            tickets=True,
            ocsp_file="o",
            sni={"a.example": name},
        )
        assert set(made.files()) == {
            *("r.crt", "e.crt", "r.key", "e.key", "ca.pem", "o"),
            *("a.crt", "a.key", "c", "d", "p"),
        }

    def test_listener_goes_over_key_by_key(self, tmp_path: Path) -> None:
        text = f"{BASE}ca = 'ca'\nrequest_cert = true\ntickets = false\nmin_version = 'TLSv1.3'\n[[listeners]]\n"
        made = options(tmp_path, f"{text}[listeners.tls]\nmin_version = 'TLSv1.2'\nrequest_cert = false\nca = ''\n")
        assert (made.min_version, made.request_cert, made.ca) == ("TLSv1.2", False, ())
        assert (made.cert, made.key, made.reject_unauthorized) == (("b.crt",), ("b.key",), True)

    def test_certificate_comes_with_its_key_and_its_response(self, tmp_path: Path) -> None:
        """The response in [tls] is about the certificate in [tls]."""
        own = "[[listeners]]\n[listeners.tls]\ncert = 'o.crt'\nkey = 'o.key'\n"
        made = options(tmp_path, f"{BASE}ocsp_file = 'b.ocsp'\n{own}")
        assert (made.cert, made.key, made.ocsp_file) == (("o.crt",), ("o.key",), "")
        made = options(tmp_path, f"{BASE}ocsp_file = 'b.ocsp'\n[[listeners]]\n[listeners.tls]\nocsp_file = 'n'\n")
        assert (made.cert, made.ocsp_file) == (("b.crt",), "n")

    def test_listener_without_the_certificate_of_all(self, tmp_path: Path) -> None:
        found = settings(tmp_path, f"{BASE}[[listeners]]\n[listeners.tls]\ncert = ''\nkey = ''\n")
        assert tls_options(found, found.listeners[0]) is None

    def test_only_its_own_listeners_have_it(self, tmp_path: Path) -> None:
        text = (
            "[[listeners]]\nname = 'a'\n[[listeners]]\nname = 'b'\nbind = ['[::1]:1']\n[listeners.tls]\n"
            "cert = 'o'\nkey = 'o'\n"
        )
        assert list(tls_of_listeners(settings(tmp_path, text))) == ["b"]

    def test_names_of_both(self, tmp_path: Path) -> None:
        text = (
            f"{BASE}[tls.sni.'a.example']\ncert = 'a'\nkey = 'a'\nrequest_cert = true\n[tls.sni.'b.example']\n"
            "cert = 'b'\nkey = 'b'\n[[listeners]]\n[listeners.tls.sni.'a.example']\ncert = 'x'\nkey = 'x'\n"
            "[listeners.tls.sni.'*.c.example']\nca = 'c'\n"
        )
        sni = options(tmp_path, text).sni
        assert sni == {
            "a.example": NameOptions(cert=("x",), key=("x",), request_cert=True),
            "b.example": NameOptions(cert=("b",), key=("b",)),
            "*.c.example": NameOptions(ca=("c",)),
        }

    @pytest.mark.parametrize(
        ("tables", "cert"),
        [
            ("[tls]\nself_signed = true\n[[listeners]]\n", "d/tls/development.pem"),
            ("[[listeners]]\n[listeners.tls]\nself_signed = true\n", "d/tls/development.pem"),
            (f"{BASE}[[listeners]]\n[listeners.tls]\nself_signed = true\n", "d/tls/development.pem"),
            (f"{BASE}self_signed = true\n[[listeners]]\n", "b.crt"),
            ("[tls]\nself_signed = true\n[[listeners]]\n[listeners.tls]\ncert = 'o'\nkey = 'o'\n", "o"),
            ("[tls]\nself_signed = true\n[[listeners]]\n[listeners.tls]\nself_signed = false\n", None),
        ],
    )
    def test_self_signed_is_for_who_has_no_certificate(self, tmp_path: Path, tables: str, cert: str | None) -> None:
        found = settings(tmp_path, f"[server]\ndata_dir = 'd'\n{tables}")
        made = tls_options(found, found.listeners[0])
        assert (made.cert if made else None) == ((cert,) if cert else None)

    def test_environment(self, tmp_path: Path) -> None:
        made = options(
            tmp_path,
            "[[listeners]]\n",
            TLS__CERT='["a", "b"]',
            TLS__KEY="/1979",
            TLS__REQUEST_CERT="true",
            TLS__SNI='{"a.example" = {cert = "n", key = "n"}}',
        )
        assert (made.cert, made.key, made.request_cert) == (("a", "b"), ("/1979",), True)
        assert made.sni["a.example"].cert == ("n",)
        assert options(tmp_path, "[[listeners]]\n", TLS__CERT="1979", TLS__KEY="k").cert == ("1979",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[tls]\ncerts = 'x'", "f.toml:2: tls.certs: unknown key; did you mean tls.cert?"),
        (
            "[[listeners]]\n[listeners.tls]\nmin_versoin = 'x'",
            "f.toml:3: listeners[0].tls.min_versoin: unknown key; did you mean listeners.tls.min_version?",
        ),
        (
            "[tls.sni.'mail.example.com']\ncrt = 'x'",
            'f.toml:2: tls.sni."mail.example.com".crt: unknown key; did you mean tls.sni.cert?',
        ),
        (
            "[[listeners]]\n[listeners.tls.sni.'*.a.example']\nmin_version = 'x'",
            (
                'f.toml:3: listeners[0].tls.sni."*.a.example".min_version: unknown key; did you mean '
                "listeners.tls.min_version?"
            ),
        ),
        ("[[listeners]]\ncert = 'x'", "f.toml:2: listeners[0].cert: unknown key; did you mean listeners.tls.cert?"),
        (
            "[[listeners]]\n[[listeners]]\nname = 'b'\nbind = ['[::1]:1']\n[listeners.tls]\nmin_version = 'TLSv1.1'",
            'f.toml:6: listeners[1].tls.min_version = "TLSv1.1": must be "TLSv1.2" or "TLSv1.3"',
        ),
        ("[tls]\nmax_version = '1.3'", 'f.toml:2: tls.max_version = "1.3": must be "", "TLSv1.2" or "TLSv1.3"'),
        ("[tls]\ntickets = 1", "f.toml:2: tls.tickets = 1: must be true or false"),
        ("[[listeners]]\ntls = 3", "f.toml:2: listeners[0].tls = 3: must be a table"),
        ("[tls]\nsni = 3", "f.toml:2: tls.sni = 3: must be a table"),
        ("[tls.sni]\n'a.example' = 3", 'f.toml:2: tls.sni."a.example" = 3: must be a table'),
        ("[tls]\ncert = 3", "f.toml:2: tls.cert = 3: must be the path of a file in quotes, or a list of such paths"),
        (
            "[tls]\nkey = ['a', 3]",
            'f.toml:2: tls.key = ["a", 3]: must be the path of a file in quotes, or a list of such paths',
        ),
        (
            "[tls]\nca = ['a', '']",
            'f.toml:2: tls.ca = ["a", ""]: must be the path of a file in quotes, or a list of such paths',
        ),
        ("[tls]\ncert = 'x'", 'f.toml:2: tls.cert = "x": needs key beside it'),
        (
            f"{BASE}[[listeners]]\n[listeners.tls]\nkey = 'x'",
            'f.toml:6: listeners[0].tls.key = "x": needs cert beside it',
        ),
        (
            f"{BASE}[tls.sni.'a.example']\ncert = ['x']",
            'f.toml:5: tls.sni."a.example".cert = ["x"]: needs key beside it',
        ),
        (
            "[[listeners]]\nsecure = true",
            "f.toml:2: listeners[0].secure = true: needs a certificate: set cert and key in [tls]",
        ),
        (
            "[[listeners]]\nneeds_upgrade = true",
            "f.toml:2: listeners[0].needs_upgrade = true: needs a certificate: set cert and key in [tls]",
        ),
        (
            f"{BASE}[[listeners]]\nsecure = true\nneeds_upgrade = true",
            (
                "f.toml:6: listeners[0].needs_upgrade = true: cannot be: with secure = true it begins with TLS, and "
                "STARTTLS is for others"
            ),
        ),
        (
            f"{BASE}[[listeners]]\nneeds_upgrade = true\ndisabled_commands = ['STARTTLS']",
            "f.toml:5: listeners[0].needs_upgrade = true: cannot be met: STARTTLS is among disabled_commands",
        ),
        (
            "[tls.sni.a]\ncert = 'a'\nkey = 'a'\n[[listeners]]",
            "f.toml:1: tls.sni.a: needs cert and key in [tls] too, for clients that ask for another name",
        ),
        (
            "[[listeners]]\nauth_methods = ['PLAIN', 'APOP']",
            (
                'f.toml:2: listeners[0].auth_methods[1] = "APOP": must be "PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", '
                '"OAUTHBEARER", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS" or "EXTERNAL"'
            ),
        ),
        (
            "[[listeners]]\nauth_methods = ['PLAIN', 'LOGIN', 'PLAIN']",
            'f.toml:2: listeners[0].auth_methods[2] = "PLAIN": "PLAIN" stands there twice',
        ),
        ("[auth]\nbackends = ['file']", 'f.toml:1: auth.file.path: must name a file for the backend "file"'),
        ("[auth.file]\npth = 'x'", "f.toml:2: auth.file.pth: unknown key; did you mean auth.file.path?"),
    ],
)
def test_one_fault_one_line(tmp_path: Path, text: str, fault: str) -> None:
    [line] = faults(tmp_path / "f.toml", text)
    assert line == fault


@pytest.mark.parametrize(
    ("variable", "text", "fault"),
    [
        ("TLS__MIN_VERSION", "SSLv3", 'TLS__MIN_VERSION: tls.min_version = "SSLv3": must be "TLSv1.2" or "TLSv1.3"'),
        ("TLS__SNI__CERT", "x", "TLS__SNI__CERT: no setting has this name; did you mean MTA_FRONT_TLS__CERT?"),
        ("TLS__SNI", '{a = {crt = "x"}}', "TLS__SNI: tls.sni.a.crt: unknown key; did you mean tls.sni.cert?"),
        ("LISTENERS__TLS__CERT", "x", "LISTENERS__TLS__CERT: no setting has this name"),
        ("TLS__CERT", '["a", 3]', 'TLS__CERT: tls.cert = ["a", 3]: must be the path of a file in quotes'),
    ],
)
def test_faults_of_the_environment(variable: str, text: str, fault: str) -> None:
    [line] = faults(None, environ={f"MTA_FRONT_{variable}": text})
    assert line.startswith(f"MTA_FRONT_{fault}")


PEM = "-----BEGIN PRIVATE KEY-----\\nMIGHAgEAMBMGByqGSM49\\n-----END PRIVATE KEY-----\\n"


@pytest.mark.parametrize(
    "text",
    [
        f'[tls]\nkey = "{PEM}"',
        f'[tls]\nkey = ["a", "x{PEM}"]',
        f'[[listeners]]\n[listeners.tls]\nkey = "{PEM}"',
        f'[tls]\ncert = "c"\nocsp_file = "{PEM}"',
        f'[tls]\nkye = "{PEM}"',
        f'[tls]\ntickets = "{PEM}"',
        f'[auth]\nsecret = "{PEM}"\nbackends = ["file"]',
    ],
)
def test_no_key_in_a_fault(tmp_path: Path, text: str) -> None:
    """PEM does not belong into settings, and who puts it there does not find it in a log."""
    lines = faults(tmp_path / "f.toml", text)
    assert lines
    assert "MIGH" not in "\n".join(lines)


def test_where_an_option_was_set(tmp_path: Path) -> None:
    text = (
        f"{BASE}ca = 'c'\n[tls.sni.'a.example']\nca = 'c'\n[[listeners]]\n[listeners.tls]\nciphers = 'x'\n"
        "[listeners.tls.sni.'b.example']\nca = 'c'\n[listeners.tls.sni.'a.example']\nrequest_cert = true\n"
    )
    found = settings(tmp_path, text)
    here = ("listeners", 0)
    assert {option: option_path(found, 0, option) for option in ORIGINS} == {
        option: (*here, "tls", *option) if own else ("tls", *option) for option, own in ORIGINS.items()
    }
    signed = settings(tmp_path, "[tls]\nself_signed = true\n[[listeners]]\n")
    assert option_path(signed, 0, ("key",)) == ("tls", "self_signed")


ORIGINS: dict[tuple[str, ...], bool] = {
    ("cert",): False,
    ("ca",): False,
    ("ciphers",): True,
    ("sni", "a.example"): True,
    ("sni", "a.example", "ca"): False,
    ("sni", "a.example", "request_cert"): True,
    ("sni", "b.example"): True,
    ("sni", "b.example", "ca"): True,
}


def test_shown_settings_mean_the_same(tmp_path: Path) -> None:
    """What a narrower table leaves out stays out, and follows the wider one when that changes."""
    path = tmp_path / "f.toml"
    path.write_text(
        f"{BASE}ca = ['x', 'y']\n[tls.sni.'*.a.example']\n[[listeners]]\n[listeners.tls]\ntickets = false\n"
        "[listeners.tls.sni.'b.example']\ncert = 'x'\nkey = 'y'\n"
    )
    loaded = finish(file_layer(path), {}, {})
    shown = effective_toml(loaded.settings, loaded.tree)
    read = tomllib.loads(shown)
    assert read["listeners"][0]["tls"] == {"tickets": False, "sni": {"b.example": {"cert": "x", "key": "y"}}}
    assert read["tls"]["sni"] == {"*.a.example": {}}
    assert read["tls"]["ca"] == ["x", "y"]
    path.write_text(shown)
    assert load(path, {}, {}) == loaded.settings


def test_schema_knows_no_null() -> None:
    """TOML has none: a key is there or it is not."""
    document = json.dumps(SCHEMA.document)
    assert '"null"' not in document
    assert ": null" not in document
    name: Any = SCHEMA.node(("listeners", 0, "tls", "sni", "mail.example.com"))
    assert name["properties"].keys() == NameTls.model_fields.keys()
    assert name["properties"]["request_cert"]["type"] == "boolean"
    assert "default" not in name["properties"]["request_cert"]


def test_the_tables_have_the_same_keys() -> None:
    assert set(Tls.model_fields) == set(ListenerTls.model_fields)
    assert set(NameTls.model_fields) <= set(Tls.model_fields)
    for key, of_listener in ListenerTls.model_fields.items():
        assert of_listener.description == Tls.model_fields[key].description


def test_names_are_those_of_the_parts() -> None:
    """The settings name mechanisms and versions themselves, since the master loads neither part."""
    assert set(get_args(AuthMethod)) == set(MECHANISMS)
    assert {name for name, mechanism in MECHANISMS.items() if mechanism.needs_tls} == NEED_TLS
    node: Any = SCHEMA.node(("tls", "min_version"))
    assert node["enum"] == list(VERSIONS)


def test_defaults_are_those_of_the_options() -> None:
    mine, theirs = Tls(), TlsOptions()
    for key in ("min_version", "max_version", "ciphers", "tickets", "ocsp_file"):
        assert getattr(mine, key) == getattr(theirs, key)


def test_unreadable_settings_name_the_table(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"f\.toml:3: is not TOML"):
        settings(tmp_path, "[tls]\n[tls.sni.'a.example']\n[tls.sni.'a.example']\n")
