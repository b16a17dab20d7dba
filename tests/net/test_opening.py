"""By which address a client is known, whatever socket it came to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mta_front.net.opening import plain


@pytest.mark.parametrize(
    ("peer", "known_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:0:102:304", "::ffff:0:102:304"),  # RFC 2765: an IPv4 host translated, not mapped
        ("::ffff:0", "::ffff:0"),
        ("::1", "::1"),
        ("2001:db8::ffff:1", "2001:db8::ffff:1"),
        ("fe80::1%lo", "fe80::1%lo"),
    ],
)
def test_an_ipv4_client_is_known_by_its_ipv4_address_and_others_as_they_are(peer: str, known_as: str) -> None:
    assert plain(peer) == known_as
    ip_address(known_as)
