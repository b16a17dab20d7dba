"""Looking into the store and the limits' Redis from outside a worker: on the command line, and in the admin process.

What it imports makes connections: nothing of this may be imported by the master.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from mta_front.master import valkey
from mta_front.master.failure import CannotStart
from mta_front.settings.limitoptions import limit_options
from mta_front.store.doctor import examine
from mta_front.store.errors import StoreDown, StoreError
from mta_front.store.inspection import QueueInspector, Wanted
from mta_front.store.limits.admin import Inspector
from mta_front.store.options import StoreOptions

if TYPE_CHECKING:
    from mta_front.config import Settings
    from mta_front.store.limits.rules import LimitOptions

__all__ = ["AWAY", "Wanted", "examine", "inspector_of", "options_of", "queue_inspector"]

AWAY = (StoreError,)
"""What an inspector raises when its Redis does not do what it is asked."""


def options_of(settings: Settings, store_url: str = "") -> LimitOptions:
    """What the settings say of limits. `store_url`: as the master found it; "" = find it as the master does."""
    return limit_options(settings, StoreOptions.of(settings, store_url or settings.store.url or _embedded(settings)))


@contextmanager
def inspector_of(options: LimitOptions) -> Iterator[Inspector]:
    """An inspector on a connection of its own. Raises StoreError."""
    with closing(Inspector(options)) as inspector:
        yield inspector


@contextmanager
def queue_inspector(settings: Settings, store_url: str = "") -> Iterator[QueueInspector]:
    """An inspector of the queue; arguments as in `options_of`. Raises StoreError."""
    options = StoreOptions.of(settings, store_url or settings.store.url or _running(settings))
    with closing(QueueInspector(options)) as inspector:
        yield inspector


def _embedded(settings: Settings) -> str:
    """The store's URL, or anything where the limits have a Redis of their own."""
    return settings.limits.url or _running(settings)


def _running(settings: Settings) -> str:
    """The URL of the store that a running master has in `data_dir`."""
    directory = settings.server.data_dir.absolute() / "store"
    try:
        path = valkey.socket_path_in(directory)
    except (CannotStart, OSError) as error:
        raise StoreDown(str(error)) from None
    if not path.is_socket():
        raise StoreDown(f"{path}: {os.strerror(2)}; is the server running?")
    return valkey.url_of(path)
