"""Who could log in: `check` remarks on what may not be meant, and refuses nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mta_front.passwd import line_of
from tests.cli.running import put, run
from tests.tls.authority import Authority

NOBODY = "listeners[0].auth_optional: nobody can log in, so nobody can send:"
MEANT = "is auth_optional = true meant?"
HOOKS = (
    "import mta_front\n\nclass Silent(mta_front.Hooks):\n    pass\n\n"
    "class Asking(mta_front.Hooks):\n    def on_auth(self, credentials, session):\n        return 'ann'\n"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate, users files, hooks."""
    directory = tmp_path_factory.mktemp("files")
    authority = Authority()
    authority.issue("mx.ours.example").files(directory, "good")
    (directory / "ca.pem").write_bytes(authority.pem)
    scram = line_of("bob", "hunter2", "scram-sha-256")
    (directory / "users").write_text(f"ann:{{PLAIN}}hunter2\n{scram}\n")
    (directory / "scram").write_text(f"{scram}\n")
    (directory / "empty").write_text("# nobody\n")
    (directory / "policy.py").write_text(HOOKS)
    return directory


TLS = "[tls]\ncert = 'good.crt'\nkey = 'good.key'\n"
FILE = "[auth]\nbackends = ['file']\nfile.path = '{}'\n"


@pytest.mark.parametrize(
    ("listener", "rest", "remarks"),
    [
        ("", TLS, [f"{NOBODY} no backend of [auth] can verify PLAIN or LOGIN; {MEANT}"]),
        ("auth_methods = []", TLS + FILE.format("users"), [f"{NOBODY} auth_methods is empty; {MEANT}"]),
        (
            "",
            FILE.format("users"),
            [f"{NOBODY} there is no certificate for TLS, and allow_insecure_auth is false; {MEANT}"],
        ),
        ("", TLS + FILE.format("empty"), [f"{NOBODY} no backend of [auth] can verify PLAIN or LOGIN; {MEANT}"]),
        ("", TLS + FILE.format("users"), []),
        ("allow_insecure_auth = true", FILE.format("users"), []),
        ("auth_optional = true", "", []),
        ("disabled_commands = ['AUTH']", "", []),
        ("auth_optional = true", TLS + FILE.format("users"), []),
        (
            "auth_methods = ['PLAIN', 'XOAUTH2', 'OAUTHBEARER']",
            TLS + FILE.format("users"),
            [
                (
                    'listeners[0].auth_methods = ["PLAIN", "XOAUTH2", "OAUTHBEARER"]: no backend of [auth] can verify '
                    "XOAUTH2 and OAUTHBEARER: not offered"
                ),
            ],
        ),
        (
            "auth_methods = ['PLAIN', 'CRAM-MD5']",
            TLS + FILE.format("users"),
            ["users: 1 of 2 users can use CRAM-MD5", "users: 1 of 2 users can use SCRAM-SHA-256"],
        ),
        (
            "auth_methods = ['CRAM-MD5']",
            TLS + FILE.format("scram"),
            [
                'listeners[0].auth_methods = ["CRAM-MD5"]: no backend of [auth] can verify CRAM-MD5: not offered',
                f"{NOBODY} no backend of [auth] can verify CRAM-MD5; {MEANT}",
            ],
        ),
        (
            "auth_methods = ['EXTERNAL']",
            TLS + FILE.format("users") + "certificates = true\n",
            [f"{NOBODY} EXTERNAL needs request_cert = true; {MEANT}"],
        ),
        (
            "auth_methods = ['EXTERNAL']",
            f"{TLS}request_cert = true\nca = 'ca.pem'\n" + FILE.format("users") + "certificates = true\n",
            [],
        ),
        (
            "auth_methods = ['SCRAM-SHA-256-PLUS']\nallow_insecure_auth = true",
            FILE.format("scram"),
            [f"{NOBODY} SCRAM-SHA-256-PLUS need TLS; {MEANT}"],
        ),
        ("", f"{TLS}[hooks]\nclass = 'policy:Asking'\n", []),
        ("auth_methods = ['XOAUTH2', 'CRAM-MD5']", f"{TLS}[hooks]\nclass = 'policy:Asking'\n", []),
        (
            "",
            f"{TLS}[hooks]\nclass = 'policy:Silent'\n",
            [f"{NOBODY} no backend of [auth] can verify PLAIN or LOGIN; {MEANT}"],
        ),
        (
            "",
            f"{TLS}{FILE.format('empty')}[hooks]\nclass = 'policy:Asking'\n",
            [f"{NOBODY} no backend of [auth] can verify PLAIN or LOGIN; {MEANT}"],
        ),
    ],
)
def test_remarks(files: Path, listener: str, rest: str, remarks: list[str]) -> None:
    put(files, f"[[listeners]]\n{listener}\n{rest}")
    result = run(files, "check")
    assert (result.code, result.out) == (0, "mta-front.toml: no faults\n")
    assert [line.replace("mta-front.toml:1: ", "").replace("mta-front.toml:2: ", "") for line in result.lines] == [
        f"remark: {remark}" for remark in remarks
    ]


