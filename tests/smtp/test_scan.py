"""What finds a bare CR or LF, with StringZilla and without it."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta_front.smtp import scan

BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def without_stringzilla() -> ModuleType:
    """The module as it is where StringZilla is not installed."""
    found = importlib.util.spec_from_file_location("scan_of_bytes", scan.__file__)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "stringzilla", None)
        found.loader.exec_module(module)
    return module


SCANS = [pytest.param(scan, id="stringzilla"), pytest.param(without_stringzilla(), id="bytes")]

text = st.one_of(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b"xx" * 40])).map(b"".join), st.binary(max_size=200)
).filter(bool)


@pytest.mark.parametrize("module", SCANS)
@given(data=text)
def test_a_bare_newline_is_found_wherever_it_is(module: ModuleType, data: bytes) -> None:
    assert module.has_bare_newline(data) is bool(BARE.search(data))


@pytest.mark.parametrize("module", SCANS)
@pytest.mark.parametrize("at", [0, 1, 63, 64, 65535, 65536, 70000])
@pytest.mark.parametrize("newline", [b"\r", b"\n", b"\n\r"])
def test_a_single_one_in_much_text(module: ModuleType, at: int, newline: bytes) -> None:
    data = b"x" * 80000
    assert not module.has_bare_newline(data)
    assert module.has_bare_newline(data[:at] + newline + data[at:])
    assert not module.has_bare_newline(data[:at] + b"\r\n" + data[at:])
