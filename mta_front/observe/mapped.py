"""The value behind each metric child: a float in a memory-mapped file that the admin process reads at a scrape.

Does what `prometheus_client.values.MultiProcessValue` does, on the same files and format, but without a lock and
without asking for the process's identity at each write: a process main writes its metrics from one thread, and its lane
never changes. That takes an increment from 1.0 to 0.4 µs, and a message makes several.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key


def mapped_values(directory: str, lane: int) -> type:
    """The class that `prometheus_client.values.ValueClass` is to be in the process that holds `lane`.

    One file per kind of metric, `KIND_LANE.db` (gauges: `gauge_MODE_LANE.db`), as the multiprocess collector expects.
    """
    files: dict[str, Any] = {}  # MmapedDict: its methods bear no types

    class LaneValue:
        """One float. The methods are what prometheus_client's metrics call."""

        _multiprocess = True
        __slots__ = ("_file", "_key", "_value")

        def __init__(
            self,
            typ: str,
            metric_name: str,
            name: str,
            labelnames: Sequence[str],
            labelvalues: Sequence[str],
            help_text: str,
            multiprocess_mode: str = "",
            **_: Any,
        ) -> None:
            prefix = f"gauge_{multiprocess_mode}" if typ == "gauge" else typ
            if prefix not in files:
                files[prefix] = MmapedDict(str(Path(directory, f"{prefix}_{lane}.db")))  # type: ignore[no-untyped-call]
            self._file: Any = files[prefix]
            self._key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text)
            self._value: float = self._file.read_value(self._key)[0]

        def inc(self, amount: float) -> None:
            self._value += amount
            self._file.write_value(self._key, self._value, 0.0)

        def set(self, value: float, timestamp: float | None = None) -> None:
            self._value = value
            self._file.write_value(self._key, value, timestamp or 0.0)

        def get(self) -> float:
            return self._value

        def set_exemplar(self, exemplar: Any) -> None:
            """The files have no room for exemplars."""

        def get_exemplar(self) -> None:
            return None

    return LaneValue
