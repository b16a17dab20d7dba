"""A worker's certificates: the first ones, new ones, and bad ones."""

from __future__ import annotations

from typing import Any

import pytest

from mta_front.keyring import Keyring
from mta_front.observe.events import Events
from mta_front.tls.certificates import self_signed
from mta_front.tls.contexts import TlsSettingsError
from mta_front.tls.options import TlsOptions

OPTIONS = {"mx": TlsOptions(key="k", cert="c")}


class Noted(Events):
    def __init__(self) -> None:
        self.reloads: list[tuple[bool, str]] = []
        self.certificates: list[tuple[str, str, float]] = []

    def tls_reloaded(self, listener: str, good: bool, why: str) -> None:
        self.reloads.append((good, why))

    def certificate(self, listener: str, name: str, serial: str, expires_at: float) -> None:
        self.certificates.append((listener, name, expires_at))


def files(name: str = "mx.example", days: int = 365) -> dict[str, bytes]:
    key, cert = self_signed(name, days)
    return {"k": key, "c": cert}


def test_new_certificates_serve_who_comes_then_and_old_connections_keep_theirs() -> None:
    noted = Noted()
    keyring = Keyring(OPTIONS, files(), noted)
    current = keyring.of("mx")
    assert current is not None
    before = current.contexts
    keyring.update(files(days=30))
    assert current.contexts is not before
    assert noted.reloads == [(True, "")]
    assert [listener for listener, _, _ in noted.certificates] == ["mx", "mx"]
    assert noted.certificates[1][2] < noted.certificates[0][2]
    assert keyring.of("other") is None


@pytest.mark.parametrize("bad", ["mixed", "garbage", "gone"])
def test_bad_ones_are_refused_and_the_old_ones_serve_on(bad: str) -> None:
    noted = Noted()
    keyring = Keyring(OPTIONS, files(), noted)
    current = keyring.of("mx")
    assert current is not None
    before = current.contexts
    updates: dict[str, dict[str, Any]] = {
        "mixed": {"k": files()["k"], "c": files()["c"]},
        "garbage": files() | {"c": b"-----BEGIN CERTIFICATE-----\nxxxx\n-----END CERTIFICATE-----\n"},
        "gone": {"k": files()["k"]},
    }
    keyring.update(updates[bad])
    assert current.contexts is before
    ((good, why),) = noted.reloads
    assert not good
    assert why
    assert "PRIVATE" not in why


def test_what_cannot_be_used_at_the_start_is_an_error() -> None:
    with pytest.raises(TlsSettingsError):
        Keyring(OPTIONS, {}, Noted())
