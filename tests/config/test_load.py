"""Settings from file, environment and flags: which wins, and what comes out."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta_front.config import Settings, SettingsError, development, load
from mta_front.settings.tls import tls_of_listeners

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a settings file and return its path."""

    def write_file(text: str) -> Path:
        path = tmp_path / "mta-front.toml"
        path.write_text(text, "utf-8")
        return path

    return write_file


def test_defaults_need_nothing() -> None:
    settings = load(None, {}, {})
    assert settings.listeners == []
    assert settings.store.durability == "fsync"
    assert settings.relay.schedule_s[0] == 60.0


def test_later_layers_win(write: Write) -> None:
    """Defaults < file < environment < flags, key by key."""
    path = write("[server]\nworkers = 2\nbacklog = 3\ndrain_timeout_s = 40\n[log]\nlevel = 'debug'\n")
    environ = {"MTA_FRONT_SERVER__WORKERS": "5", "MTA_FRONT_SERVER__BACKLOG": "6"}
    server = load(path, environ, {"server.workers": 7}).server
    assert (server.workers, server.backlog, server.drain_timeout_s, server.drain_grace_s) == (7, 6, 40.0, 5.0)
    assert load(path, environ, {"server.workers": None}).server.workers == 5
    assert load(path, environ, {}).log.level == "debug"


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("SERVER__WORKERS", "3", lambda s: s.server.workers == 3),
        ("SERVER__DRAIN_GRACE_S", "2", lambda s: s.server.drain_grace_s == 2.0),
        ("SERVER__NAME", "3.example", lambda s: s.server.name == "3.example"),
        ("SERVER__NAME", "", lambda s: s.server.name == socket.gethostname()),
        ("SERVER__DATA_DIR", "/a dir", lambda s: s.server.data_dir == Path("/a dir")),
        ("STORE__DURABILITY", "memory", lambda s: s.store.durability == "memory"),
        ("STORE__ALLOW_UNBOUNDED_STORE", "true", lambda s: s.store.allow_unbounded_store is True),
        ("STORE__PASSWORD", "12345", lambda s: s.store.password.get_secret_value() == "12345"),
        ("HOOKS__CLASS", "a.b:C", lambda s: s.hooks.class_ == "a.b:C"),
        ("RELAY__SCHEDULE_S", "[1, 2.5]", lambda s: s.relay.schedule_s == [1.0, 2.5]),
        ("LISTENERS", '[{name = "a", bind = ["[::1]:1"]}]', lambda s: s.listeners[0].bind == ["[::1]:1"]),
        ("LISTENERS", '[{"name": "a", "size_bytes": 5}]', lambda s: s.listeners[0].size_bytes == 5),
        ("RELAY__ROUTES", '[{"transport": "discard"}]', lambda s: s.relay.routes[0].transport == "discard"),
    ],
)
def test_environment(variable: str, text: str, value: Callable[[Settings], bool]) -> None:
    """Text as it is; numbers, truth values and lists as TOML or JSON."""
    assert value(load(None, {f"MTA_FRONT_{variable}": text}, {}))


def test_lists_are_replaced_whole(write: Write) -> None:
    path = write("[[listeners]]\nname = 'a'\n[[listeners]]\nname = 'b'\nbind = ['[::1]:1']\n")
    assert [listener.name for listener in load(path, {}, {}).listeners] == ["a", "b"]
    environ = {"MTA_FRONT_LISTENERS": '[{name = "c"}]'}
    assert [listener.name for listener in load(path, environ, {}).listeners] == ["c"]


def test_what_kubernetes_puts_into_the_environment_is_no_setting() -> None:
    """A Service named mta-front gives every pod of its namespace such variables."""
    load(
        None,
        {
            "MTA_FRONT_SERVICE_HOST": "10.0.0.1",
            "MTA_FRONT_SERVICE_PORT": "25",
            "MTA_FRONT_SERVICE_PORT_SMTP": "25",
            "MTA_FRONT_PORT": "tcp://10.0.0.1:25",
            "MTA_FRONT_PORT_25_TCP": "tcp://10.0.0.1:25",
            "MTA_FRONT_PORT_25_TCP_ADDR": "10.0.0.1",
            "MTA_FRONT_ADMIN_SERVICE_HOST": "10.0.0.2",
        },
        {},
    )