def test_serve_logs_remarks(files: Path) -> None:
    """As the format of its log is. (It ends soon after, because its data_dir is a file.)"""
    put(files, "[server]\ndata_dir = 'users'\n[[listeners]]\n")
    result = run(files, "serve")
    assert result.code == os.EX_CANTCREAT
    line = json.loads(result.lines[0])
    assert line["level"] == "warning"
    assert line["remark"].startswith(f"mta-front.toml:3: {NOBODY}")


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("no", 'auth.file.path = "no": no: cannot be read: No such file or directory'),
        ("policy.py", 'auth.file.path = "policy.py": policy.py:1: must be NAME:{SCHEME}HASH'),
    ],
)
def test_a_users_file_that_cannot_be_used_is_a_fault(files: Path, path: str, fault: str) -> None:
    put(files, f"[[listeners]]\n{FILE.format(path)}")
    result = run(files, "check")
    assert result.code == os.EX_CONFIG
    assert result.lines[0].startswith(f"mta-front.toml:4: {fault}")


class TestPasswd:
    """`mta-front passwd`."""

    def test_prints_a_line(self, tmp_path: Path) -> None:
        arguments = ["--scheme", "scram-sha-256", "--address", "ann@a.example", "--address", "*@b.example"]
        result = run(tmp_path, "passwd", "ann", *arguments, stdin="hunter2\n")
        assert (result.code, result.lines) == (0, [])
        assert result.out.startswith("ann:{SCRAM-SHA-256}")
        assert result.out.endswith(":ann@a.example,*@b.example\n")

    def test_argon2id_unless_told(self, tmp_path: Path) -> None:
        assert run(tmp_path, "passwd", "ann", stdin="hunter2\n").out.startswith("ann:{ARGON2ID}")

    def test_a_file_that_serve_takes(self, files: Path, tmp_path: Path) -> None:
        users = tmp_path / "users"
        for name in ("ann", "bob", "ann"):
            result = run(files, "passwd", name, "-f", str(users), "--scheme", "scrypt", stdin="hunter2\n")
            assert (result.code, result.out, result.lines) == (0, "", [])
        assert [line.partition(":")[0] for line in users.read_text().splitlines()] == ["ann", "bob"]
        put(files, f"[[listeners]]\n{TLS}{FILE.format(users)}")
        assert run(files, "check").lines == []
        assert run(files, "passwd", "--delete", "bob", "-f", str(users)).code == 0
        assert [line.partition(":")[0] for line in users.read_text().splitlines()] == ["ann"]

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (["passwd"], os.EX_USAGE, "Missing argument"),
            (["passwd", "ann", "--delete"], os.EX_USAGE, "--delete needs -f FILE"),
            (["passwd", "ann", "--scheme", "md5"], os.EX_USAGE, "unknown scheme md5"),
            (["passwd", "a:b"], os.EX_USAGE, "the name must not"),
            (["passwd", "ann", "-f", "no/such/users"], os.EX_CANTCREAT, "No such file or directory"),
            (["passwd", "bob", "--delete", "-f", "users"], os.EX_NOUSER, "there is no user bob"),
        ],
    )
    def test_what_it_refuses(self, tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
        (tmp_path / "users").write_text("ann:{PLAIN}secret\n")
        result = run(tmp_path, *arguments, stdin="hunter2\n")
        assert (result.code, result.out) == (code, "")
        assert said in " ".join(result.lines)
        assert "hunter2" not in " ".join(result.lines)

    def test_no_password_is_no_password(self, tmp_path: Path) -> None:
        assert run(tmp_path, "passwd", "ann").code == os.EX_USAGE
