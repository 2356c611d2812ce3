"""Members of a group do together what one replay does alone, whatever becomes of some of them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streamer.core.stored_state import encode_state
from streamer.core.watermark import PartitionClock
from streamer.errors import UsageError
from streamer.kafka.topics import create_topics, declared_topics
from streamer.pipeline.counters import ClickCounters
from streamer.replay.group import replay_in_group
from streamer.replay.group_topic import (
    CHUNK_BYTES,
    ClaimedCheckpoint,
    CommittedValues,
    GroupError,
    GroupPlan,
    GroupTopic,
    PartitionClaim,
)
from streamer.replay.journal import STATE_VERSION, DurableOutput, PartitionCheckpoint
from streamer.replay.options import ReplayOptions, bundles_of
from streamer.replay.partition_replay import ReplaySnapshot, SelectionCounters
from streamer.replay.run import replay
from streamer.replay.time_range import TimeRange
from streamer.schemas import codec
from streamer.settings import Settings
from tests.conftest import FreshSettings, as_environment, without_settings
from tests.worker.live import as_messages, committed, send, set_up, some_clicks, wait_until

ROOT = Path(__file__).parents[2]


def start(moment: str, out: str, settings: Settings, cwd: Path) -> subprocess.Popen[bytes]:
    """A member of group `g` that saves its state every 200 clicks."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests/replay/armed_replay.py"), moment, "200", "topic", out, "g"],
        env=without_settings() | as_environment(settings) | {"PYTHONPATH": str(ROOT)},
        cwd=cwd,
        stdout=subprocess.PIPE,
    )


def ended(member: subprocess.Popen[bytes], code: int = 0) -> dict[str, Any]:
    """What the member printed, once it has ended so."""
    printed, _ = member.communicate(timeout=120)
    assert member.returncode == code
    return json.loads(printed) if printed else {}


def is_stopped(member: subprocess.Popen[bytes]) -> bool:
    """Whether a signal has stopped it, as `ps` says."""
    assert member.poll() is None
    state = subprocess.run(["ps", "-o", "state=", "-p", str(member.pid)], capture_output=True, check=True)
    return state.stdout.startswith(b"T")


