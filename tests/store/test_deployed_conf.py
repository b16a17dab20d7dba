"""deploy/redis/redis.conf is a store that the front door trusts."""

from __future__ import annotations

from pathlib import Path

import gevent
import pytest

from mta_front.store.client import StoreOptions
from mta_front.store.spool import Spool
from tests.processes import ROOT, Program
from tests.stores import KINDS, binary
from tests.wait import until


@pytest.mark.parametrize("kind", KINDS)
def test_the_store_of_deploy_is_fit(kind: str, tmp_path: Path) -> None:
    deployed = (ROOT / "deploy/redis/redis.conf").read_text("utf-8")
    socket = tmp_path / "s"
    own = [f"dir {tmp_path}", "port 0", f"unixsocket {socket}"]
    (tmp_path / "store.conf").write_text(deployed + "\n".join(own) + "\n")
    with Program([binary(kind), str(tmp_path / "store.conf")], tmp_path / "store.log", tmp_path):
        until(socket.exists, 10.0, "the store listens")
        spool = Spool(StoreOptions(url=f"unix://{socket}"))
        spool.start()
        with gevent.Timeout(10.0):
            while not spool.answered:
                gevent.sleep(0.01)
        assert spool.fault is None
        spool.close()
