"""The fuzz targets without the fuzzer: their invariants hold for their seeds, cut short, and with octets changed."""

from __future__ import annotations

import importlib
import random

import pytest

from tests.processes import ROOT

TARGETS = sorted(path.stem for path in (ROOT / "tests" / "fuzz").glob("fuzz_*.py"))


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_neighbours(name: str) -> None:
    target = importlib.import_module(f"tests.fuzz.{name}")
    chance = random.Random(1)
    for seed in target.SEEDS:
        for _ in range(60):
            header = [
                chance.choice([0, 0, 1, chance.randrange(256)]) for _ in range(getattr(target, "HEADER_BYTES", 3))
            ]
            data = bytearray(bytes(header) + seed)
            for _ in range(chance.randrange(4)):
                data[chance.randrange(len(data))] = chance.choice(b"\r\n. <>:@\x00\xff-25")
            target.one_input(bytes(data[: chance.choice([len(data), chance.randrange(len(data))])]))
