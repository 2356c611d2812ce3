"""`streamer init`: files that load as what was asked for."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer import sample
from streamer.line_file import lines_of
from streamer.settings import Settings, load_settings
from streamer.settings_file import settings_file
from tests.conftest import RunStreamer
from tests.sources.events import SEGMENT_PAGE

VALUES = {
    "kafka.client_id": st.text(min_size=1),
    "kafka.request_timeout_ms": st.integers(1000, 10**6),
    "session.gap_s": st.floats(0.001, 1e6),
    "session.end_events": st.lists(st.text()),
    "emit.memberships": st.booleans(),
    "emit.reasons": st.booleans(),
    "clicks.visitor_from": st.just("user_id"),
    "sink.redis.prefix": st.just("other:"),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
@example({"kafka.client_id": "\x7f"})
def test_a_settings_file_loads_as_its_values_and_defaults_else(values: dict[str, Any]) -> None:
    document = tomllib.loads(settings_file(values))
    stores = {f"sink.{name}": document["sink"].pop(name) for name in ("redis", "parquet", "iceberg")}
    sections = (document | stores).items()
    assert {f"{section}.{key}": value for section, keys in sections for key, value in keys.items()} == values


def test_nothing_is_set_that_was_not_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text(settings_file({}))
    assert load_settings(file, environ={}) == Settings()


def test_a_setting_that_is_not_there_has_no_place() -> None:
    with pytest.raises(KeyError, match=r"session\.gap"):
        settings_file({"session.gap": 1})


def test_values_of_the_command_line_are_checked_and_written(
    run_streamer: RunStreamer, tmp_path: Path
) -> None:
    done = run_streamer(
        *("--set", "kafka.bootstrap_servers=b:1, c:2", "--set", "session.end_events=logout,exit"),
        *("--set", "kafka.sasl_password_file=/dev/null", "init", "bank"),
    )
    assert done.returncode == 0, done.stderr
    assert "streamer --config bank/streamer.toml topics create" in done.stderr
    kafka, session = (
        tomllib.loads((tmp_path / "bank/streamer.toml").read_text())[name] for name in ("kafka", "session")
    )
    assert kafka == {"bootstrap_servers": "b:1,c:2", "sasl_password_file": "/dev/null"}
    assert session == {"end_events": ["logout", "exit"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "session.gap_s=soon", "init"], "session.gap_s = "),
        (["--set", "kafka.sasl_password=hunter2", "init"], "a secret is named as kafka.sasl_password_file"),
        (["init", "s3://bucket/bank"], "expected a file of this machine"),
        (["init", "--sample", "none.jsonl"], "none.jsonl"),
    ],
)
def test_bad_calls_write_nothing(
    run_streamer: RunStreamer, tmp_path: Path, options: list[str], message: str
) -> None:
    done = run_streamer(*options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "hunter2" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_files_that_exist_stay_as_they_are(run_streamer: RunStreamer, tmp_path: Path) -> None:
    (tmp_path / "streamer.toml").write_text("[session]\n")
    done = run_streamer("init")
    assert done.returncode == 2
    assert "streamer.toml exists" in done.stderr
    assert (tmp_path / "streamer.toml").read_text() == "[session]\n"


def clicks() -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for _, line in zip(range(20), (line for _, line in lines_of(sample.path(), "")), strict=False)
    ]


@pytest.mark.parametrize(
    ("records", "source"),
    [
        (clicks(), "native"),
        ([SEGMENT_PAGE] * 20, "segment"),
        ([{"who": "v", "at": 1, "what": "page"}] * 20, "mapping.toml"),
    ],
)
def test_the_source_is_what_reads_the_sample(
    run_streamer: RunStreamer, tmp_path: Path, records: list[dict[str, Any]], source: str
) -> None:
    (tmp_path / "sample.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    done = run_streamer("init", "--sample", "sample.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    files = ["mapping.toml"] * (source == "mapping.toml") + ["streamer.toml"]
    assert json.loads(done.stdout) == {"files": files, "source": source}
    settings = tomllib.loads((tmp_path / "streamer.toml").read_text())
    assert settings["clicks"] == {"source": source}
    assert all((tmp_path / file).is_file() for file in files)
