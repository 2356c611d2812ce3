"""`streamer model train` reads what `streamer replay` writes, however large it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from models.bundle import default_bundle
from schemas.click import Session
from streamer import sample
from streamer.cli.recipe import Recipe, sessions_to_learn_from, training_pipeline
from streamer.core.rules import SessionRules
from streamer.errors import UsageError
from streamer.replay.file_source import sessions_of_file
from streamer.replay.options import ReplayOptions
from streamer.replay.rows import training_sessions
from streamer.replay.run import replay
from streamer.replay.time_range import TimeRange
from streamer.settings import load_settings
from tests.replay.log import as_set

SETTINGS = load_settings(environ={})


def renamed_bundle(folder: Path) -> Path:
    """The default bundle under another name: the same results, another model_version."""
    shutil.copytree(default_bundle(), folder)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest | {"name": "other"}))
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the sample, scored by two bundles: every session twice in the file."""
    folder = tmp_path_factory.mktemp("rows")
    out = folder / "sessions.parquet"
    bundles = [default_bundle(), renamed_bundle(folder / "other")]
    options = ReplayOptions(TimeRange(), str(sample.path()), tuple(bundles), str(out), 0, 1)
    replay(SETTINGS, options, lambda _, __: None)
    return out


def test_the_sessions_are_those_of_the_clicks_without_bots(rows: Path) -> None:
    expected = [s for s in sessions_of_file(sample.path(), SessionRules()).sessions if not s.is_bot]
    found = list(training_sessions(rows).sessions)
    assert as_set(found) == as_set(expected)


def test_too_many_sessions_are_cut_down_to_whole_visitors_always_the_same(rows: Path) -> None:
    everything = list(training_sessions(rows).sessions)
    some = list(training_sessions(rows, most=200).sessions)
    assert 100 < len(some) <= 200
    assert some == list(training_sessions(rows, most=200).sessions)
    chosen = {session.visitor_id for session in some}
    assert some == [session for session in everything if session.visitor_id in chosen]


def test_a_training_run_takes_a_replays_file(rows: Path, tmp_path: Path) -> None:
    recipe = Recipe.of(rows, seed=1, epochs=1, name="x")
    shop = training_pipeline(recipe, tmp_path, SETTINGS, lambda *_: None)
    taken: list[Session] = [session for split in shop.sessions.values() for session in split]
    assert as_set(taken) == as_set(training_sessions(rows).sessions)


def test_a_cut_is_reported(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = len(list(sessions_to_learn_from(rows, 200)))
    in_all = len(list(sessions_to_learn_from(rows)))
    assert capsys.readouterr().err.splitlines() == [
        f"{rows}: {taken} of {in_all} sessions are taken, all of visitors chosen by a hash; 200 at most,"
        " for they are held in memory"
    ]


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"visitor_id": ["a"]}), path)
    with pytest.raises(UsageError, match="expected what `streamer replay` writes"):
        training_sessions(path)


def test_a_bundle_that_is_named_twice_is_a_wrong_call(tmp_path: Path) -> None:
    options = ReplayOptions(TimeRange(), str(sample.path()), (default_bundle(), default_bundle()), None, 0, 1)
    with pytest.raises(UsageError, match="named twice"):
        replay(SETTINGS, options, lambda _, __: None)
