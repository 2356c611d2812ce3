"""A replay that is killed and run again ends with the very file, and the very topic, of one that was not."""

from __future__ import annotations

import gzip
import json
import signal
from pathlib import Path

import pytest

from streamer import sample
from streamer.errors import UsageError
from streamer.replay.journal import Journal, JournalError, PartitionCheckpoint
from streamer.replay.options import ReplayOptions, bundles_of
from streamer.replay.run import replay
from streamer.replay.time_range import TimeRange
from streamer.schemas import codec
from streamer.settings import Settings, load_settings
from tests import forks
from tests.conftest import FreshSettings, as_environment, without_settings
from tests.worker.live import as_messages, committed, make_anew, send, set_up, some_clicks

ROOT = Path(__file__).parents[2]
SETTINGS = load_settings(environ={})


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 4,000 clicks of the sample."""
    path = tmp_path_factory.mktemp("clicks") / "clicks.jsonl"
    with gzip.open(sample.path()) as lines:
        path.write_bytes(b"".join(line for _, line in zip(range(4000), lines, strict=False)))
    return path


def run(moment: str, source: str, out: str, cwd: Path, settings: Settings = SETTINGS) -> int:
    """The exit code of an armed replay that saves its state every 200 clicks."""
    program = [str(ROOT / "tests/replay/armed_replay.py"), moment, "200", source, out]
    environment = without_settings() | as_environment(settings) | {"PYTHONPATH": str(ROOT)}
    return forks.run(program, environment, cwd, timeout_s=120).returncode


def test_a_file_is_the_same_to_the_byte_however_often_it_was_killed(clicks: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    expected = replay(SETTINGS, _options(str(clicks), str(whole)), lambda _, __: None, 200).as_dict()
    for moment in ("written:1", "saved:1", "sealed:1", "written:2"):
        assert run(moment, str(clicks), str(killed), tmp_path) == -signal.SIGKILL, moment
        assert not killed.exists()
    shown: list[int] = []
    last = _options(str(clicks), str(killed))
    found = replay(SETTINGS, last, lambda done, _: shown.append(done), 200).as_dict()
    read = found["clicks"]["read"]
    assert 0 < shown[0] < shown[-1] == read
    assert found["clicks_per_s"] == pytest.approx((read - shown[0]) / found["seconds"], rel=0.01)
    for name in ("bundles", "clicks", "sessions", "closed_by", "rows", "adds_up"):
        assert found[name] == expected[name]
    suffixes = (".parquet", ".users.parquet")
    names = [path.with_suffix(suffix).name for path in (killed, whole) for suffix in suffixes]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for suffix in suffixes:
        assert killed.with_suffix(suffix).read_bytes() == whole.with_suffix(suffix).read_bytes()


def test_a_topic_has_each_record_once_however_often_it_was_killed(
    fresh_settings: FreshSettings, tmp_path: Path
) -> None:
    settings = fresh_settings({"topics.partitions": 2})
    set_up(settings)
    send(settings, as_messages(some_clicks(300, seed=31)))
    name = f"{settings.topics.clicks}-again"
    for moment in ("sealed:1", "written:1", "saved:1", "sealed:2"):
        assert run(moment, "topic", f"topic:{name}", tmp_path, settings) == -signal.SIGKILL, moment
    assert run("never:0", "topic", f"topic:{name}", tmp_path, settings) == 0
    digests = replay(settings, _options("topic", None), lambda _, __: None).as_dict()["bundles"][0]["digests"]
    found = committed(settings, name).records
    ids = [(name, record["session_id"]) for name, record in (codec.decode(r.value) for r in found)]
    assert len(set(ids)) == len(ids) == digests["embeddings"]["count"] + digests["intents"]["count"]
    live = [getattr(settings.topics, kind) for kind in ("embeddings", "intents", "visitors")]
    assert [committed(settings, topic).records for topic in live] == [[], [], []]


def test_a_folder_of_another_replay_is_refused_by_name(clicks: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    assert run("saved:1", str(clicks), str(out), tmp_path) == -signal.SIGKILL
    other = load_settings(overrides={"session.gap_s": 60}, environ={})
    with pytest.raises(UsageError, match="begun with another rules_version"):
        replay(other, _options(str(clicks), str(out)), lambda _, __: None)
    (tmp_path / "s.parquet.part" / "partition-0.state").write_bytes(b"?")
    with pytest.raises(JournalError, match="state of a replay"):
        replay(SETTINGS, _options(str(clicks), str(out)), lambda _, __: None)


def test_a_replay_whose_records_were_of_other_schemas_does_not_go_on(clicks: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    assert run("saved:1", str(clicks), str(out), tmp_path) == -signal.SIGKILL
    path = tmp_path / "s.parquet.part" / "plan.json"
    plan = json.loads(path.read_bytes())
    for older in (
        {**plan, "record_schemas": [1, 2]},
        {k: v for k, v in plan.items() if k != "record_schemas"},
    ):
        path.write_text(json.dumps(older))
        with pytest.raises(UsageError, match=r"begun with another record_schemas: (1, 2|none), now "):
            replay(SETTINGS, _options(str(clicks), str(out)), lambda _, __: None)


def test_a_replay_does_not_go_on_in_a_topic_that_was_created_again(
    fresh_settings: FreshSettings, tmp_path: Path
) -> None:
    settings, out = fresh_settings({"topics.partitions": 1}), str(tmp_path / "s.parquet")
    set_up(settings)
    send(settings, as_messages(some_clicks(100, seed=32)))
    assert run("saved:1", "topic", out, tmp_path, settings) == -signal.SIGKILL
    make_anew(settings, settings.topics.clicks)
    send(settings, as_messages(some_clicks(100, seed=33)))
    with pytest.raises(UsageError, match="begun with another topic_id"):
        replay(settings, _options("topic", out), lambda _, __: None)


def test_two_replays_to_the_same_place_are_kept_apart(clicks: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    with (
        Journal(tmp_path / "s.parquet.part").exclusively(),
        pytest.raises(JournalError, match="another replay is at work"),
    ):
        replay(SETTINGS, _options(str(clicks), str(out)), lambda _, __: None)


def test_states_are_saved_where_a_replay_can_go_on_from_them(
    clicks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody goes on with one that has no folder of its own; what it gives is the same."""
    saved = []

    async def save(self: Journal, number: int, state: PartitionCheckpoint) -> None:
        saved.append(state.done)

    monkeypatch.setattr(Journal, "save", save)
    found = replay(SETTINGS, _options(str(clicks), None), lambda _, __: None, 1000).as_dict()
    assert saved == []
    kept = replay(SETTINGS, _options(str(clicks), str(tmp_path / "s.parquet")), lambda _, __: None, 1000)
    assert saved == [False] * 4 + [True]
    assert kept.as_dict()["bundles"] == found["bundles"]


def test_a_live_topic_is_never_written_to(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 1})
    set_up(settings)
    with pytest.raises(UsageError, match="live workers use this topic"):
        replay(settings, _options("topic", f"topic:{settings.topics.intents}"), lambda _, __: None)


def _options(source: str, out: str | None) -> ReplayOptions:
    return ReplayOptions(TimeRange(), source, bundles_of([], SETTINGS), out, 0, 1)
