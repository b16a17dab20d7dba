"""Every metric of the front door, declared here and nowhere else, and the sink that counts events into them.

The processes of one master share a directory of memory-mapped files (prometheus multiprocess mode). A process writes
under its lane, not its pid: files stay few however often workers are replaced, and a counter goes on where the lane's
last holder left it. Gauges are of the `live` kinds: the master removes a dead process's gauge files, so that it is not
counted as alive.

Labels are bounded: listener, reason, verb, reply code, rule, mode, transport, outcome, purpose, shard. Addresses, names
and ids are never labels. Beyond `LABEL_SETS` different label sets a metric counts under "other". A label's children are
bound once: an event costs a dict lookup and one write to mapped memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mta_front.observe.events import Events
from mta_front.observe.mapped import mapped_values

LABEL_SETS = 512

COMMIT_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
ATTEMPT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

LIMITS_MODES = ("shared", "degraded")

M = TypeVar("M", Counter, Gauge, Histogram)


def share(metrics_dir: str, lane: int) -> None:
    """Let this process's metrics live in files of `metrics_dir`, under its lane. Once, before `Metrics` are made."""
    values.ValueClass = mapped_values(metrics_dir, lane)


class Metrics:
    """The metrics that processes write."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        into = registry or CollectorRegistry()

        self.sessions_opened = Counter(
            "mta_front_sessions_opened_total", "Sessions that began.", ["listener"], registry=into
        )
        self.sessions_closed = Counter(
            "mta_front_sessions_closed_total",
            "Sessions that ended, by reason: quit, lost, timeout, refused, limit, tls, error, drain.",
            ["listener", "reason"],
            registry=into,
        )
        self.sessions = Gauge(
            "mta_front_sessions", "Sessions now.", ["listener"], registry=into, multiprocess_mode="livesum"
        )
        self.accepted = Counter(
            "mta_front_messages_accepted_total", "Messages answered 250, and durable.", ["listener"], registry=into
        )
        self.accepted_bytes = Counter(
            "mta_front_messages_accepted_bytes_total",
            "Octets of the messages answered 250.",
            ["listener"],
            registry=into,
        )
        self.accepted_recipients = Counter(
            "mta_front_messages_accepted_recipients_total",
            "Recipients of the messages answered 250.",
            ["listener"],
            registry=into,
        )
        self.refused = Counter(
            "mta_front_messages_refused_total",
            "Messages answered 4xx or 5xx after their last octet, by reply code.",
            ["listener", "code"],
            registry=into,
        )
        self.commands_refused = Counter(
            "mta_front_commands_refused_total",
            "Commands answered 4xx or 5xx by a hook, a limit or policy; verb RCPT: refused recipients.",
            ["listener", "verb", "code"],
            registry=into,
        )
        self.logins = Counter(
            "mta_front_logins_total",
            "AUTH commands that came to an end, by mechanism and reply code: 235 is a login.",
            ["listener", "method", "code"],
            registry=into,
        )
        self.tls_failures = Counter(
            "mta_front_tls_failures_total",
            "TLS connections that broke, by reason: plaintext, garbage, version, no_shared_cipher, client_certificate,"
            " refused, unfinished, truncated, protocol.",
            ["listener", "reason"],
            registry=into,
        )
        self.proxy_refusals = Counter(
            "mta_front_proxy_refusals_total",
            "Connections that ended for their PROXY header, by reason; untrusted: from a peer that may send none.",
            ["listener", "reason"],
            registry=into,
        )
        self.tls_reloads = Counter(
            "mta_front_tls_reloads_total",
            "New certificates that a worker saw, by result: good, refused. After a refusal the old ones serve on.",
            ["listener", "result"],
            registry=into,
        )
        self.certificate_expiry = Gauge(
            "mta_front_tls_certificate_expiry_timestamp_seconds",
            "When a served certificate ends; name: the SNI name, empty for the listener's own.",
            ["listener", "name"],
            registry=into,
            multiprocess_mode="livemin",
        )
        self.faults = Counter(
            "mta_front_faults_total",
            "Exceptions that nobody expected: bugs, each with a traceback in the log.",
            registry=into,
        )
        self.store_up = Gauge(
            "mta_front_store_up",
            "1 while in every process the connections of this purpose are up and the store is fit, else 0.",
            ["purpose"],
            registry=into,
            multiprocess_mode="livemin",
        )
        self.store_replicas = Gauge(
            "mta_front_store_replicas",
            "Replicas that follow the master; kind: found, or counted (confirm each message). More found than counted: "
            "a fail-over may lose messages.",
            ["purpose", "kind"],
            registry=into,
            multiprocess_mode="livemax",
        )
        self.reception_stopped = Gauge(
            "mta_front_reception_stopped",
            "1 while mail is answered 452 since the store, though it is up, has no room: memory, messages, age.",
            ["reason"],
            registry=into,
            multiprocess_mode="livemax",
        )
        self.commit_duration = Histogram(
            "mta_front_store_commit_seconds",
            "From a group commit's first octet sent until the store said it is durable.",
            registry=into,
            buckets=COMMIT_BUCKETS_S,
        )
        self.commit_batch = Histogram(
            "mta_front_store_commit_messages",
            "Messages that became durable in one group commit.",
            registry=into,
            buckets=BATCH_BUCKETS,
        )
        self.limit_decisions = Counter(
            "mta_front_limit_decisions_total",
            "Answers of limits, by rule, decision (allowed, refused, delayed) and mode: shared, or open, closed, local"
            " while their Redis is away.",
            ["rule", "decision", "mode"],
            registry=into,
        )
        self.limits_mode = Gauge(
            "mta_front_limits_mode",
            "Workers that count limits in their Redis (shared), or have to do without it (degraded).",
            ["mode"],
            registry=into,
            multiprocess_mode="livesum",
        )
        self.limits_changes = Counter(
            "mta_front_limits_mode_changes_total",
            "How often processes lost the Redis of limits (degraded) and had it back (shared).",
            ["mode"],
            registry=into,
        )
        self.attempts = Counter(
            "mta_front_relay_attempts_total",
            "Delivery attempts, by outcome: delivered, deferred, failed.",
            ["transport", "outcome"],
            registry=into,
        )
        self.attempted_recipients = Counter(
            "mta_front_relay_recipients_total",
            "Recipients of delivery attempts, by outcome: delivered, deferred, failed.",
            ["transport", "outcome"],
            registry=into,
        )
        self.attempt_duration = Histogram(
            "mta_front_relay_attempt_seconds",
            "Duration of one delivery attempt to one next hop.",
            ["transport"],
            registry=into,
            buckets=ATTEMPT_BUCKETS_S,
        )
        self.settled = Counter(
            "mta_front_relay_settled_total",
            "Messages that left the queue or were deferred, by outcome: delivered, deferred, buried.",
            ["outcome"],
            registry=into,
        )
        self.queue = {
            key: Gauge(name, text, ["shard"], registry=into, multiprocess_mode="livemostrecent")
            for key, name, text in (
                ("length", "mta_front_queue_messages", "Messages accepted and not yet settled."),
                ("later", "mta_front_queue_later_messages", "Messages deferred: they wait for their next attempt."),
                ("leased", "mta_front_queue_leased_messages", "Messages in the hands of a relay worker."),
                ("dead", "mta_front_queue_dead_messages", "Dead letters: messages that wait for an operator."),
                ("oldest_age_s", "mta_front_queue_oldest_age_seconds", "Age of the oldest message not yet settled."),
            )
        }


class MetricEvents(Events):
    """What the parts report, as numbers. `limits`: this process has limits, and counts them in their Redis at first."""

    def __init__(self, metrics: Metrics | None = None, *, limits: bool = False) -> None:
        metrics = metrics or Metrics()
        self._sessions_opened = _Children(metrics.sessions_opened)
        self._sessions_closed = _Children(metrics.sessions_closed)
        self._sessions = _Children(metrics.sessions)
        self._accepted = _Children(metrics.accepted)
        self._accepted_bytes = _Children(metrics.accepted_bytes)
        self._accepted_recipients = _Children(metrics.accepted_recipients)
        self._refused = _Children(metrics.refused)
        self._commands_refused = _Children(metrics.commands_refused)
        self._logins = _Children(metrics.logins)
        self._tls_failures = _Children(metrics.tls_failures)
        self._proxy_refusals = _Children(metrics.proxy_refusals)
        self._tls_reloads = _Children(metrics.tls_reloads)
        self._certificate_expiry = _Children(metrics.certificate_expiry)
        self._store_up = _Children(metrics.store_up)
        self._store_replicas = _Children(metrics.store_replicas)
        self._reception_stopped = _Children(metrics.reception_stopped)
        self._limit_decisions = _Children(metrics.limit_decisions)
        self._limits_changes = _Children(metrics.limits_changes)
        self._limits_mode = _Children(metrics.limits_mode)
        self._attempts = _Children(metrics.attempts)
        self._attempted_recipients = _Children(metrics.attempted_recipients)
        self._attempt_duration = _Children(metrics.attempt_duration)
        self._queue = {key: _Children(gauge) for key, gauge in metrics.queue.items()}
        self._faults = metrics.faults
        self._settled = _Children(metrics.settled)
        self._commit_batch = metrics.commit_batch
        self._commit_duration = metrics.commit_duration
        if limits:
            self._set_limits_mode("shared")

    def session_opened(self, listener: str) -> None:
        self._sessions_opened[(listener,)].inc()
        self._sessions[(listener,)].inc()

    def session_closed(self, listener: str, reason: str, summary: dict[str, Any]) -> None:
        self._sessions_closed[(listener, reason)].inc()
        self._sessions[(listener,)].dec()

    def message_accepted(self, listener: str, summary: dict[str, Any]) -> None:
        key = (listener,)
        self._accepted[key].inc()
        self._accepted_bytes[key].inc(summary.get("size_bytes", 0))
        self._accepted_recipients[key].inc(_count(summary.get("recipients", 0)))

    def message_refused(self, listener: str, code: int, summary: dict[str, Any]) -> None:
        self._refused[(listener, str(code))].inc()

    def command_refused(self, listener: str, verb: str, code: int) -> None:
        self._commands_refused[(listener, verb, str(code))].inc()

    def login(self, listener: str, method: str, code: int) -> None:
        self._logins[(listener, method, str(code))].inc()

    def proxy_refused(self, listener: str, reason: str) -> None:
        self._proxy_refusals[(listener, reason)].inc()

    def tls_failed(self, listener: str, reason: str) -> None:
        self._tls_failures[(listener, reason)].inc()

    def tls_reloaded(self, listener: str, good: bool, why: str) -> None:
        self._tls_reloads[(listener, "good" if good else "refused")].inc()

    def certificate(self, listener: str, name: str, serial: str, expires_at: float) -> None:
        self._certificate_expiry[(listener, name)].set(expires_at)

    def fault(self, error: BaseException, where: str) -> None:
        self._faults.inc()

    def store_state(self, purpose: str, up: bool, reason: str) -> None:
        self._store_up[(purpose,)].set(1 if up else 0)

    def store_replicas(self, purpose: str, found: int, counted: int) -> None:
        self._store_replicas[(purpose, "found")].set(found)
        self._store_replicas[(purpose, "counted")].set(counted)

    def reception(self, open_: bool, reason: str) -> None:
        for each in ("memory", "messages", "age"):
            self._reception_stopped[(each,)].set(each == reason)

    def committed(self, batch: int, duration_s: float) -> None:
        self._commit_batch.observe(batch)
        self._commit_duration.observe(duration_s)

    def limit_decided(self, rule: str, decision: str, mode: str) -> None:
        self._limit_decisions[(rule, decision, mode)].inc()

    def limits_mode(self, mode: str, reason: str) -> None:
        self._limits_changes[(mode,)].inc()
        self._set_limits_mode(mode)

    def _set_limits_mode(self, mode: str) -> None:
        for each in LIMITS_MODES:
            self._limits_mode[(each,)].set(1 if each == mode else 0)

    def attempted(self, transport: str, outcome: str, recipients: int, duration_s: float) -> None:
        key = (transport, outcome)
        self._attempts[key].inc()
        self._attempted_recipients[key].inc(recipients)
        self._attempt_duration[(transport,)].observe(duration_s)

    def settled(self, summary: dict[str, Any]) -> None:
        self._settled[(str(summary.get("outcome", "")),)].inc()

    def queue_state(self, shard: int, counts: dict[str, float]) -> None:
        key = (str(shard),)
        for name, children in self._queue.items():
            if name in counts:
                children[key].set(counts[name])


def of_master(status: dict[str, Any]) -> Iterator[Metric]:
    """What only the master knows, from the status that it sends to the admin process."""
    restarts = CounterMetricFamily(
        "mta_front_restarts", "Processes that ended by themselves and were replaced.", labels=["kind"]
    )
    for kind, count in status.get("restarts", {}).items():
        restarts.add_metric([kind], count)
    yield restarts
    processes = GaugeMetricFamily("mta_front_processes", "Processes that are ready.", labels=["kind"])
    for kind in ("worker", "relay"):
        ready = [row for row in status.get("children", []) if row["kind"] == kind and row["state"] == "ready"]
        processes.add_metric([kind], len(ready))
    yield processes
    yield GaugeMetricFamily("mta_front_draining", "1 from TERM on, else 0.", value=status.get("state") != "running")
    store = status.get("store", {})
    if store.get("embedded"):
        yield GaugeMetricFamily(
            "mta_front_embedded_store_up", "1 while the embedded store answers.", value=bool(store.get("up"))
        )
    if "started_at" in status:
        yield GaugeMetricFamily(
            "mta_front_master_start_time_seconds", "When the master started, in Unix time.", value=status["started_at"]
        )


class _Children(dict[tuple[str, ...], M], Generic[M]):
    """A metric's children by label values, each bound when first used; too many of them count as "other"."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric: M = metric

    def __missing__(self, key: tuple[str, ...]) -> M:
        if len(self) >= LABEL_SETS:
            key = ("other",) * len(key)
        child: M = self._metric.labels(*key)
        self[key] = child
        return child


def _count(recipients: Any) -> int:
    """The summary may carry the recipients or their number."""
    return recipients if isinstance(recipients, int) else len(recipients)
