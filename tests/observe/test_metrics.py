"""Metrics of several processes, through the files that they share."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from mta_front.observe.admin import Admin
from mta_front.observe.metrics import LABEL_SETS, MetricEvents, Metrics, of_master
from tests.needs import program
from tests.processes import clean_environment, python

WRITER = """
import json, sys
from mta_front.observe.metrics import MetricEvents, share
share(sys.argv[1], int(sys.argv[2]))
events = MetricEvents()
for name, arguments in json.loads(sys.argv[3]):
    getattr(events, name)(*arguments)
"""

TIMER = """
import sys, time
from gevent import monkey
monkey.patch_all()
from mta_front.observe.metrics import MetricEvents, share
share(sys.argv[1], 0)
events = MetricEvents()
summary = {"size_bytes": 4096, "recipients": 1}
best = 1.0
for _ in range(5):
    began = time.perf_counter()
    for _ in range(2000):
        events.session_opened("mx")
        events.message_accepted("mx", summary)
        events.committed(1, 0.002)
        events.session_closed("mx", "quit", summary)
    best = min(best, (time.perf_counter() - began) / 2000)
print(best)
"""

STATUS: dict[str, Any] = {
    "state": "running",
    "started_at": 1.5,
    "children": [{"kind": "worker", "state": "ready", "index": 0}, {"kind": "worker", "state": "booting", "index": 1}],
    "restarts": {"worker": 4, "relay": 0, "admin": 0, "store": 1},
    "store": {"embedded": True, "up": True},
}

EVERY_EVENT: list[tuple[str, list[Any]]] = [
    ("session_opened", ["mx"]),
    ("session_opened", ["mx"]),
    ("session_closed", ["mx", "quit", {}]),
    ("message_accepted", ["mx", {"size_bytes": 4096, "recipients": 3}]),
    ("message_refused", ["mx", 451, {}]),
    ("command_refused", ["mx", "RCPT", 554]),
    ("store_state", ["spool", True, ""]),
    ("store_replicas", ["spool", 2, 1]),
    ("reception", [False, "memory"]),
    ("committed", [3, 0.004]),
    ("limit_decided", ["connections.per_address", "refused", "shared"]),
    ("limits_mode", ["shared", ""]),
    ("limits_mode", ["degraded", "slow"]),
    ("attempted", ["smtp", "delivered", 2, 0.3]),
    ("settled", [{"outcome": "deferred"}]),
    ("queue_state", [0, {"length": 5, "later": 2, "leased": 1, "dead": 1, "oldest_age_s": 3.5}]),
]


def in_a_process(directory: Path, lane: int, events: list[tuple[str, list[Any]]]) -> None:
    """Another process, that holds this lane, reports these events and ends."""
    argv = python("-c", WRITER, str(directory), str(lane), json.dumps(events))
    subprocess.run(argv, check=True, env=clean_environment(), timeout=30)


def scrape(directory: Path, status: dict[str, Any] | None = None) -> str:
    admin = Admin(str(directory))
    if status:
        admin.hear(status)
    return b"".join(admin({"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics"}, lambda *_: None)).decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """By name and label values."""
    return {
        (sample.name, *(value for key, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_event_is_counted_and_processes_add_up(tmp_path: Path) -> None:
    for lane in (0, 7):
        in_a_process(tmp_path, lane, EVERY_EVENT)
    found = samples(scrape(tmp_path))
    assert found["mta_front_sessions_opened_total", "mx"] == 4
    assert found["mta_front_sessions_closed_total", "mx", "quit"] == 2
    assert found["mta_front_sessions", "mx"] == 2
    assert found["mta_front_messages_accepted_total", "mx"] == 2
    assert found["mta_front_messages_accepted_bytes_total", "mx"] == 8192
    assert found["mta_front_messages_accepted_recipients_total", "mx"] == 6
    assert found["mta_front_messages_refused_total", "451", "mx"] == 2
    assert found["mta_front_commands_refused_total", "554", "mx", "RCPT"] == 2
    assert found["mta_front_store_up", "spool"] == 1
    assert found["mta_front_store_replicas", "found", "spool"] == 2
    assert found["mta_front_reception_stopped", "memory"] == 1
    assert found["mta_front_reception_stopped", "age"] == 0
    assert found["mta_front_store_replicas", "counted", "spool"] == 1
    assert found["mta_front_store_commit_seconds_count",] == 2
    assert found["mta_front_store_commit_messages_bucket", "4.0"] == 2
    assert found["mta_front_store_commit_messages_bucket", "2.0"] == 0
    assert found["mta_front_limit_decisions_total", "refused", "shared", "connections.per_address"] == 2
    assert found["mta_front_limits_mode", "degraded"] == 2
    assert found["mta_front_limits_mode", "shared"] == 0
    assert found["mta_front_limits_mode_changes_total", "shared"] == 2
    assert found["mta_front_relay_attempts_total", "delivered", "smtp"] == 2
    assert found["mta_front_relay_recipients_total", "delivered", "smtp"] == 4
    assert found["mta_front_relay_settled_total", "deferred"] == 2
    assert found["mta_front_queue_messages", "0"] == 5, "the last one's word, not the sum"
    assert found["mta_front_queue_oldest_age_seconds", "0"] == 3.5


def test_the_next_holder_of_a_lane_goes_on_counting(tmp_path: Path) -> None:
    for _ in range(3):
        in_a_process(tmp_path, 1, [("session_opened", ["mx"])])
    assert samples(scrape(tmp_path))["mta_front_sessions_opened_total", "mx"] == 3


def test_a_store_that_one_process_has_lost_is_not_up(tmp_path: Path) -> None:
    in_a_process(tmp_path, 0, [("store_state", ["spool", True, ""])])
    in_a_process(tmp_path, 1, [("store_state", ["spool", True, ""]), ("store_state", ["spool", False, "gone"])])
    assert samples(scrape(tmp_path))["mta_front_store_up", "spool"] == 0


def test_limits_are_shared_until_somebody_says_otherwise() -> None:
    registry = CollectorRegistry()
    events = MetricEvents(Metrics(registry), limits=True)
    text = generate_latest(registry).decode()
    assert 'mta_front_limits_mode{mode="shared"} 1.0' in text
    assert 'mta_front_limits_mode{mode="degraded"} 0.0' in text
    assert "mta_front_limits_mode_changes_total{" not in text
    events.limits_mode("degraded", "gone")
    assert 'mta_front_limits_mode{mode="shared"} 0.0' in generate_latest(registry).decode()


def test_labels_are_bounded(tmp_path: Path) -> None:
    """Reply codes come from hooks, that is from anywhere."""
    events = [("message_refused", ["mx", code, {}]) for code in range(LABEL_SETS + 50)]
    in_a_process(tmp_path, 0, events)
    found = {key: value for key, value in samples(scrape(tmp_path)).items() if key[0].endswith("refused_total")}
    assert len(found) == LABEL_SETS + 1
    assert found["mta_front_messages_refused_total", "other", "other"] == 50


def test_what_the_master_knows_is_there_too(tmp_path: Path) -> None:
    found = samples(scrape(tmp_path, STATUS))
    assert found["mta_front_restarts_total", "worker"] == 4
    assert found["mta_front_restarts_total", "store"] == 1
    assert found["mta_front_processes", "worker"] == 1
    assert found["mta_front_embedded_store_up",] == 1
    assert found["mta_front_draining",] == 0
    assert samples(scrape(tmp_path, STATUS | {"state": "draining"}))["mta_front_draining",] == 1


def test_a_file_that_is_just_being_made_spoils_no_scrape(tmp_path: Path) -> None:
    (tmp_path / "counter_5.db").touch()
    in_a_process(tmp_path, 0, [("session_opened", ["mx"])])
    assert samples(scrape(tmp_path))["mta_front_sessions_opened_total", "mx"] == 1


def test_names_and_help_are_as_prometheus_wants_them(tmp_path: Path) -> None:
    in_a_process(tmp_path, 0, EVERY_EVENT)
    text = scrape(tmp_path, STATUS)
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_every_metric_has_a_sentence_and_our_prefix() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    registry.register(_Fixed())
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert family.name.startswith("mta_front_")
        assert family.documentation.endswith(".")


def test_what_a_message_costs_in_metrics(tmp_path: Path) -> None:
    """A budget of 8 µs; the bound here is loose, for machines that are slower or busy."""
    argv = python("-c", TIMER, str(tmp_path))
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=clean_environment(), timeout=60)
    assert float(done.stdout) < 30e-6


class _Fixed(Collector):
    def collect(self) -> Any:
        return of_master(STATUS)
