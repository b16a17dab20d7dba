"""HUP: everything is replaced and nobody notices, or nothing is touched and one line says why."""

from __future__ import annotations

import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

from tests import settingsfile
from tests.master.driven import Driven
from tests.master.knocking import Knocking
from tests.ports import free_port
from tests.wait import until


def children(front: Driven) -> dict[tuple[str, int], int]:
    """The pid in each place."""
    return {(row["kind"], row["index"]): row["pid"] for row in front.status()["children"]}


def rewrite(front: Driven, **sections: Any) -> None:
    """Change the settings file: keys of sections, or the whole list of listeners."""
    tree = dict(front.settings)
    for name, section in sections.items():
        tree[name] = section if isinstance(section, list) else {**tree.get(name, {}), **section}
    settingsfile.write(front.file, tree)


def refusal(front: Driven, count: int = 1) -> str:
    return str(front.await_event("reload refused: all stays as it was", count=count)["reason"])


def test_everything_is_replaced_and_nobody_is_refused(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 2}).start()
    before = children(front)
    with Knocking(front.address) as knocking:
        front.signal(signal.SIGHUP)
        front.await_event("reloaded", timeout_s=30.0)
    assert knocking.failures == []
    assert knocking.answered > 20
    assert set(children(front)) == set(before)
    assert not set(children(front).values()) & set(before.values()), "workers, relay and admin are others"
    until(lambda: front.status().get("leaving") == [], message="the old ones have drained")
    assert front.status()["restarts"] == {"admin": 0, "worker": 0, "relay": 0, "store": 0}
    assert front.terminate() == 0


def test_readiness_does_not_waver(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 1}).start()
    front.signal(signal.SIGHUP)
    while "reloaded" not in front.events():
        code, text = front.get("/readyz")
        assert code == 200, text
    assert front.get("/readyz")[0] == 200


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"server": {"wrokers": 3}}, "server.wrokers: unknown key; did you mean server.workers?"),
    ({"hooks": {"class": "nowhere.at_all:Hooks"}}, "No module named 'nowhere'"),
    ({"tls": {"cert": "/nowhere/cert.pem", "key": "/nowhere/key.pem"}}, "/nowhere/cert.pem"),
    ({"server": {"data_dir": "/tmp/elsewhere"}}, "only a restart can change server.data_dir"),
    ({"store": {"url": "redis://127.0.0.1:1"}}, "only a restart can change store.url"),
    ({"server": {"workers": 9}}, "server.workers = 9 is more than the 4 that there are sockets for"),
    ({"listeners": []}, "listeners: there is none; add [[listeners]]"),
]


def test_a_fault_keeps_everything_as_it_was(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 2}).start()
    before = children(front)
    for count, (sections, why) in enumerate(FAULTS, 1):
        rewrite(front, **sections)
        front.signal(signal.SIGHUP)
        assert why in refusal(front, count)
        assert children(front) == before
        front.ask()
    settingsfile.write(front.file, front.settings)
    front.signal(signal.SIGHUP)
    front.await_event("reloaded")


def test_a_file_that_is_no_settings_file_changes_nothing(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 1}).start()
    front.file.write_bytes(b"\xff\xfe[[[")
    front.signal(signal.SIGHUP)
    refusal(front)
    front.file.unlink()
    front.signal(signal.SIGHUP)
    assert "mta-front.toml" in refusal(front, count=2)
    front.ask()


def test_new_processes_that_cannot_boot_change_nothing(tmp_path: Path) -> None:
    """What no check foresees: a module that fails when the worker loads it, a limit of processes."""
    front = Driven(tmp_path, {"worker": {"role": "until_worn", "lives": 2}}, server={"workers": 2}).start()
    before = children(front)
    with Knocking(front.address) as knocking:
        front.signal(signal.SIGHUP)
        assert "cannot start: ImportError" in refusal(front)
    assert knocking.failures == []
    assert children(front) == before


def test_a_port_that_somebody_has_changes_nothing(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 1}).start()
    before = children(front)
    with socket.create_server(("127.0.0.1", free_port())) as theirs:
        bind = f"127.0.0.1:{theirs.getsockname()[1]}"
        listener = {**front.settings["listeners"][0]}
        rewrite(front, listeners=[listener, {**listener, "name": "other", "bind": [bind]}])
        front.signal(signal.SIGHUP)
        assert f"cannot bind {bind}: in use by" in refusal(front)
    assert children(front) == before


