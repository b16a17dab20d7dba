"""Every fault is one line: where it stands, the key, the value, what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta_front.config import SettingsError, load

NEXT_HOP = 'next_hops = ["h:25"]'


def faults(path: Path | None, text: str = "", environ: dict[str, str] | None = None, **flags: object) -> list[str]:
    """The faults of a file, with its directory cut off."""
    if path is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as caught:
        load(path, environ or {}, {key.replace("__", "."): value for key, value in flags.items()})
    for line in caught.value.faults:
        assert "\n" not in line
    return [line.replace(f"{path.parent}/", "") if path else line for line in caught.value.faults]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the settings file of a test stands."""
    return tmp_path / "f.toml"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        # -- keys that do not exist
        ("[server]\nworker = 3", "f.toml:2: server.worker: unknown key; did you mean server.workers?"),
        ("[server]\nsize_bytes = 3", "f.toml:2: server.size_bytes: unknown key; did you mean listeners.size_bytes?"),
        ("[serwer]\nworkers = 3", "f.toml:1: serwer: unknown key; did you mean server?"),
        ("workers = 3", "f.toml:1: workers: unknown key; did you mean server.workers?"),
        ("[server]\nqqq = 3", "f.toml:2: server.qqq: unknown key"),
        ("[hooks]\nclass_ = ''", "f.toml:2: hooks.class_: unknown key; did you mean hooks.class?"),
        ("[store]\npassw0rd = 'hunter2'", "f.toml:2: store.passw0rd: unknown key; did you mean store.password?"),
        # -- types and bounds
        ("[server]\nworkers = 'x'", 'f.toml:2: server.workers = "x": must be a whole number from 0 to 512'),
        ("[server]\nworkers = 1.5", "f.toml:2: server.workers = 1.5: must be a whole number from 0 to 512"),
        ("[server]\nworkers = true", "f.toml:2: server.workers = true: must be a whole number from 0 to 512"),
        ("[server]\nworkers = 513", "f.toml:2: server.workers = 513: must be a whole number from 0 to 512"),
        ("[server]\nmax_connections = 0", "f.toml:2: server.max_connections = 0: must be a whole number of at least 1"),
        ("[server]\ndrain_timeout_s = 0", "f.toml:2: server.drain_timeout_s = 0: must be a number greater than 0"),
        ("[server]\ndrain_grace_s = -1", "f.toml:2: server.drain_grace_s = -1: must be a number of at least 0"),
        ("[server]\ndrain_timeout_s = inf", "f.toml:2: server.drain_timeout_s = inf: must be a number greater than 0"),
        ("[server]\nname = 3", "f.toml:2: server.name = 3: must be text in quotes"),
        ("[server]\nname = 'a b'", 'f.toml:2: server.name = "a b": must be a host name like "mx.example.net"'),
        ("[server]\ndata_dir = ''", 'f.toml:2: server.data_dir = "": must be the path of a directory'),
        ("server = 3", "f.toml:1: server = 3: must be a table"),
        (
            "[store]\ndurability = 'disk'",
            (
                'f.toml:2: store.durability = "disk": must be "fsync", "fsync+replicated:N", "replicated:N" or '
                '"memory", N from 1 to 9'
            ),
        ),
        (
            "[store]\nprefix = 'a{b}'",
            'f.toml:2: store.prefix = "a{b}": must be 1 to 64 letters, digits, ".", "_", ":" or "-"',
        ),
        (
            "[[listeners]]\nprotocol = 'http'",
            'f.toml:2: listeners[0].protocol = "http": must be "smtp" or "lmtp"',
        ),
        ("[[listeners]]\nhide_size = 1", "f.toml:2: listeners[0].hide_size = 1: must be true or false"),
        ("[[listeners]]\nbind = 'x:1'", 'f.toml:2: listeners[0].bind = "x:1": must be a list with something in it'),
        ("[[listeners]]\nbind = []", "f.toml:2: listeners[0].bind = []: must be a list with something in it"),
        (
            "[[listeners]]\nname = 'MX 1'",
            (
                'f.toml:2: listeners[0].name = "MX 1": must be 1 to 32 of a-z, 0-9, "-" and "_", beginning with a '
                "letter "
                "or digit"
            ),
        ),
        (
            "[[listeners]]\nbare_newline = 'drop'",
            'f.toml:2: listeners[0].bare_newline = "drop": must be "normalize", "reject" or "accept"',
        ),
        (
            "[[listeners]]\nbanner = 'a\tb'",
            'f.toml:2: listeners[0].banner = "a\\tb": must be at most 400 printable ASCII characters',
        ),
        ("[relay]\nschedule_s = []", "f.toml:2: relay.schedule_s = []: must be a list with something in it"),
        ("[relay]\nschedule_s = [1,\n 0]", "f.toml:2: relay.schedule_s[1] = 0: must be a number greater than 0"),
        ("[hooks]\nclass = 'a.b'", 'f.toml:2: hooks.class = "a.b": must be "package.module:Class"'),
        ("[admin]\nbind = 1979-05-27", 'f.toml:2: admin.bind = "1979-05-27": must be text in quotes'),
        # -- across keys
        (
            "[server]\ndrain_timeout_s = 2\ndrain_grace_s = 20",
            "f.toml:3: server.drain_grace_s = 20: must be less than drain_timeout_s, 2, which counts from TERM too",
        ),
        (
            "[[listeners]]\n[[listeners]]\nbind = ['[::1]:1']",
            'f.toml:2: listeners[1].name: another listener is named "mx"',
        ),
        (
            "[[listeners]]\nname = 'a'\n[[listeners]]\nname = 'b'",
            "f.toml:3: listeners[1].bind[0]: 127.0.0.1:2525 is bound already",
        ),
        (
            "[[listeners]]\nbind = [\n'[::1]:1',\n'[0:0::1]:1']",
            'f.toml:2: listeners[0].bind[1] = "[0:0::1]:1": [::1]:1 is bound already',
        ),
        (
            "[[listeners]]\nbind = ['127.0.0.1:9580']",
            "admin.bind: 127.0.0.1:9580 is bound already",
        ),
        (
            "[[relay.routes]]\ntransport = 'lmtp'",
            "f.toml:1: relay.routes[0].next_hops: must name at least one next hop for lmtp",
        ),
        (
            "[[relay.routes]]\ntransport = 'discard'\nnext_hops = ['h:25']",
            'f.toml:3: relay.routes[0].next_hops = ["h:25"]: has no use for discard',
        ),
        (
            "[[relay.routes]]\ntransport = 'maildir'",
            "f.toml:1: relay.routes[0].path: must name a directory for maildir",
        ),
        (
            f"[[relay.routes]]\n{NEXT_HOP}\npath = 'x'",
            'f.toml:3: relay.routes[0].path = "x": has no use for smtp',
        ),
        (
            f"[[listeners]]\nrelay_domains = ['a.example']\n[[relay.routes]]\nrecipients = ['*.a.example']\n{NEXT_HOP}",
            (
                'f.toml:2: listeners[0].relay_domains = ["a.example"]: no route takes "a.example"; add it to the '
                "recipients "
                "of one of [[relay.routes]]"
            ),
        ),
        # -- the store
        (
            "[store]\nurl = 'http://h'",
            (
                'f.toml:2: store.url = "http://h": must be "" (embedded), redis://HOST:PORT/DB, unix:///PATH, '
                "redis+sentinel://HOST,HOST/NAME/DB or redis+cluster://HOST,HOST; with TLS rediss:// and the like"
            ),
        ),
        (
            "[store]\npassword_file = '/nonexistent/secret'",
            'f.toml:2: store.password_file = "/nonexistent/secret": cannot be read: No such file or directory',
        ),
        (
            "[store]\npassword = 'x'\npassword_file = '/dev/null'",
            'f.toml:3: store.password_file = "/dev/null": stands beside store.password; give one of them',
        ),
        (
            "[store]\nurl = 'redis+sentinel://s1,s2,s3/mail'",
            (
                "f.toml:1: store.durability: loses in a fail-over what replicas do not have yet; must be "
                '"fsync+replicated:N", or set accept_failover_loss = true if you mean it'
            ),
        ),
        (
            "[store]\ndurability = 'replicated:1'",
            'f.toml:2: store.durability = "replicated:1": needs replicas; the embedded store has none',
        ),
        (
            "[store]\nurl = 'redis://h'\nca = '/ca.pem'",
            'f.toml:3: store.ca = "/ca.pem": has no use without TLS to the store, rediss:// and the like',
        ),
        (
            "[store]\nurl = 'rediss://h'\nkey = '/key.pem'",
            'f.toml:3: store.key = "/key.pem": needs cert',
        ),
        (
            "[store]\nurl = 'redis://h'\nsentinel_password = 'x'",
            "f.toml:3: store.sentinel_password = <redacted>: has no use without redis+sentinel://",
        ),
        (
            "[store]\nurl = 'redis+cluster://h'\ndurability = 'memory'\n[auth]\nbackends = ['redis']",
            "f.toml:4: auth.redis.url: must not be a Cluster, which would spread its users over all nodes",
        ),
        ("[store]\npassword_file = '/dev/null'", 'f.toml:2: store.password_file = "/dev/null": is empty'),
        # -- TOML itself
        ("[server]\nworkers =\n", "f.toml:2: is not TOML: Invalid value (column 10)"),
        ("[server]\nworkers = 1\nworkers = 2\n", "f.toml:3: is not TOML: Cannot overwrite a value (column 12)"),
        ("[server]\nworkers = 1\nname = ", "f.toml:3: is not TOML: Invalid value"),
    ],
)
def test_one_fault_one_line(file: Path, text: str, fault: str) -> None:
    assert faults(file, text) == [fault]


