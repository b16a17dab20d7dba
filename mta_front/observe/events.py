"""What the parts of the front door report, and to whom they report it: nobody, unless a process main binds a sink.

`net`, `store`, `policy` and `relay` call these methods where something happens that an operator wants to see. They know
nothing of Prometheus, logs or Sentry: `Events` does nothing, so the library needs none of them. The process mains
(`worker`, `relaying`, `administering`) pass an implementation that feeds metrics, log lines and Sentry.

Every method must return at once and must not raise. Arguments named `listener`, `transport`, `outcome`, `reason` and
`purpose` come from small closed sets and may become metric labels; addresses and ids may not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Events:
    """A sink that ignores everything."""

    # -- sessions (net) ------------------------------------------------------------------------------------------

    def session_opened(self, listener: str) -> None:
        """A connection was accepted and its session begins."""

    def session_closed(self, listener: str, reason: str, summary: dict[str, Any]) -> None:
        """A session ended. `reason`: quit, lost, timeout, refused, limit, tls, error, drain. `summary`: its log
        line.
        """

    def message_accepted(self, listener: str, summary: dict[str, Any]) -> None:
        """A message got its 250. `summary`: id, size_bytes, recipients, and whom it is from and for."""

    def message_refused(self, listener: str, code: int, summary: dict[str, Any]) -> None:
        """A message was answered 4xx or 5xx after its last byte."""

    def command_refused(self, listener: str, verb: str, code: int) -> None:
        """A command was answered 4xx or 5xx by a hook, a limit or policy (not for its syntax)."""

    def login(self, listener: str, method: str, code: int) -> None:
        """An AUTH command came to its end with this reply. `method`: one of the listener's mechanisms, or "other";
        "XCLIENT" for a LOGIN that XCLIENT gave.
        """

    def proxy_refused(self, listener: str, reason: str) -> None:
        """A connection ended for its PROXY header. `reason`: of `proxyrefusal`, or timeout, lost, drain, untrusted."""

    def tls_failed(self, listener: str, reason: str) -> None:
        """A TLS connection broke; `reason` as in `tls.failure`."""

    def tls_reloaded(self, listener: str, good: bool, why: str) -> None:
        """Certificate files changed; without `good` they cannot be used, the old ones serve on, and `why` says it."""

    def certificate(self, listener: str, name: str, serial: str, expires_at: float) -> None:
        """A certificate that is served now. `name`: the SNI name, "" for the listener's own; `expires_at`: Unix
        time in seconds until which it is good.
        """

    def fault(self, error: BaseException, where: str) -> None:
        """A bug: an exception that nobody expected. The session answers 451 4.3.0; somebody has to read this."""

    # -- the store -----------------------------------------------------------------------------------------------

    def store_state(self, purpose: str, up: bool, reason: str) -> None:
        """A connection to the store came up or went down, or became unfit (not durable). Called at changes only."""

    def store_replicas(self, purpose: str, found: int, counted: int) -> None:
        """`found` replicas follow the master, `counted` of them confirm each message. With more found than counted, one
        that does not have it may become the master (a replica of priority 0 never does). Called at changes only.
        """

    def reception(self, open_: bool, reason: str) -> None:
        """The store is up and has no room for more mail (452), or has room again. `reason`: memory, messages, age; ""
        when open. Called at changes only.
        """

    def committed(self, batch: int, duration_s: float) -> None:
        """One group commit: `batch` messages became durable together after `duration_s`."""

    # -- limits --------------------------------------------------------------------------------------------------

    def limit_decided(self, rule: str, decision: str, mode: str) -> None:
        """A limit was asked. `decision`: allowed, refused, delayed. `rule`: the one that refused or delayed
        (connections.per_address, ban, …); of "allowed" the group that was asked for (connections, auth_failures,
        messages, …). `mode`: shared, or what the rule does while the store is away: open, closed, local.
        """

    def limits_mode(self, mode: str, reason: str) -> None:
        """The limits' store went away ("degraded": each limit does what its `store_down` says) or came back ("shared").
        `reason`: why, for the log. Called at changes only.
        """

    # -- the relay -----------------------------------------------------------------------------------------------

    def attempted(self, transport: str, outcome: str, recipients: int, duration_s: float) -> None:
        """One delivery attempt to one next hop. `outcome`: delivered, deferred, failed."""

    def settled(self, summary: dict[str, Any]) -> None:
        """A message left the queue (delivered or buried) or was deferred; `summary`: fields of its log line."""

    def queue_state(self, shard: int, counts: dict[str, float]) -> None:
        """The shard's housekeeper counted: length, later, leased, dead, oldest_age_s."""


NOBODY = Events()

_METHODS = tuple(name for name in vars(Events) if not name.startswith("_"))


class Several(Events):
    """Passes everything on to several sinks. What only one of them listens to goes to it without a detour."""

    def __init__(self, *sinks: Events) -> None:
        for name in _METHODS:
            listening = [
                getattr(sink, name) for sink in sinks if getattr(type(sink), name) is not getattr(Events, name)
            ]
            if len(listening) == 1:
                setattr(self, name, listening[0])
            elif listening:
                setattr(self, name, _all_of(listening))


def _all_of(methods: list[Callable[..., None]]) -> Callable[..., None]:
    def call(*args: Any, **kwargs: Any) -> None:
        for method in methods:
            method(*args, **kwargs)

    return call
