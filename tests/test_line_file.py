"""Lines of files as people have them: packed, with byte order marks, damaged, very long, or pipes."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import os
import threading
from functools import partial
from pathlib import Path

import pytest

from streamer.core.rules import SessionRules
from streamer.errors import UsageError
from streamer.line_file import MAX_LINE_BYTES, at_rest, lines_of
from streamer.pipeline.counters import ClickCounters
from streamer.replay.file_source import sessions_of_file

gzipped = partial(gzip.compress, mtime=0)
"""The same bytes in every process: they are names of tests."""
TWO = b'{"a": 1}\r\n{"a": 2}'


def read(path: Path) -> list[bytes]:
    return [line.rstrip() for _, line in lines_of(path, "lines")]


@pytest.mark.parametrize(
    "content",
    [
        TWO,
        TWO + b"\n",
        codecs.BOM_UTF8 + TWO,
        TWO[:10] + codecs.BOM_UTF8 + TWO[10:],
        gzipped(TWO),
        gzipped(codecs.BOM_UTF8 + TWO),
        gzipped(TWO[:13]) + gzipped(TWO[13:]),
        gzipped(TWO) + bytes(512),
        bz2.compress(TWO[:13]) + bz2.compress(TWO[13:]),
        lzma.compress(TWO[:13]) + lzma.compress(TWO[13:]),
    ],
)
def test_lines_are_the_same_however_the_file_is_packed_and_begun(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clicks"
    path.write_bytes(content)
    assert read(path) == [b'{"a": 1}', b'{"a": 2}']


@pytest.mark.parametrize("content", [b"", gzipped(b""), codecs.BOM_UTF8])
def test_an_empty_file_has_no_lines(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty"
    path.write_bytes(content)
    assert read(path) == []


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x28\xb5\x2f\xfd\x04\x00", "packed with zstd"),
        (b"\x04\x22\x4d\x18\x64", "packed with lz4"),
        (b"PK\x03\x04\x14", "a zip archive"),
        (b"PAR1\x15", "parquet"),
        (b"Obj\x01\x04", "an Avro file"),
        ("{}".encode("utf-16"), "UTF-16"),
        ("{}".encode("utf-16-le"), "UTF-16"),
        ("{}".encode("utf-16-be"), "UTF-16"),
        (gzipped("{}".encode("utf-16")), "UTF-16"),
    ],
)
def test_what_is_no_text_is_refused_by_name(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "clicks"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"clicks: is {what}; expected lines in UTF-8, plain or packed with"):
        read(path)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_file_that_is_cut_off_is_an_error(tmp_path: Path, pack: type[bytes]) -> None:
    path = tmp_path / "cut"
    path.write_bytes(pack(TWO * 100)[:-5])
    with pytest.raises(UsageError, match=r"cut: cannot be read \(damaged or cut off\); expected lines"):
        read(path)


def test_a_line_without_an_end_is_held_as_far_as_any_click_may_reach(tmp_path: Path) -> None:
    path = tmp_path / "clicks.jsonl"
    longest = b"x" * MAX_LINE_BYTES
    lines = [b"a", longest[1:], longest, longest * 2 + b"y", b" ", b"b"]
    path.write_bytes(gzip.compress(b"\n".join(lines), 1))
    found = {number: line.rstrip(b"\n") for number, line in lines_of(path, "lines")}
    assert found == {1: b"a", 2: longest[1:], 3: longest, 4: longest, 6: b"b"}
    expected = ClickCounters(received=5, dead_lettered=5)
    assert sessions_of_file(path, SessionRules()) == ([], expected)


def written_by_another(path: Path, content: bytes) -> None:
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(content,), daemon=True).start()


@pytest.mark.parametrize("content", [TWO, gzipped(TWO)])
def test_a_pipe_named_as_a_file_is_read(tmp_path: Path, content: bytes) -> None:
    pipe = tmp_path / "pipe"
    written_by_another(pipe, content)
    assert read(pipe) == [b'{"a": 1}', b'{"a": 2}']


def test_a_pipe_that_is_needed_several_times_is_copied_for_that_long(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    written_by_another(pipe, TWO)
    with at_rest(pipe) as copy:
        assert read(copy) == read(copy) == [b'{"a": 1}', b'{"a": 2}']
    assert not copy.exists()


def test_a_file_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "clicks"
    path.write_bytes(TWO)
    with at_rest(path) as same:
        assert same == path