@pytest.mark.parametrize(
    "text",
    [
        (
            f"[[listeners]]\nrelay_domains = ['*.a.example', 'b.example']\n[[relay.routes]]\n"
            f"recipients = ['*.a.example', 'B.example.']\n{NEXT_HOP}"
        ),
        (
            f"[[listeners]]\nrelay_domains = ['x.a.example', '*.y.a.example']\n[[relay.routes]]\n"
            f"recipients = ['*.a.example']\n{NEXT_HOP}"
        ),
        (
            f"[[listeners]]\nrelay_domains = ['bücher.example']\n[[relay.routes]]\n"
            f"recipients = ['xn--bcher-kva.example']\n{NEXT_HOP}"
        ),
        "[[listeners]]\nrelay_domains = ['a.example']\n[relay]\nworkers = 0",
    ],
)
def test_domains_that_have_a_route(file: Path, text: str) -> None:
    file.write_text(text)
    load(file, {}, {})


class TestOpenRelay:
    """`*` stands on loopback and with Maildirs only, unless open_relay says that it is meant."""

    LISTENER = "[[listeners]]\nrelay_domains = ['*']\n"
    MAILDIR = "[[relay.routes]]\ntransport = 'maildir'\npath = 'm'\n"
    REMEDY = "would make an open relay; set open_relay = true if you mean it"

    @pytest.mark.parametrize("bind", ["127.0.0.1:25", "[::1]:25", "localhost:25", "unix:./s"])
    def test_loopback_and_maildir(self, file: Path, bind: str) -> None:
        file.write_text(f"{self.LISTENER}bind = ['{bind}']\n{self.MAILDIR}")
        load(file, {}, {})

    @pytest.mark.parametrize("bind", ["0.0.0.0:25", "[::]:25", "192.0.2.1:25", "mx.example.net:25"])
    def test_other_addresses(self, file: Path, bind: str) -> None:
        text = f"{self.LISTENER}bind = ['127.0.0.1:1', '{bind}']\n{self.MAILDIR}"
        assert faults(file, text) == [f'f.toml:2: listeners[0].relay_domains = ["*"]: "*" on {bind} {self.REMEDY}']

    @pytest.mark.parametrize(
        ("route", "transport"),
        [(NEXT_HOP, "smtp"), (f"transport = 'lmtp'\n{NEXT_HOP}", "lmtp"), ("transport = 'discard'", "discard")],
    )
    def test_other_routes(self, file: Path, route: str, transport: str) -> None:
        text = f"{self.LISTENER}{self.MAILDIR}[[relay.routes]]\nrecipients = ['a.example']\n{route}"
        shown = f'f.toml:2: listeners[0].relay_domains = ["*"]: "*" with a route of transport {transport} {self.REMEDY}'
        assert faults(file, text) == [shown]

    def test_unless_it_is_meant(self, file: Path) -> None:
        text = f"{self.LISTENER}open_relay = true\nbind = ['0.0.0.0:25']\n[[relay.routes]]\n{NEXT_HOP}"
        file.write_text(text)
        load(file, {}, {})

    @pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
    def test_trust_in_everybody(self, file: Path, network: str) -> None:
        text = f"[[listeners]]\ntrusted_networks = ['10.0.0.0/8', '{network}']\n"
        shown = f'f.toml:2: listeners[0].trusted_networks[1] = "{network}": would let everybody relay'
        assert faults(file, text) == [f"{shown}; set open_relay = true if you mean it"]
        file.write_text(f"{text}open_relay = true\n")
        load(file, {}, {})


