"""More partitions in one command: tried from the command line, killed behind each step, and run again."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka.admin import NewPartitions

from streamer.operations import migration
from streamer.operations.growth import GrowthError, Step
from streamer.settings import Settings
from tests import forks
from tests.conftest import FreshSettings, RunStreamer
from tests.identity.live import ON, clicks_with_logins, differing_users, say, some_links
from tests.worker.live import (
    Worker,
    as_messages,
    drift_of,
    end_all,
    environment,
    on_admin,
    oracle,
    published,
    send,
    set_up,
    some_clicks,
)


@pytest.fixture(autouse=True)
def _stop_workers() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture
def sized(fresh_settings: FreshSettings) -> Callable[..., Settings]:
    def of(partitions: int, **more: object) -> Settings:
        return fresh_settings({"topics.partitions": partitions, **more})

    return of


def killed_behind(step: Step, settings: Settings) -> None:
    program = [str(Path(__file__).with_name("armed_migration.py")), step.name]
    done = forks.run(program, environment(settings), None, timeout_s=300)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_killed_behind_each_step_and_run_again_nothing_is_lost_or_twice_or_of_somebody_else(
    sized: Callable[..., Settings], run_streamer: RunStreamer
) -> None:
    """The same migration, killed behind one step after the other. What is sent before is closed by its drain,
    so the oracle cuts each part by itself."""
    clicks = clicks_with_logins(50, seed=71)
    links = some_links(clicks, random.Random(6), at_most=20)
    parts = [clicks[n * len(clicks) // 5 : (n + 1) * len(clicks) // 5] for n in range(5)]
    before, after = sized(2, **ON), sized(5, **ON)
    set_up(before)
    for number, step in enumerate((Step.DRAINED, Step.OTHERS_GROWN, Step.TIES_WRITTEN, Step.TIES_MOVED)):
        send(before, as_messages(parts[number]))
        say(before, *links[4 * number : 4 * number + 4])
        killed_behind(step, after)
    refusing = Worker(before)  # the ties are where no click comes yet
    assert refusing.end() == 1
    assert "then run 'streamer migrate'" in refusing.last_words
    killed_behind(Step.CLICKS_GROWN, after)
    done = run_streamer("migrate", "--yes", settings=after)
    assert (done.returncode, done.stderr) == (0, "nothing to do: every topic by visitor has 5 partitions\n")
    assert not drift_of(after)

    send(after, as_messages(parts[4]))
    say(after, *links[16:])
    last = Worker(after, "--drain")
    assert last.end() == 0, last.log
    assert published(after) == sorted(session for part in parts for session in oracle(part))
    assert not differing_users(after)
    verify = run_streamer("verify", settings=after)
    assert verify.returncode == 0, verify.stdout


def test_a_worker_that_runs_is_named_and_without_yes_nothing_is_changed(
    sized: Callable[..., Settings], run_streamer: RunStreamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = sized(2), sized(3)
    set_up(before)
    worker = Worker(before)
    worker.wait_for("shards_open")
    told = run_streamer("migrate", settings=after)
    assert told.returncode == 0, told.stderr
    assert "to do: close and publish all open sessions (drain)" in told.stderr
    assert f"to do: {after.topics.clicks}, 2 partitions, to have 3" in told.stderr
    assert f"at 127.0.0.1 in group {after.app.id}" in told.stderr
    assert told.stderr.endswith("nothing was changed: --yes does it\n")
    monkeypatch.setattr(migration, "LEAVES_WITHIN_S", 0)
    plan = asyncio.run(migration.look(after))
    with pytest.raises(GrowthError, match=f"a worker of {after.app.id} runs, .* stop all workers"):
        migration.migrate(after, plan, lambda: pytest.fail("it drained"), lambda _: None)
    assert not drift_of(before)


def test_clicks_of_another_team_get_their_partitions_after_all_else(
    sized: Callable[..., Settings], run_streamer: RunStreamer
) -> None:
    clicks = some_clicks(20, seed=72)
    half = len(clicks) // 2
    before, after = sized(2), sized(3)
    set_up(before)
    send(before, as_messages(clicks[:half]))
    for is_first in (True, False):
        done = run_streamer("migrate", "--yes", "--leave-clicks", "--json", settings=after)
        assert done.returncode == 0, done.stderr
        assert (json.loads(done.stdout)["topics"] == {}) is not is_first
    assert [each.topic for each in drift_of(after)] == [after.topics.clicks]
    on_admin(after, lambda admin: admin.create_partitions({after.topics.clicks: NewPartitions(3)}))
    send(after, as_messages(clicks[half:]))
    last = Worker(after, "--drain")
    assert last.end() == 0, last.log
    assert published(after) == sorted(oracle(clicks[:half]) + oracle(clicks[half:]))


def test_partitions_are_not_taken_away(sized: Callable[..., Settings], run_streamer: RunStreamer) -> None:
    set_up(sized(3))
    done = run_streamer("migrate", "--yes", settings=sized(2))
    assert done.returncode == 2
    assert "topics.partitions is 2" in done.stderr
    assert "expected 3 or more" in done.stderr
