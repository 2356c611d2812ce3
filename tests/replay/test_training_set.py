"""`streamer model train` reads what `streamer replay` writes, however large it is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from streamer import sample
from streamer.cli.recipe import Recipe, sessions_to_learn_from, training_pipeline
from streamer.core.rules import SessionRules
from streamer.errors import UsageError
from streamer.line_file import lines_of
from streamer.models.bundle import default_bundle
from streamer.models.visitor_splits import split_of
from streamer.replay.file_source import sessions_of_file
from streamer.replay.options import ReplayOptions
from streamer.replay.rows import sessions_of_rows
from streamer.replay.run import replay
from streamer.replay.session_sample import SessionSample
from streamer.replay.time_range import TimeRange
from streamer.schemas.click import Session
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


def sampled(rows: Path, most: int = 200_000) -> list[Session]:
    return SessionSample.from_all(sessions_of_rows(rows), most).sessions()


def test_the_sessions_are_those_of_the_clicks_without_bots(rows: Path) -> None:
    expected = [s for s in sessions_of_file(sample.path(), SessionRules()).sessions if not s.is_bot]
    assert as_set(sampled(rows)) == as_set(expected)


def test_extras_of_clicks_are_in_the_file_and_nothing_else_changes(rows: Path, tmp_path: Path) -> None:
    settings = load_settings(environ={"STREAMER_CLICKS__KEEP": "page_title,utm_source"})
    out = tmp_path / "kept.parquet"
    options = ReplayOptions(TimeRange(), str(sample.path()), (default_bundle(),), str(out), 0, 1)
    replay(settings, options, lambda _, __: None)
    kept = sampled(out)
    titles = {click.extras["page_title"] for session in kept for click in session.clicks if click.extras}
    assert len(titles) > 20
    without = [replace(s, clicks=[replace(click, extras=None) for click in s.clicks]) for s in kept]
    assert as_set(without) == as_set(sampled(rows))
    one, two = (
        pq.read_table(path, columns=["model_version", "session_id", "embedding"]) for path in (out, rows)
    )
    assert one.to_pylist() == [row for row in two.to_pylist() if not row["model_version"].startswith("other")]


def test_too_many_sessions_are_cut_down_to_whole_visitors_always_the_same(rows: Path) -> None:
    everything = sampled(rows)
    some = sampled(rows, most=200)
    assert 100 < len(some) <= 200
    assert as_set(some) == as_set(SessionSample.from_all(reversed(everything), 200).sessions())
    chosen = {session.visitor_id for session in some}
    assert some == [session for session in everything if session.visitor_id in chosen]


def test_a_sample_counts_what_it_was_given_and_what_it_has(rows: Path) -> None:
    made = SessionSample.from_all(sessions_of_rows(rows), 100)
    assert made.of == len(sampled(rows))
    assert made.taken == len(made.sessions()) <= 100


def test_a_training_run_takes_a_replays_file(rows: Path, tmp_path: Path) -> None:
    recipe = Recipe.of(rows, seed=1, epochs=1, name="x")
    shop = training_pipeline(recipe, tmp_path, SETTINGS, lambda *_: None)
    taken: list[Session] = [session for split in shop.sessions.values() for session in split]
    assert as_set(taken) == as_set(sampled(rows))


def clicks_of_sample() -> list[bytes]:
    return [line for _, line in lines_of(sample.path(), "clicks")]


def test_a_folder_of_clicks_is_one_stream(tmp_path: Path) -> None:
    lines = clicks_of_sample()
    lake = tmp_path / "lake"
    for day, some in enumerate((lines[:700], lines[700:])):
        (lake / f"day={day}").mkdir(parents=True)
        (lake / f"day={day}" / "clicks.jsonl").write_bytes(b"".join(some))
    (lake / "_SUCCESS").touch()
    recipe = Recipe.of(lake, seed=1, epochs=1, name="x")
    shop = training_pipeline(recipe, tmp_path / "work", SETTINGS, lambda *_: None)
    taken = [session for split in shop.sessions.values() for session in split]
    whole = sessions_of_file(sample.path(), SessionRules()).sessions
    assert as_set(taken) == as_set(session for session in whole if not session.is_bot)


def test_a_folder_whose_files_have_changed_is_another_input(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"".join(clicks_of_sample()))
    recipe = Recipe.of(tmp_path, seed=1, epochs=1, name="x")
    recipe.check_unchanged()
    (tmp_path / "b").rename(tmp_path / "c")
    with pytest.raises(UsageError, match="its content has changed"):
        recipe.check_unchanged()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder without files"):
        Recipe.of(tmp_path, seed=1, epochs=1, name="x")


def test_what_memory_does_not_hold_is_pretrained_on_all_the_same(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And gives the very encoder that training in memory gives."""
    for work, most in (("all", None), ("some", 200)):
        recipe = Recipe.of(rows, seed=1, epochs=1, name="x", most=most)
        shop = training_pipeline(recipe, tmp_path / work, SETTINGS, lambda *_: None)
        shop.fit()
        shop.pretrain()
    assert f"of {len(sampled(rows)):,} sessions are held in memory for labels" in capsys.readouterr().err
    assert (tmp_path / "some" / "tokens" / "shards.json").is_file()
    assert not (tmp_path / "all" / "tokens").exists()
    for name in ("tokenizer.json", "encoder.npz"):
        assert (tmp_path / "some" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


def test_a_bundle_says_how_many_sessions_it_was_pretrained_on(rows: Path, tmp_path: Path) -> None:
    recipe = Recipe.of(rows, seed=1, epochs=1, name="x", most=300)
    shop = training_pipeline(recipe, tmp_path / "work", SETTINGS, lambda *_: None)
    data = shop.run(tmp_path / "bundle", {}).data
    train = [each for each in sampled(rows) if split_of(each.visitor_id) == "train"]
    assert data["sessions"]["train"] < data["pretrained_on"] == len(train)


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
        list(sessions_of_rows(path))


def test_another_file_among_a_folders_files_is_refused_before_any_is_read(rows: Path, tmp_path: Path) -> None:
    shutil.copy(rows, tmp_path / "1.parquet")
    (tmp_path / "2.parquet").write_bytes(b"PAR1")
    recipe = Recipe.of(tmp_path, seed=1, epochs=1, name="x")
    with pytest.raises(UsageError, match=r"2\.parquet: cannot be read as parquet"):
        next(training_pipeline(recipe, tmp_path / "work", SETTINGS, lambda *_: None).source.every())


def test_a_bundle_that_is_named_twice_is_a_wrong_call(tmp_path: Path) -> None:
    options = ReplayOptions(TimeRange(), str(sample.path()), (default_bundle(), default_bundle()), None, 0, 1)
    with pytest.raises(UsageError, match="named twice"):
        replay(SETTINGS, options, lambda _, __: None)
