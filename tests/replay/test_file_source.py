"""Files as the source: clicks or a dumped log, JSON lines or parquet; the same sessions from each."""

from __future__ import annotations

import asyncio
import base64
import gzip
import random
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.core.rules import SessionRules
from streamer.errors import UsageError
from streamer.pipeline.decode import Arrived, ClickDecoder
from streamer.replay.file_source import FileSource
from streamer.replay.options import ReplayOptions, bundles_of, time_range_of
from streamer.replay.partition_replay import PartitionReplay
from streamer.replay.plan import ReplayConfig
from streamer.replay.rows import sessions_of_rows
from streamer.replay.run import replay
from streamer.replay.sources import LogRecord
from streamer.replay.time_range import TimeRange
from streamer.schemas.click import Session
from streamer.settings import load_settings
from tests.oracle import expected_sessions
from tests.replay.log import BEGIN_MS, TOPIC, WHOLE_PARTITION, Live, as_set, hours_of_clicks
from tests.worker.live import some_clicks

SETTINGS = load_settings(overrides={"emit.on_login": False}, environ={})
"""As what these tests call live: no provisional records."""
RULES = SessionRules()


def options(source: Path, out: Path | None = None, time_range: TimeRange = TimeRange()) -> ReplayOptions:  # noqa: B008
    return ReplayOptions(time_range, str(source), bundles_of([], SETTINGS), out and str(out), 0, 1)


def run(source: Path, out: Path | None = None, time_range: TimeRange = TimeRange()) -> dict[str, Any]:  # noqa: B008
    return replay(SETTINGS, options(source, out, time_range), lambda _, __: None).as_dict()


def written(path: Path, clicks: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"\n".join(map(orjson.dumps, clicks)))
    return path


def dumped(path: Path, log: list[LogRecord], number: int = 0) -> Path:
    """As a tool would dump a partition; values that are no text in base64."""
    lines = []
    for record in log:
        fields: dict[str, Any] = {"partition": number, "offset": record.offset, "arrival": record.timestamp}
        value = record.value
        if value is not None and record.offset % 2:
            fields["value_base64"] = base64.b64encode(value).decode()
        else:
            fields["value"] = None if value is None else value.decode()
        lines.append(orjson.dumps(fields | {"key": "k"}))
    path.write_bytes(b"\n".join(lines))
    return path


def test_a_file_of_clicks_gives_the_sessions_of_the_oracle(tmp_path: Path) -> None:
    clicks = some_clicks(60, seed=1)
    out = tmp_path / "s.parquet"
    summary = run(written(tmp_path / "c.jsonl", clicks), out)
    sessions = list(sessions_of_rows(out))
    found = sorted((s.visitor_id, s.started_at, s.ended_at, s.event_count) for s in sessions)
    assert found == sorted(each[:4] for each in expected_sessions(clicks))
    assert summary["adds_up"]
    assert summary["rows"] == len(sessions) == summary["sessions"]["selected"]
    assert "idle" not in summary["closed_by"]


def test_json_lines_gzip_and_parquet_of_the_same_clicks_have_the_same_digests(tmp_path: Path) -> None:
    clicks = some_clicks(40, seed=2)
    plain = written(tmp_path / "c.jsonl", clicks)
    packed, table = tmp_path / "c.gz", tmp_path / "c.parquet"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    columns = pa.Table.from_pylist(clicks)
    moments = pa.array([click["timestamp"] for click in clicks], pa.timestamp("ms"))
    pq.write_table(columns.set_column(1, "timestamp", moments), table)
    digests = [run(path)["bundles"] for path in (plain, packed, table)]
    assert digests[0] == digests[1] == digests[2]


def test_a_dumped_log_is_replayed_as_the_topic_is(tmp_path: Path) -> None:
    """Ten hours of arrivals under default settings: idleness closes here as it did live."""
    log = hours_of_clicks(5)
    live = Live(RULES, random.Random(5)).run(log, 100)
    live.drain()
    out = tmp_path / "s.parquet"
    summary = run(dumped(tmp_path / "log.jsonl", log), out)
    assert as_set(sessions_of_rows(out)) == as_set(live.sessions)
    assert summary["closed_by"]["idle"] > 0
    assert summary["adds_up"]
    assert sum(summary["dead_letters"].values()) == summary["clicks"]["dead_lettered"] > 0


def test_a_stretch_of_a_dumped_log_has_what_closed_in_it(tmp_path: Path) -> None:
    log = hours_of_clicks(6)
    live = Live(RULES, random.Random(6)).run(log, 100)
    live.drain()
    time_range = TimeRange(BEGIN_MS + 3 * 3_600_000, BEGIN_MS + 6 * 3_600_000)
    out = tmp_path / "s.parquet"
    summary = run(dumped(tmp_path / "log.jsonl", log), out, time_range)
    expected = [s for s in live.sessions if time_range.holds(s.closed_at)]
    assert as_set(sessions_of_rows(out)) == as_set(expected)
    assert summary["adds_up"]


def test_a_dump_that_begins_in_mid_log_tells_what_it_cannot_know(tmp_path: Path) -> None:
    log = hours_of_clicks(7)[100:]
    summary = run(dumped(tmp_path / "log.jsonl", log))
    assert summary["sessions"]["undetermined"] > 0
    assert summary["adds_up"]


