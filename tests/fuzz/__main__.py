"""Run one fuzz target: `python -m tests.fuzz NAME [libFuzzer options]`. `make fuzz` runs them all.

A target is a module `fuzz_NAME` here with `one_input(data)`, which raises when its invariant fails, and `SEEDS`; it
may name the octets that it takes for itself (`HEADER_BYTES`) and the words of its language (`TOKENS`).
What was found interesting is kept in tests/out/fuzz/NAME for the next run; an input that fails lies beside it.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path

import atheris

OUT = Path("tests/out/fuzz")


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["mta_front"]):
        target = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    corpus = OUT / name
    corpus.mkdir(parents=True, exist_ok=True)
    header_bytes = getattr(target, "HEADER_BYTES", 3)
    for seed in target.SEEDS:
        for header in (
            bytes(header_bytes),
            b"\x01" * header_bytes,
            (b"\x15\x00" + b"\x02" * header_bytes)[:header_bytes],
        ):
            content = header + seed
            (corpus / hashlib.sha256(content).hexdigest()).write_bytes(content)
    words = OUT / f"{name}.dict"
    words.write_text("".join(f'"{_escaped(token)}"\n' for token in getattr(target, "TOKENS", [])), "ascii")
    defaults = [
        f"-dict={words}",
        f"-artifact_prefix={OUT}/{name}-",
        "-max_len=8192",
        "-timeout=20",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *defaults, *options, str(corpus)], target.one_input)
    atheris.Fuzz()


def _escaped(token: str) -> str:
    """As libFuzzer's dictionaries want it."""
    return "".join(c if c.isprintable() and c not in '"\\' else f"\\x{ord(c):02x}" for c in token)


if __name__ == "__main__":
    main()
