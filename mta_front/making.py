"""What a first start makes for development: a certificate and a user. Runs in the child of `mta_front.checks`.

Files appear whole or not at all, since another server may just be reading them, and only their owner may read them.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mta_front import development, passwd
from mta_front.config import Settings
from mta_front.policy.auth import usersfile
from mta_front.settings.tls import DEVELOPMENT_CERTIFICATE
from mta_front.tls.certificates import Unusable, chain_in, key_in, self_signed

RENEW_DAYS = 7
"""How long a certificate must still be good at a start."""


def certificate(settings: Settings) -> bytes:
    """Key and certificate (PEM) for the server's name, new."""
    return b"".join(self_signed(settings.server.name))


def make_certificate(settings: Settings) -> None:
    """Make the development certificate, unless there is one that is good for a while. Raises OSError."""
    path = settings.server.data_dir / DEVELOPMENT_CERTIFICATE
    if not _is_good(path, datetime.now(UTC) + timedelta(days=RENEW_DAYS)):
        _write(path, certificate(settings))


def _is_good(path: Path, at: datetime) -> bool:
    try:
        pem = path.read_bytes()
        chain_in(pem, str(path), at)
        key_in(pem)
    except (FileNotFoundError, Unusable):
        return False
    return True


def make_user(settings: Settings) -> None:
    """Make the development user with a random password, unless it is there. Raises OSError, passwd.PasswdError."""
    users, password = (settings.server.data_dir / name for name in (development.USERS_FILE, development.PASSWORD_FILE))
    if password.exists() and users.exists() and development.USER in usersfile.parse(users.read_text(), "").entries:
        return
    drawn = secrets.token_urlsafe(12)
    _write(password, f"{drawn}\n".encode())
    passwd.set_user(users, passwd.line_of(development.USER, drawn))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