@pytest.mark.parametrize(
    ("variable", "text", "fault"),
    [
        (
            "MTA_FRONT_SERVER__WORKERS",
            "many",
            'MTA_FRONT_SERVER__WORKERS: server.workers = "many": must be a whole number from 0 to 512',
        ),
        (
            "MTA_FRONT_SERVER__WORKERS",
            "",
            'MTA_FRONT_SERVER__WORKERS: server.workers = "": must be a whole number from 0 to 512',
        ),
        (
            "MTA_FRONT_SERVER__WORKERS",
            "1\nbacklog = 2",
            'MTA_FRONT_SERVER__WORKERS: server.workers = "1\\nbacklog = 2": must be a whole number from 0 to 512',
        ),
        (
            "MTA_FRONT_LISTENERS",
            '[{nam = "x"}]',
            "MTA_FRONT_LISTENERS: listeners[0].nam: unknown key; did you mean listeners.name?",
        ),
        ("MTA_FRONT_LISTENERS", "mx", 'MTA_FRONT_LISTENERS: listeners = "mx": must be a list'),
        (
            "MTA_FRONT_SERVER__WORKERZ",
            "3",
            "MTA_FRONT_SERVER__WORKERZ: no setting has this name; did you mean MTA_FRONT_SERVER__WORKERS?",
        ),
        (
            "MTA_FRONT_SERVER_WORKERS",
            "3",
            "MTA_FRONT_SERVER_WORKERS: no setting has this name; did you mean MTA_FRONT_SERVER__WORKERS?",
        ),
        ("MTA_FRONT_SERVER", "{}", "MTA_FRONT_SERVER: no setting has this name"),
        ("MTA_FRONT_LISTENERS__BIND", "x:1", "MTA_FRONT_LISTENERS__BIND: no setting has this name"),
        (
            "MTA_FRONT_STORE__PASSWORD_FILE",
            "/nonexistent",
            (
                'MTA_FRONT_STORE__PASSWORD_FILE: store.password_file = "/nonexistent": cannot be read: No such file or '
                "directory"
            ),
        ),
    ],
)
def test_faults_of_the_environment_name_the_variable(variable: str, text: str, fault: str) -> None:
    [line] = faults(None, environ={variable: text})
    assert line.startswith(fault)


