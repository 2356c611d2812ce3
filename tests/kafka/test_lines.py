"""Lines come whole and in order, from plain and packed files and from pipes."""

from __future__ import annotations

import asyncio
import gzip
import os
import sys
import threading
from pathlib import Path

import pytest

from streamer.kafka.lines import Lines, LinesError
from streamer.line_file import MAX_LINE_BYTES

MANY = [b'{"n": %d, "pad": "%s"}' % (n, b"x" * (n % 700)) for n in range(10_000)]


def read(path: Path) -> list[bytes]:
    async def all_lines() -> list[bytes]:
        with Lines(str(path)) as lines:
            return [line async for chunk in lines for line in chunk]

    return asyncio.run(all_lines())


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_lines_are_whole_however_the_file_is_cut_into_chunks(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "clicks.jsonl"
    path.write_bytes(b"\n".join(MANY) + end)
    assert read(path) == MANY


def test_a_gzipped_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "clicks.jsonl"
    path.write_bytes(gzip.compress(b"\n".join(MANY)))
    assert read(path) == MANY


def test_a_line_longer_than_a_chunk_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "long"
    long = b"x" * 3_000_000
    path.write_bytes(b"a\n" + long + b"\nb")
    assert read(path) == [b"a", long, b"b"]


def test_bytes_are_kept_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(b"\xff\x00\r\n\n\x1e\x85\n")
    assert read(path) == [b"\xff\x00\r", b"", b"\x1e\x85"]


def test_a_byte_order_mark_is_no_part_of_a_line_also_where_files_were_joined(tmp_path: Path) -> None:
    path = tmp_path / "joined"
    path.write_bytes(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n\xef\xbb\xbf")
    assert read(path) == [b"one", b"two"]


@pytest.mark.parametrize("content", [b"", b"\x1f"])
def test_a_tiny_file_is_no_gzip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tiny"
    path.write_bytes(content)
    assert read(path) == [content] * bool(content)


def test_a_packed_file_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"\n".join(MANY))[:-20])
    with pytest.raises(LinesError, match=r"cut.gz: cannot be read on \(damaged or cut off\)"):
        read(path)


def test_a_packed_file_with_damage_inside_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.gz"
    packed = bytearray(gzip.compress(b"\n".join(MANY)))
    packed[40:60] = bytes(20)
    path.write_bytes(packed)
    with pytest.raises(LinesError, match=r"damaged.gz: cannot be read on"):
        read(path)


def test_a_line_without_an_end_is_kept_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        for _ in range(80):
            packed.write(bytes(1024 * 1024))
        packed.write(b"\nnext")
    first, last = read(path)
    assert MAX_LINE_BYTES <= len(first) < MAX_LINE_BYTES + 2 * 1024 * 1024
    assert last == b"next"


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LinesError, match=r"none: cannot be read \(No such file or directory\)"):
        Lines(str(tmp_path / "none"))


def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(gzip.compress(b"\n".join(MANY)),), daemon=True).start()
    assert read(pipe) == MANY


def test_waiting_for_a_silent_pipe_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()

    async def read_for_a_moment() -> None:
        with Lines("-") as lines, pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(aiter(lines)), 0.1)

    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb"):
        monkeypatch.setattr(sys, "stdin", stdin)
        asyncio.run(read_for_a_moment())  # it ends only after the thread that waits


def test_closed_standard_input_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(LinesError, match=r"-: cannot be read \(it is closed\)"):
        Lines("-")


def test_a_line_of_a_pipe_does_not_wait_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()

    async def first_then_rest() -> tuple[list[bytes], list[bytes]]:
        chunks = aiter(Lines("-"))
        os.write(writing, b"one\ntw")
        first = await anext(chunks)
        os.write(writing, b"o\n")
        os.close(writing)
        return first, await anext(chunks)

    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert asyncio.run(first_then_rest()) == ([b"one"], [b"two"])