class TestSecretFiles:
    """Secrets from files."""

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        path = tmp_path / "secret"
        path.write_text("from-file\n")
        return path

    def password(self, path: Path | None, environ: dict[str, str]) -> str:
        return load(path, environ, {}).store.password.get_secret_value()

    def test_in_the_file(self, write: Write, secret: Path) -> None:
        assert self.password(write(f"[store]\npassword_file = '{secret}'\n"), {}) == "from-file"

    def test_in_the_environment(self, secret: Path) -> None:
        assert self.password(None, {"MTA_FRONT_STORE__PASSWORD_FILE": str(secret)}) == "from-file"

    def test_environment_wins_either_way(self, write: Write, secret: Path) -> None:
        inline = write("[store]\npassword = 'inline'\n")
        assert self.password(inline, {"MTA_FRONT_STORE__PASSWORD_FILE": str(secret)}) == "from-file"
        by_file = write(f"[store]\npassword_file = '{secret}'\n")
        assert self.password(by_file, {"MTA_FRONT_STORE__PASSWORD": "env"}) == "env"

    def test_only_the_line_end_is_cut(self, tmp_path: Path) -> None:
        path = tmp_path / "spaces"
        path.write_bytes("  pä ss \r\n".encode())
        assert self.password(None, {"MTA_FRONT_STORE__PASSWORD_FILE": str(path)}) == "  pä ss "

    def test_wins_over_the_url(self, secret: Path) -> None:
        environ = {"MTA_FRONT_STORE__URL": "redis://u:in-url@h", "MTA_FRONT_STORE__PASSWORD_FILE": str(secret)}
        store = load(None, environ, {}).store
        assert (store.username, store.password.get_secret_value()) == ("u", "from-file")

    def test_never_shows(self, secret: Path) -> None:
        settings = load(None, {"MTA_FRONT_STORE__PASSWORD_FILE": str(secret)}, {})
        assert "from-file" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_what_depends_on_the_host_is_settled() -> None:
    server = load(None, {}, {}).server
    assert server.name == socket.gethostname()
    assert server.workers == len(os.sched_getaffinity(0))


class TestDevelopment:
    """The settings of a server without a file."""

    def test_is_a_loopback_server_with_a_maildir(self) -> None:
        settings = development({}, {})
        [route] = settings.relay.routes
        assert all(address.is_loopback for listener in settings.listeners for address in listener.addresses)
        assert (route.recipients, route.transport, route.path) == (["*"], "maildir", Path("var/mail"))
        assert settings.admin.bind == "127.0.0.1:9580"
        assert settings.store.url == ""
        assert (settings.server.workers, settings.server.drain_grace_s) == (2, 0.0)
        assert settings.log.format == "console"

    def test_listeners_are_of_all_kinds(self) -> None:
        """DESIGN §6: SMTP for anybody; submission with STARTTLS or TLS at once, and a login; LMTP."""
        settings = development({}, {})
        found = {
            listener.bind[0].partition(":")[2]: (
                listener.name,
                listener.protocol,
                listener.auth_optional,
                listener.needs_upgrade,
                listener.secure,
                listener.relay_domains,
            )
            for listener in settings.listeners
        }
        assert found == {
            "2525": ("mx", "smtp", True, False, False, ["*"]),
            "2587": ("submission", "smtp", False, True, False, []),
            "2465": ("submissions", "smtp", False, False, True, []),
            "2424": ("lmtp", "lmtp", True, False, False, ["*"]),
        }
        assert set(tls_of_listeners(settings)) == {"mx", "submission", "submissions", "lmtp"}
        assert (settings.auth.backends, settings.auth.file.path) == (["hook", "file"], Path("var/auth/users"))

    def test_certificate_of_the_environment_is_used(self) -> None:
        settings = development({"MTA_FRONT_TLS__CERT": "a", "MTA_FRONT_TLS__KEY": "b"}, {})
        assert {options.cert for options in tls_of_listeners(settings).values()} == {("a",)}

    def test_environment_and_flags_hold_over_it(self) -> None:
        environ = {"MTA_FRONT_ADMIN__BIND": "127.0.0.1:1", "MTA_FRONT_SERVER__DATA_DIR": "/data"}
        settings = development(environ, {"server.workers": 5})
        assert settings.admin.bind == "127.0.0.1:1"
        assert settings.server.workers == 5
        assert settings.relay.routes[0].path == Path("/data/mail")

    def test_cannot_become_an_open_relay(self) -> None:
        listeners = '[{name = "mx", bind = ["0.0.0.0:2525"], relay_domains = ["*"]}]'
        with pytest.raises(SettingsError, match="open relay"):
            development({"MTA_FRONT_LISTENERS": listeners}, {})


FORBIDDEN_IN_THE_MASTER = ("gevent", "redis", "OpenSSL", "prometheus_client", "sentry_sdk", "urllib3", "cryptography")


@pytest.mark.parametrize("module", ["mta_front", "mta_front.config", "mta_front.cli"])
def test_import_is_light(module: str) -> None:
    """The master imports these; it may hold nothing that starts threads, hubs or connections."""
    code = f"import sys, {module}; print([name for name in {FORBIDDEN_IN_THE_MASTER!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_flag_is_a_bug() -> None:
    flags: dict[str, Any] = {"server.wrokers": 1}
    with pytest.raises(KeyError):
        load(None, {}, flags)
