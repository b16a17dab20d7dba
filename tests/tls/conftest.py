"""Certificates that many tests use, made once."""

from __future__ import annotations

from tests.tls.issued import authority, client_authority, client_pair, pair

__all__ = ["authority", "client_authority", "client_pair", "pair"]
