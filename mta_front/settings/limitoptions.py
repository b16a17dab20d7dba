"""What the settings of limits mean: the rules for each listener and network, and what an operator cannot have meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from mta_front.settings.limits import NetworkLimits, parse_rate
from mta_front.settings.section import Section
from mta_front.store.limits.rules import AtOnce, AuthRules, Group, LimitOptions, Mode, PerTime, Rules, Subject

if TYPE_CHECKING:
    from mta_front.settings.limits import Limits
    from mta_front.settings.model import Listener, Settings
    from mta_front.store.options import StoreOptions

_PER_TIME: tuple[Group, ...] = (
    "connection_rate",
    "messages",
    "recipients",
    "bytes",
    "failed_commands",
    "handshakes",
)
_SUBJECTS: dict[str, Subject] = {
    "per_address": "address",
    "per_user": "user",
    "per_domain": "domain",
    "per_listener": "listener",
    "fleet": "fleet",
}
_OF_A_CLIENT = frozenset({"per_address", "per_user", "per_domain"})
"""Counted for one listener alone where the listener has such a limit of its own."""


def limit_options(settings: Settings, store: StoreOptions) -> LimitOptions:
    """What a worker needs to hold its clients to the limits. `store`: the store of messages, as the master found it."""
    said = settings.limits
    if said.url:
        store = replace(store, url=said.url, username=said.username, password=said.password.get_secret_value())
    return LimitOptions(
        store=replace(store, timeout_ms=said.timeout_ms),
        rules=_rules(said),
        listeners={listener.name: _rules(said, listener) for listener in settings.listeners},
        networks=tuple(
            (network, {listener.name: _rules(said, listener, own) for listener in settings.listeners})
            for own in said.networks
            for network in own.networks
        ),
        exempt=tuple(said.exempt),
        ipv4_prefix=said.ipv4_prefix,
        ipv6_prefix=said.ipv6_prefix,
        timeout_ms=said.timeout_ms,
        slow_ms=said.slow_ms,
        lease_s=said.lease_s,
    )


def _rules(said: Limits, listener: Listener | None = None, network: NetworkLimits | None = None) -> Rules:
    """The rules for clients from `network` on `listener`: the narrowest table that sets a key has it."""
    tables = _Tables(said, listener, network)
    at_once = [
        AtOnce(_SUBJECTS[key], limit, tables.mode("connections"), scope)
        for key, limit, scope in tables.limits("connections")
    ]
    per_time = [
        PerTime(group, _SUBJECTS[key], rate, tables.mode(group), scope)
        for group in _PER_TIME
        for key, text, scope in tables.limits(group)
        if (rate := parse_rate(text))
    ]
    return Rules(at_once=tuple(at_once), per_time=tuple(per_time), auth=_auth_rules(tables))


def _auth_rules(tables: _Tables) -> AuthRules | None:
    def get(key: str) -> Any:
        return tables.get("auth_failures", key)[0]

    per_address, per_user, per_pair = (parse_rate(get(key)) for key in ("per_address", "per_user", "per_pair"))
    if not (per_address or per_user or per_pair):
        return None
    return AuthRules(
        per_address=per_address,
        per_user=per_user,
        per_pair=per_pair,
        known_address_days=get("known_address_days"),
        lockout_s=tuple(get("lockout_s")),
        tarpit_s=(get("tarpit_s"), get("tarpit_max_s")),
        store_down=tables.mode("auth_failures"),
    )


class _Tables:
    """The tables of a group, the narrowest first."""

    def __init__(self, said: Limits, listener: Listener | None, network: NetworkLimits | None) -> None:
        self._store_down = said.store_down
        self._layers: list[tuple[Section, str]] = [(said, "")]
        if listener is not None:
            self._layers.insert(0, (listener.limits, listener.name))
        if network is not None:
            self._layers.insert(0, (network, ""))
        self._widest = said

    def get(self, group: str, key: str) -> tuple[Any, str]:
        """A value, and the listener that it is for alone, or ""."""
        for layer, scope in self._layers:
            value = getattr(getattr(layer, group), key, None)
            if value is not None:
                return value, scope if key in _OF_A_CLIENT else ""
        raise KeyError(key)

    def limits(self, group: str) -> Iterator[tuple[str, Any, str]]:
        """Each limit of the group that there is: key, value, scope."""
        for key in type(getattr(self._widest, group)).model_fields:
            if key in _SUBJECTS:
                value, scope = self.get(group, key)
                if value:
                    yield key, value, scope

    def mode(self, group: str) -> Mode:
        """What the group does without the store."""
        return cast("Mode", self.get(group, "store_down")[0] or self._store_down)