def groups(settings: Settings) -> set[str]:
    async def run() -> set[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
        await admin.start()
        try:
            return {name for name, *_ in await admin.list_consumer_groups()}
        finally:
            await admin.close()

    return asyncio.run(run())


def options(out: str | None, settings: Settings, group: str | None = "g", **given: Any) -> ReplayOptions:
    fields: dict[str, Any] = {"source": "topic", "speed": 0, "processes": 1} | given
    return ReplayOptions(TimeRange(), bundles=bundles_of([], settings), out=out, group=group, **fields)


def test_a_member_that_dies_and_one_that_stalls_cost_the_file_nothing(
    fresh_settings: FreshSettings, tmp_path: Path
) -> None:
    settings = fresh_settings({"topics.partitions": 3})
    set_up(settings)
    send(settings, as_messages(some_clicks(300, seed=41)))
    alone = tmp_path / "alone.parquet"
    expected = replay(settings, options(str(alone), settings, None), lambda _, __: None).as_dict()
    out = tmp_path / "shared.parquet"
    ended(start("saved:2", str(out), settings, tmp_path), -signal.SIGKILL)
    stalled = start("written:1:STOP", str(out), settings, tmp_path)
    wait_until(lambda: is_stopped(stalled))
    printed = [ended(start("never:0", str(out), settings, tmp_path))]
    assert is_stopped(stalled)
    assert out.read_bytes() == alone.read_bytes()
    stalled.send_signal(signal.SIGCONT)
    printed.append(ended(stalled))
    late = replay_in_group(settings, options(str(out), settings), lambda _, __: None)
    assert late.is_to_report
    printed.append(late.as_dict())
    assert printed[-1]["clicks_per_s"] == 0
    for each in printed:
        for name in ("bundles", "clicks", "sessions", "closed_by", "partitions", "rows", "adds_up"):
            assert each[name] == expected[name], name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.parquet", "shared.parquet"]
    assert settings.app.id not in groups(settings)
    with pytest.raises(UsageError, match="begun with another out"):
        replay_in_group(settings, options(None, settings), lambda _, __: None)
    out.unlink()
    with pytest.raises(UsageError, match="take another --group"):
        replay_in_group(settings, options(str(out), settings), lambda _, __: None)


def test_a_topic_has_each_record_once_though_a_member_died(
    fresh_settings: FreshSettings, tmp_path: Path
) -> None:
    settings = fresh_settings({"topics.partitions": 2})
    set_up(settings)
    send(settings, as_messages(some_clicks(300, seed=42)))
    name = f"{settings.topics.clicks}-again"
    ended(start("sealed:1", f"topic:{name}", settings, tmp_path), -signal.SIGKILL)
    printed = ended(start("never:0", f"topic:{name}", settings, tmp_path))
    expected = replay(settings, options(None, settings, None), lambda _, __: None).as_dict()
    assert printed["bundles"] == expected["bundles"]
    digests = expected["bundles"][0]["digests"]
    found = [codec.decode(record.value) for record in committed(settings, name).records]
    ids = [(schema, record["session_id"]) for schema, record in found]
    assert len(set(ids)) == len(ids) == digests["embeddings"]["count"] + digests["intents"]["count"]
    assert list(tmp_path.iterdir()) == []


def test_a_claim_is_lost_to_the_next_one_and_values_come_whole_in_place_of_older_ones(
    fresh_settings: FreshSettings,
) -> None:
    settings = fresh_settings({"topics.partitions": 1})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    large = bytes(range(256)) * (CHUNK_BYTES // 100)

    async def run() -> None:
        job = await GroupTopic.made(settings, "g")
        assert job.whole == 1
        async with PartitionClaim(job, 0) as first, CommittedValues(job, 0) as values:
            await first.put({(0, "state"): b"old"})
            assert await values.refresh() == {"state": b"old"}
            await first.put({(0, "state"): large, (1, "head-0"): b"half"})
            assert await values.refresh() == {"state": large}
            async with PartitionClaim(job, 0) as second:
                with pytest.raises(KafkaError):
                    await first.put({(0, "state"): b"of a member that is none any more"})
                async with CommittedValues(job, 0) as after:
                    assert await after.refresh() == {"state": large}
                await second.put({(0, "state"): b""})
            async with CommittedValues(job, 0) as after, CommittedValues(job, 1) as whole:
                assert await after.refresh() == {"state": b""}
                assert await whole.refresh() == {"head-0": b"half"}

    asyncio.run(run())
    both = settings.model_copy(update={"topics": settings.topics.model_copy(update={"partitions": 2})})
    kept = [record.value for record in committed(both, f"{settings.app.id}-replay-g").records]
    assert sorted(kept) == [b"", b"half"]


def test_what_another_version_has_written_is_refused(fresh_settings: FreshSettings) -> None:
    job = GroupTopic(fresh_settings(), "old-replay-g", 1)
    begun = ReplaySnapshot(0, PartitionClock(), [], ClickCounters(), SelectionCounters(), {})
    mine, newer = (
        encode_state(ClaimedCheckpoint(1, PartitionCheckpoint(version, begun, False, DurableOutput(), [])))
        for version in (STATE_VERSION, STATE_VERSION + 1)
    )
    assert job.read(mine, ClaimedCheckpoint).epoch == 1
    for value, of_type in ((newer, ClaimedCheckpoint), (msgspec.msgpack.encode({"plan": 1}), GroupPlan)):
        with pytest.raises(GroupError, match="topic old-replay-g holds a replay of another version"):
            job.read(value, of_type)


@pytest.mark.parametrize(
    ("group", "given"),
    [
        ("a/b", {}),
        ("g", {"source": "clicks.jsonl"}),
        ("g", {"out": "-"}),
        ("g", {"speed": 1}),
        ("g", {"processes": 2}),
    ],
)
def test_what_members_cannot_share_is_refused(
    fresh_settings: FreshSettings, group: str, given: dict[str, Any]
) -> None:
    given = {"out": None} | given
    with pytest.raises(UsageError, match="--group"):
        options(given.pop("out"), fresh_settings(), group, **given)
