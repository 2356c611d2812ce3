"""Upgrades: workers of today go on from what those of an earlier commit left, or run beside an older app."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
import tomllib

import pytest

from streamer.settings import TopicSettings
from tests import forks
from tests.conftest import ROOT, FreshSettings, RunStreamer
from tests.identity.live import ON, clicks_with_logins, differing_users, say, some_links
from tests.worker.live import Worker, as_messages, environment, oracle, published, send, set_up, some_clicks
from tests.worker.test_ways_out import work_through

BEFORE = "080d280a"
"""The last commit of the day before 0.2.0 was made."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a process that runs the product as it was, as pure Python."""
    git = shutil.which("git")
    command = [git or "git", "archive", BEFORE, "models", "schemas", "streamer"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=False) if git else None
    if archive is None or archive.returncode:
        pytest.skip(f"commit {BEFORE} is not in the history that is here")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1", "STREAMER_NO_EXTENSIONS": "1"}


def test_from_an_earlier_commit_to_today_and_after_a_drain_back(
    fresh_settings: FreshSettings, run_streamer: RunStreamer, earlier: dict[str, str]
) -> None:
    """All with the bundle of then, so that `verify` can score what it scored."""
    bundle = f"{earlier['PYTHONPATH']}/models/default"
    unknown_then = {"topics.lookups": TopicSettings().lookups}  # a default isn't passed on
    settings = fresh_settings(ON | {"model.bundle": bundle} | unknown_then)
    clicks = clicks_with_logins(40, seed=73)
    links = some_links(clicks, random.Random(7), at_most=20)
    program = [sys.executable, "-c", forks.MAIN, "topics", "create"]
    subprocess.run(program, env=environment(settings) | earlier, check=True, capture_output=True)
    half = len(clicks) // 2
    for number, part in enumerate((clicks[:half], clicks[half:])):
        say(settings, *links[10 * number : 10 * number + 10])
        work_through(settings, part[: half // 2], environ=earlier)
        send(settings, as_messages(part[half // 2 :]))
        drain = Worker(settings, "--drain")
        assert drain.end() == 0, drain.log
    assert published(settings) == sorted(oracle(clicks[:half]) + oracle(clicks[half:]))
    assert not differing_users(settings)
    verify = run_streamer("verify", settings=settings)
    assert verify.returncode == 0, verify.stdout


def test_a_green_app_beside_the_blue_one_publishes_the_same(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    """With the settings of docs/operations.md; the blue one is stopped and goes on meanwhile."""
    of_docs = (ROOT / "docs/operations.md").read_text().partition("```toml\n# green.toml")[2]
    given = tomllib.loads("#" + of_docs.partition("```")[0])
    blue = fresh_settings()
    topics = {f"topics.{name}": f"{topic}-{blue.app.id}" for name, topic in given["topics"].items()}
    green = fresh_settings({"app.id": f"{given['app']['id']}-{blue.app.id}", **topics})
    clicks = some_clicks(20, seed=74)
    set_up(blue)
    work_through(blue, clicks[: len(clicks) // 2])
    send(blue, as_messages(clicks[len(clicks) // 2 :]))
    assert run_streamer("topics", "create", settings=green).returncode == 0
    found = []
    for settings in (green, blue):
        drain = Worker(settings, "--drain")
        assert drain.end() == 0, drain.log
        assert published(settings) == oracle(clicks)
        verify = run_streamer("verify", "--json", settings=settings)
        assert verify.returncode == 0, verify.stdout
        found.append({kind: each["content"] for kind, each in json.loads(verify.stdout)["live"].items()})
    assert found[0] == found[1]
    assert len(found[0]) == 2
