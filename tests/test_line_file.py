"""Lines of a file that lies still, however long one is."""

from __future__ import annotations

import gzip
from pathlib import Path

from streamer.clickfile import decoded_clicks
from streamer.line_file import MAX_LINE_BYTES, lines_of
from streamer.pipeline.counters import ClickCounters


def test_a_line_without_an_end_is_held_as_far_as_any_click_may_reach(tmp_path: Path) -> None:
    path = tmp_path / "clicks.jsonl"
    longest = b"x" * MAX_LINE_BYTES
    lines = [b"a", longest[1:], longest, longest * 2 + b"y", b" ", b"b"]
    path.write_bytes(gzip.compress(b"\n".join(lines), 1))
    found = {number: line.rstrip(b"\n") for number, line in lines_of(path, "lines")}
    assert found == {1: b"a", 2: longest[1:], 3: longest, 4: longest, 6: b"b"}
    counters = ClickCounters()
    assert list(decoded_clicks(path, counters)) == []
    assert counters == ClickCounters(received=5, dead_lettered=5)