def test_partitions_of_a_dump_may_be_mixed(tmp_path: Path) -> None:
    logs = [hours_of_clicks(seed) for seed in (8, 9)]
    parts = [dumped(tmp_path / f"{n}.jsonl", log, n).read_bytes().splitlines() for n, log in enumerate(logs)]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_bytes(b"\n".join(sorted(parts[0] + parts[1], key=lambda line: orjson.loads(line)["arrival"])))
    summary = run(mixed)
    assert [each["read"] for each in summary["partitions"]] == [len(log) for log in logs]
    alone = run(dumped(tmp_path / "alone.jsonl", logs[1], 1))
    assert summary["partitions"][1]["digests"] == alone["partitions"][0]["digests"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b'{"arrival":1,"value":"x","partition":0,"offset":0}\n{"x":1}',
            "record 2 is no record of a dumped log",
        ),
        (b'{"arrival":1,"value":"x","partition":0,"offset":5}\n' * 2, "expected offsets that rise"),
        (b"\x1f\x8bnothing", "cannot be read"),
        (b"PAR1nothing", "cannot be read as parquet"),
    ],
)
def test_a_broken_file_is_refused_with_its_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        FileSource(path, SETTINGS.clicks).partitions()


def test_a_file_that_is_not_there_is_a_wrong_call_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        run(tmp_path / "none.jsonl", tmp_path / "s.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_clicks_is_dead_letters(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'nothing\n\n{"visitor_id":"v"}\n')
    summary = run(path)
    assert summary["dead_letters"] == {"decode: invalid_json": 1, "validate: missing_field:timestamp": 1}
    assert summary["clicks"]["read"] == 2
    assert summary["adds_up"]


def test_clicks_without_an_id_get_one_from_their_place_also_beside_what_is_no_click(tmp_path: Path) -> None:
    file = tmp_path / "clicks.jsonl"
    nameless = b'{"visitor_id":"v","timestamp":1795046400000,"event_type":"click"}\n'
    named = b'{"visitor_id":"v","timestamp":1795046400000,"event_type":"click","event_id":"-"}\n'
    file.write_bytes(nameless + b"no click\n" + nameless + named + named)
    clicks = run(file)["clicks"]
    assert (clicks["read"], clicks["dead_lettered"], clicks["duplicates"]) == (5, 1, 1)


def test_the_clock_of_plain_clicks_is_the_running_maximum_of_event_time(tmp_path: Path) -> None:
    clicks = some_clicks(20, seed=3)
    source = FileSource(written(tmp_path / "c.jsonl", clicks), SETTINGS.clicks)

    async def arrivals() -> list[int]:
        return [r.timestamp async for p in source.portions({0: 0}) for r in p.records]

    times = [click["timestamp"] for click in clicks]
    assert asyncio.run(arrivals()) == [max(times[: n + 1]) for n in range(len(times))]


def test_a_click_is_decoded_once_whatever_comes_of_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition decodes again what its usual way has left to it: here what is late, or there twice."""
    decoded: list[bytes | None] = []

    class Counting:
        def __init__(self, *settings: Any) -> None:
            self._decoder = ClickDecoder(*settings)

        def decode(self, value: bytes | None, arrival: int | None, fallback_id: str) -> Arrived | None:
            decoded.append(value)
            return self._decoder.decode(value, arrival, fallback_id)

    clicks = some_clicks(20, seed=4)
    late = clicks[0] | {"event_id": "late", "timestamp": clicks[0]["timestamp"] - 10**8}
    monkeypatch.setattr("streamer.sources.ClickDecoder", Counting)
    monkeypatch.setattr("streamer.sources.fit.FIRST_RECORDS", 0)  # which are looked at besides
    summary = run(written(tmp_path / "c.jsonl", [clicks[0], clicks[0], late, *clicks[1:]]))
    assert (summary["clicks"]["duplicates"], summary["clicks"]["late"]) == (1, 1)
    assert len(decoded) == len(clicks) + 2


def test_times_that_make_no_sense_are_wrong_calls() -> None:
    with pytest.raises(UsageError, match="in the future"):
        time_range_of(None, "2025-01-02", 1_000)
    with pytest.raises(UsageError, match="before --to"):
        time_range_of("2025-01-02", "2025-01-01", 10**15)
    with pytest.raises(UsageError, match="--from latest"):
        time_range_of("latest", None, 10**15)
    assert time_range_of("earliest", "2025-01-01", 10**15) == TimeRange(None, 1_735_689_600_000)


def test_a_session_on_the_bound_belongs_to_the_stretch_that_begins_there() -> None:
    time_range = TimeRange(10, 20)
    assert [time_range.holds(at) for at in (9, 10, 19, 20)] == [False, True, True, False]


def test_erased_visitors_are_left_out_and_counted() -> None:
    log = hours_of_clicks(10)
    config = ReplayConfig(TOPIC, RULES, erased={"v1": BEGIN_MS + 10**9})
    replay_of = PartitionReplay(config, WHOLE_PARTITION, ClickDecoder().decode)
    sessions: list[Session] = [*replay_of.process(log), *replay_of.drain()]
    assert "v1" not in {session.visitor_id for session in sessions}
    assert replay_of.counters.filtered > 0
    assert replay_of.counters.open() == 0
