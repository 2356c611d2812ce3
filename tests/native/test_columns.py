"""Cells of rows: what is compiled finds what Python finds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.native import columns


def in_python() -> ModuleType:
    """The module as plain Python, whichever build runs."""
    path = Path(__file__).parents[2] / "streamer/native/columns.py"
    spec = importlib.util.spec_from_file_location("columns_in_python", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PYTHON = in_python().Columns(4, [1, 3])
COMPILED = columns.Columns(4, [1, 3])


def test_the_wanted_cells_come_and_an_empty_one() -> None:
    assert COMPILED.read(b"a\tb\tc\td\r\n") == ("b", "d", "")
    assert COMPILED.read(b"\t\t\t") == ("", "", "")


def test_a_row_of_another_number_of_cells_is_none() -> None:
    assert COMPILED.read(b"a\tb\tc") is None
    assert COMPILED.read(b"a\tb\tc\td\te") is None
    assert COMPILED.read(b"") is None


def test_a_wanted_cell_has_to_be_utf_8() -> None:
    with pytest.raises(UnicodeDecodeError):
        COMPILED.read(b"a\t\xff\tc\td")
    assert COMPILED.read(b"\xff\tb\tc\td") == ("b", "d", "")


@given(st.binary(max_size=4) | st.lists(st.sampled_from([b"\t", b"x", "é".encode(), b"\n", b"\r", b"\xff"])))
def test_both_builds_agree(parts: bytes | list[bytes]) -> None:
    row = parts if isinstance(parts, bytes) else b"".join(parts)
    assert _read(PYTHON, row) == _read(COMPILED, row)


def _read(reader: columns.Columns, row: bytes) -> object:
    try:
        return reader.read(row)
    except UnicodeDecodeError:
        return "invalid"