def test_listeners_come_and_go(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 2}).start()
    first = front.settings["listeners"][0]
    added = {**first, "name": "added", "bind": [f"127.0.0.1:{free_port()}", f"unix:{tmp_path}/mx.sock"]}
    port = int(added["bind"][0].rpartition(":")[2])
    with Knocking(front.address) as knocking:
        rewrite(front, listeners=[first, added])
        front.signal(signal.SIGHUP)
        front.await_event("reloaded")
        with socket.create_connection(("127.0.0.1", port), timeout=5.0) as client:
            assert client.recv(100)
    assert knocking.failures == []
    with Knocking(("127.0.0.1", port)) as knocking:
        rewrite(front, listeners=[added])
        front.signal(signal.SIGHUP)
        front.await_event("reloaded", count=2)
    assert knocking.failures == []
    until(lambda: not accepts(front.address), message="the old port is closed")
    assert not accepts(front.address)
    assert (tmp_path / "mx.sock").is_socket()
    assert [each["name"] for each in front.status()["listeners"]] == ["added", "added"]


def accepts(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1.0).close()
    except ConnectionRefusedError:
        return False
    return True


def test_the_number_of_workers_and_relays_is_what_the_file_says(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 2, "max_workers": 4}).start()
    for count, (workers, relays) in enumerate(((4, 0), (1, 2)), 1):
        rewrite(front, server={"workers": workers}, relay={"workers": relays})
        with Knocking(front.address) as knocking:
            front.signal(signal.SIGHUP)
            front.await_event("reloaded", count=count, timeout_s=20.0)
            until(partial(has_places, front, workers + relays + 1), 20.0, "so many places")
        assert knocking.failures == []
        assert sorted(children(front)) == sorted(
            [("admin", 0), *(("worker", n) for n in range(workers)), *(("relay", n) for n in range(relays))]
        )


def has_places(front: Driven, count: int) -> bool:
    return len(children(front)) == count


def test_ttin_and_ttou_and_back_by_hup(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 2, "max_workers": 3}).start()

    def workers() -> int:
        return sum(row["kind"] == "worker" for row in front.status().get("children", []))

    with Knocking(front.address) as knocking:
        front.signal(signal.SIGTTIN)
        until(lambda: workers() == 3, message="a worker more")
        until(lambda: front.ask()[0] == 2, message="it serves")
        front.signal(signal.SIGTTIN)
        assert front.await_event("signal ignored")["reason"] == "there are sockets for 3 workers"
        for number in (1, 2):
            front.signal(signal.SIGTTOU)
            front.await_event("a worker fewer", count=number)
        front.signal(signal.SIGTTOU)
        assert front.await_event("signal ignored", count=2)["reason"] == "one worker stays"
        until(lambda: workers() == 1, message="one is left")
        assert {front.ask()[0] for _ in range(30)} == {0}
        front.signal(signal.SIGHUP)
        front.await_event("reloaded")
        until(lambda: workers() == 2, message="as many as the settings say")
    assert knocking.failures == []


def test_a_reload_waits_for_slow_sessions_of_the_old_workers_and_nobody_else_does(tmp_path: Path) -> None:
    front = Driven(tmp_path, {"worker": {"drain_s": 3.0}}, server={"workers": 1}).start()
    _, old = front.ask()
    front.signal(signal.SIGHUP)
    front.await_event("reloaded")
    until(lambda: front.ask()[1] != old, 2.0, "the new one answers")
    assert [row["pid"] for row in front.status()["leaving"] if row["kind"] == "worker"] == [old]
    until(lambda: front.status()["leaving"] == [], 6.0, "it ends")


def test_who_does_not_drain_in_time_is_killed(tmp_path: Path) -> None:
    plan = {"worker": {"never_ends": True}}
    front = Driven(tmp_path, plan, server={"workers": 1, "drain_timeout_s": 0.5}).start()
    _, old = front.ask()
    front.signal(signal.SIGHUP)
    assert front.await_event("worker killed")["reason"] == "did not end in time"
    assert front.await_event("worker killed")["pid"] == old
    assert front.ask()[1] != old


def test_term_during_a_reload_ends_everything(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 2}).start()
    front.signal(signal.SIGHUP)
    front.await_event("worker started", count=3)
    front.signal(signal.SIGTERM)
    assert front.wait() == 0
    front.assert_all_ended()


def test_many_hups_at_once_are_few_reloads(tmp_path: Path) -> None:
    front = Driven(tmp_path, server={"workers": 1}).start()
    front.signal(signal.SIGHUP)
    front.await_event("reloading")
    for _ in range(20):
        front.signal(signal.SIGHUP)
    front.await_event("reloaded", count=2)
    until(lambda: front.status().get("leaving") == [], message="all is done")
    assert front.events().count("reloading") == 2
    assert not front.status()["reloading"]
