"""Real Sentinels and Clusters for tests: every server is a `Store`, so all of it is ended and reaped after the test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from mta_front.store.topology import slot_of
from tests.ports import free_port
from tests.processes import Program
from tests.store.parts import until  # greenlets run meanwhile
from tests.stores import Store, binary

MASTER = "mail"
REPLICATED = {"repl_diskless_sync_delay": "0", "repl_ping_replica_period": "1", "repl_timeout": "10"}
HOST = "127.0.0.1"


class Sentinel(Program):
    """One Sentinel of the master `mail`."""

    def __init__(self, directory: Path, monitored: int, **settings: str) -> None:
        """`settings`: further lines, `_` for `-`, e.g. `requirepass="x"`; `sentinel_…` becomes `sentinel … mail`."""
        directory.mkdir(parents=True)
        self.port = free_port()
        self.password = settings.get("requirepass", "")
        config = directory / "sentinel.conf"
        lines = {"port": str(self.port), "bind": HOST, "dir": str(directory)}
        lines |= {name.replace("_", "-"): value for name, value in settings.items() if not name.startswith("sentinel_")}
        rules = {"down-after-milliseconds": "1000", "failover-timeout": "3000", "parallel-syncs": "2"}
        rules |= {
            name.removeprefix("sentinel_").replace("_", "-"): value
            for name, value in settings.items()
            if name.startswith("sentinel_")
        }
        text = "".join(f"{name} {value}\n" for name, value in lines.items())
        text += f"sentinel monitor {MASTER} {HOST} {monitored} 2\n"
        text += "".join(f"sentinel {name} {MASTER} {value}\n" for name, value in rules.items())
        config.write_text(text)
        super().__init__([binary("redis"), str(config), "--sentinel"], directory / "sentinel.log", directory)

    def ask(self, *command: Any) -> Any:
        """One command, the plain reply."""
        return asked(self.port, *command, password=self.password)

    def knows(self, sentinels: int, replicas: int) -> bool:
        """Whether it has found the others."""
        with contextlib.suppress(redis.ConnectionError):
            words = self.ask("SENTINEL", "MASTER", MASTER)
            told = dict(zip(words[::2], words[1::2], strict=True))
            return (int(told[b"num-other-sentinels"]), int(told[b"num-slaves"])) == (sentinels - 1, replicas)
        return False


class Trio:
    """A master with replicas, and three Sentinels."""

    def __init__(self, directory: Path, replicas: int = 1, kind: str = "redis") -> None:
        self.stores = [
            Store(kind, directory / f"store-{number}", port=free_port(), **REPLICATED).start()
            for number in range(replicas + 1)
        ]
        master = self.stores[0]
        for store in self.stores[1:]:
            store.ask("REPLICAOF", HOST, master.port)
        until(lambda: in_step(master, replicas), 10.0, "replicas to follow")
        self.sentinels = [Sentinel(directory / f"sentinel-{number}", master.port).start() for number in range(3)]
        until(lambda: all(each.knows(3, replicas) for each in self.sentinels), 15.0, "Sentinels to find each other")

    @property
    def url(self) -> str:
        """For `[store] url`."""
        return f"redis+sentinel://{','.join(f'{HOST}:{each.port}' for each in self.sentinels)}/{MASTER}"

    def named(self) -> int:
        """The port of the master that most Sentinels name."""
        ports = [int(each.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1]) for each in self.sentinels]
        return max(set(ports), key=ports.count)

    def master(self) -> Store:
        """The store that they name."""
        port = self.named()
        return next(store for store in self.stores if store.port == port)

    def await_master(self, old: Store, timeout_s: float = 15.0) -> Store:
        """Wait until another one than `old` is the master and has taken its role."""

        def other() -> bool:
            store = self.master()
            return store is not old and bool(store.ask("ROLE")[0] == b"master")

        until(other, timeout_s, "a fail-over")
        return self.master()


class Cluster:
    """Three masters, each with a replica unless told otherwise."""

    def __init__(self, directory: Path, replicas: int = 1, kind: str = "redis", **settings: str) -> None:
        wanted = {"cluster_enabled": "yes", "cluster_node_timeout": "1000"} | REPLICATED | settings
        self.nodes = [
            Store(kind, directory / f"node-{number}", port=free_port(), cluster_port=str(free_port()), **wanted).start()
            for number in range(3 * (replicas + 1))
        ]
        bounds = [0, 5461, 10_923, 16_384]
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < 3:
                node.ask("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        first = self.nodes[0]
        bus = int(first.ask("CONFIG", "GET", "cluster-port")[1])
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", HOST, first.port, bus)
        until(lambda: all(self._known(node) == len(self.nodes) for node in self.nodes), 15.0, "nodes to meet")
        for number, node in enumerate(self.nodes[3:]):
            node.ask("CLUSTER", "REPLICATE", self.id_of(self.nodes[number % 3]))
        until(lambda: all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes), 15.0, "a Cluster")
        until(lambda: all(in_step(node, replicas) for node in self.nodes[:3]), 15.0, "replicas to follow")

    @property
    def url(self) -> str:
        """For `[store] url`."""
        return f"redis+cluster://{','.join(f'{HOST}:{node.port}' for node in self.nodes[:3])}"

    def running(self) -> Iterator[Store]:
        """The nodes that live."""
        return (node for node in self.nodes if node.running())

    def id_of(self, node: Store) -> str:
        """Its name in the Cluster."""
        return str(node.ask("CLUSTER", "MYID").decode())

    def owner(self, tag: str) -> Store:
        """The master that serves the tag's slot, by its own word."""
        slot = slot_of(tag)

        def claims(node: Store) -> bool:
            if node.ask("ROLE")[0] != b"master":
                return False
            own = node.port
            return any(
                first <= slot <= last and int(of[1]) == own for first, last, of, *_ in node.ask("CLUSTER", "SLOTS")
            )

        return next(node for node in self.running() if claims(node))

    def await_owner(self, tag: str, old: Store, timeout_s: float = 20.0) -> None:
        """Wait until another one than `old` serves the tag."""

        def other() -> bool:
            with contextlib.suppress(StopIteration):
                return self.owner(tag) is not old
            return False

        until(other, timeout_s, "a fail-over")

    def move(self, tag: str, to: Store, one_by_one: Any = None) -> None:
        """Move the tag's slot, key by key, as redis-cli does. `one_by_one()` is called between any two steps."""
        slot, source = slot_of(tag), self.owner(tag)
        step = one_by_one or (lambda: None)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))
        step()
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.ask("MIGRATE", HOST, to.port, "", 0, 5000, "KEYS", *keys)
            step()
        for node in (to, source, *(each for each in self.nodes[:3] if each not in (to, source))):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))
            step()

    def _known(self, node: Store) -> int:
        lines = node.ask("CLUSTER", "NODES").decode().splitlines()
        return sum("handshake" not in line and "fail" not in line and "connected" in line for line in lines)


def in_step(master: Store, replicas: int) -> bool:
    """Whether so many replicas follow this master."""
    return len(master.ask("ROLE")[2]) == replicas


def asked(port: int, *command: Any, password: str = "", **how: Any) -> Any:
    """One command to a port, the plain reply."""
    with redis.Redis(host=HOST, port=port, password=password or None, socket_timeout=5.0, protocol=2, **how) as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()