def test_fault_of_a_list_that_was_replaced_names_what_replaced_it(file: Path) -> None:
    environ = {"MTA_FRONT_LISTENERS": '[{name = "X Y"}]'}
    [line] = faults(file, "[[listeners]]\nname = 'a'\n", environ)
    assert line.startswith('MTA_FRONT_LISTENERS: listeners[0].name = "X Y": must be')


def test_faults_of_flags_name_the_option() -> None:
    assert faults(None, server__workers=-1) == [
        "--workers: server.workers = -1: must be a whole number from 0 to 512",
    ]


def test_all_faults_at_once_in_order(file: Path) -> None:
    """Those of values, of keys and across keys together, by line, then environment, then flags."""
    text = (
        "[store]\nurl = 'x'\n[[listeners]]\nname = 'a'\nbind = ['0.0.0.0:25']\nrelay_domains = ['*']\n"
        "[[listeners]]\nname = 'a'\nbind = ['0.0.0.0:26', 'y']\nsiz = 3\n[relay]\nlease_s = 0\n"
    )
    lines = faults(file, text, {"MTA_FRONT_LOG__LEVEL": "loud"}, server__workers=-1)
    assert [line.split(" = ")[0].split(": must")[0].split(": unknown")[0] for line in lines] == [
        "f.toml:2: store.url",
        "f.toml:6: listeners[0].relay_domains",
        "f.toml:6: listeners[0].relay_domains",
        "f.toml:8: listeners[1].name",
        "f.toml:9: listeners[1].bind[1]",
        "f.toml:10: listeners[1].siz",
        "f.toml:12: relay.lease_s",
        "MTA_FRONT_LOG__LEVEL: log.level",
        "--workers: server.workers",
    ]


def test_no_fault_is_made_up_about_a_value_that_is_bad(file: Path) -> None:
    """The second listener's address cannot be known, so it clashes with nothing; nor is its name a double."""
    text = "[[listeners]]\nname = 'a'\n[[listeners]]\nname = 3\nbind = ['y']\n[[relay.routes]]\ntransport = 'x'\n"
    assert [line.split(" = ")[0] for line in faults(file, text)] == [
        "f.toml:4: listeners[1].name",
        "f.toml:5: listeners[1].bind[0]",
        "f.toml:7: relay.routes[0].transport",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "password = 12345",
        "url = 'redis://u:12345@h:0'",
        "url = 'redis://u:pa/12345@h'",
        "url = 'redis://u:pa@12345@h:0'",
        "url = 'redis://h?password=12345'",
        "passw = '12345'",
        "url = 12\npassword = '12345'",
        "password = '12345'\npassword_file = '/dev/null'",
    ],
)
def test_no_secret_in_a_fault(file: Path, text: str) -> None:
    lines = faults(file, f"[store]\n{text}\n")
    assert lines
    assert "12345" not in "\n".join(lines)


def test_long_values_are_cut(file: Path) -> None:
    [line] = faults(file, f"[log]\nlevel = '{'x' * 5000}'\n")
    assert len(line) < 200


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no\.toml: cannot be read: No such file or directory"):
        load(tmp_path / "no.toml", {}, {})
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load(tmp_path, {}, {})


def test_file_that_is_no_text(file: Path) -> None:
    file.write_bytes(b"[server]\nname = '\xff'\n")
    with pytest.raises(SettingsError, match=r"is not UTF-8 \(at byte 17\)"):
        load(file, {}, {})


def test_byte_order_mark_is_ignored(file: Path) -> None:
    file.write_text("[server]\nworkers = 3\n", "utf-8-sig")
    assert load(file, {}, {}).server.workers == 3
