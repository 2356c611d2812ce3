"""Faults of worker processes: killed, ended, many and few, stopped for a while, wrong clock, new model."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

from streamer.models.bundle import default_bundle
from streamer.worker.kill_points import KillPoint
from tests.chaos.scenario import Outcome, Scenario, end_all
from tests.worker.live import Worker, committed, wait_until

CLICKS_PER_VISITOR = 11
OF_STAGES = [point for point in KillPoint if point.startswith("stage_")]
EARLY = (KillPoint.AFTER_FENCING, KillPoint.DURING_RECOVERY, KillPoint.BEFORE_SEEK)
"""Points that a worker passes once per take-over; the others it passes with each commit."""
NEVER = f"{KillPoint.BEFORE_OUTPUTS}:1000000"


def killed(scenario: Scenario, kills: int, clicks: int, per_s: float) -> Outcome:
    """SIGKILL at every kill point in turn; each death is followed by a restart of the same member.

    Every fifth time the other member has to take over first.
    """
    outcome, chance = scenario.outcome, scenario.chance
    feed = scenario.feed(clicks // CLICKS_PER_VISITOR, per_s)
    steady = scenario.worker(app__instance_id="steady", worker__trim_every_s=1, commit__interval_ms=50)
    steady.wait_for("shards_open")
    has_stages = scenario.settings.identity.enabled or not scenario.settings.clicks.keyed
    points = [point for point in KillPoint if has_stages or point not in OF_STAGES]
    for number in range(kills):
        point = points[number % len(points)]
        passes = chance.randint(1, 2) if point in EARLY else chance.randint(2, 12)
        begin = time.monotonic()
        victim = scenario.worker(
            armed=f"{point}:{1 if point is KillPoint.WHILE_TRIMMING else passes}",
            app__instance_id="victim",
            worker__trim_every_s=1,
            commit__interval_ms=50,
        )
        code = victim.end(60)
        outcome.check(code == -signal.SIGKILL, f"armed at {point}, ended with {code}: {victim.last_words}")
        outcome.faults[f"SIGKILL {point}"] += f"killed at {point}" in victim.log
        if "shards_open" in victim.log and number:
            outcome.took("restart of the same member, s", victim.seconds_to("shards_open"), at_most=5)
        if number % 5 == 4:
            taken = steady.log.count("shards_open")
            wait_until(lambda taken=taken: steady.log.count("shards_open") > taken, timeout_s=60)
            scenario.link_some()
            outcome.took("take-over by the other, s", time.monotonic() - begin, at_most=30 + 10)
    missed = [point for point in points if kills >= len(points) and not outcome.faults[f"SIGKILL {point}"]]
    outcome.check(not missed, f"never killed at {missed}")
    feed.finish()
    scenario.link_some()
    end_all(outcome, [steady])
    trimmed = {number: first for number, (first, _) in scenario.bounds(scenario.direct.changelog).items()}
    outcome.check(all(trimmed.values()), f"changelog never trimmed: it begins at {trimmed}")
    return scenario.settle()


def terminated(scenario: Scenario, times: int, clicks: int, per_s: float) -> Outcome:
    """SIGTERM in mid-stream, then a new process; nothing is processed twice and nothing drained."""
    outcome = scenario.outcome
    feed = scenario.feed(clicks // CLICKS_PER_VISITOR, per_s)
    ended: list[Worker] = []
    for _ in range(times):
        worker = scenario.worker(app__instance_id="w")
        worker.wait_for("shards_open")
        time.sleep(scenario.chance.uniform(0.2, 2))
        end_all(outcome, [worker])
        ended.append(worker)
        outcome.faults["SIGTERM"] += 1
    drained = [r for r in _intents(scenario) if r["close_reason"] == "drain"]
    outcome.check(not drained, f"{len(drained)} sessions were drained at SIGTERM")
    feed.finish()
    last = Worker(scenario.direct, "--drain")
    last.end(120)
    processed = sum(worker.logged("worker_stopped", "records") for worker in [*ended, last])
    outcome.check(processed == feed.sent, f"{processed} records processed for {feed.sent} clicks")
    return scenario.judge()


def rebalanced(scenario: Scenario, cycles: int, clicks: int, per_s: float) -> Outcome:
    """One worker, three, one again; each of the three is the one that stays in turn."""
    outcome = scenario.outcome
    feed = scenario.feed(clicks // CLICKS_PER_VISITOR, per_s)
    staying = scenario.worker()
    staying.wait_for("shards_open")
    workers = [staying]
    for _ in range(cycles):
        joining = [scenario.worker(), scenario.worker()]
        for worker in joining:
            worker.wait_for("shards_open")
        time.sleep(scenario.chance.uniform(0, 1))
        workers += joining
        running = [worker for worker in workers if worker.process.poll() is None]
        staying = scenario.chance.choice(running)
        end_all(outcome, [worker for worker in running if worker is not staying])
        outcome.faults["rebalance 1 to 3 to 1"] += 1
        outcome.took("published again, s", scenario.until_published_more(), at_most=30)
    feed.finish()
    end_all(outcome, [staying])
    last = Worker(scenario.direct, "--drain")
    last.end(120)
    processed = sum(worker.logged("worker_stopped", "records") for worker in [*workers, last])
    outcome.notes["records processed more than once"] = processed - feed.sent
    return scenario.judge()


def stopped(scenario: Scenario, times: int, seconds: float, clicks: int, per_s: float) -> Outcome:
    """SIGSTOP, long enough that the group gives its partitions away, then SIGCONT: a zombie."""
    outcome = scenario.outcome
    feed = scenario.feed(clicks // CLICKS_PER_VISITOR, per_s)
    workers = [scenario.worker(app__instance_id=name) for name in ("a", "b")]
    for worker in workers:
        worker.wait_for("shards_open")
    for number in range(times):
        zombie, other = workers[number % 2], workers[1 - number % 2]
        taken = other.log.count("shards_open")
        zombie.signal(signal.SIGSTOP)
        begin = time.monotonic()
        wait_until(lambda o=other, taken=taken: o.log.count("shards_open") > taken, timeout_s=60)
        outcome.took("take-over from a zombie, s", time.monotonic() - begin, at_most=30)
        time.sleep(max(0.0, seconds - (time.monotonic() - begin)))
        back = zombie.log.count("shards_open")
        zombie.signal(signal.SIGCONT)
        outcome.faults["SIGSTOP"] += 1
        begin = time.monotonic()
        wait_until(
            lambda z=zombie, back=back: z.log.count("shards_open") > back or z.process.poll() is not None
        )
        outcome.took("zombie back at work, s", time.monotonic() - begin, at_most=30)
        outcome.check(zombie.process.poll() is None, f"the zombie ended: {zombie.last_words}")
    feed.finish()
    end_all(outcome, workers)
    scenario.settle()
    outcome.check(
        outcome.notes["takeovers"] <= 4 * (4 * times + 4),
        f"{outcome.notes['takeovers']} take-overs: two owners fenced each other",
    )
    return outcome


def clocked(scenario: Scenario, offsets: list[float], clicks: int, per_s: float) -> Outcome:
    """Workers whose wall clock is an hour off; the broker's time is the only one that counts."""
    outcome = scenario.outcome
    feed = scenario.feed(clicks // CLICKS_PER_VISITOR, per_s)
    for offset in offsets:
        worker = scenario.worker("--wall-clock", str(offset), armed=NEVER, app__instance_id="w")
        worker.wait_for("shards_open")
        scenario.until_published_more()
        end_all(outcome, [worker])
        outcome.faults[f"wall clock {offset:+.0f} s"] += 1
    idle = [r for r in _intents(scenario) if r["close_reason"] == "idle"]
    outcome.check(not idle, f"{len(idle)} sessions closed by an idleness that wasn't there")
    feed.finish()
    return scenario.settle()


def rolled_out(scenario: Scenario, times: int, clicks: int, per_s: float, folder: Path) -> Outcome:
    """A new bundle, worker by worker, while sessions are open."""
    outcome = scenario.outcome
    feed = scenario.feed(clicks // CLICKS_PER_VISITOR, per_s)
    bundles = [_renamed_bundle(folder, f"rollout-{number}") for number in range(times + 1)]
    workers = [scenario.worker(model__bundle=bundles[0], app__instance_id=name) for name in ("a", "b")]
    for bundle in bundles[1:]:
        for place, name in enumerate(("a", "b")):
            workers[place].wait_for("shards_open")
            scenario.until_published_more()
            end_all(outcome, [workers[place]])
            workers[place] = scenario.worker(model__bundle=bundle, app__instance_id=name)
        outcome.faults["new bundle"] += 1
    for worker in workers:
        worker.wait_for("shards_open")
    scenario.until_published_more()
    feed.finish()
    end_all(outcome, workers)
    scenario.bundles = [*bundles, default_bundle()]
    scenario.settle()
    versions = {r["session_id"]: r["model_version"] for r in _intents(scenario)}
    known = {json.loads((b / "manifest.json").read_text())["name"] for b in bundles} | {"default"}
    outcome.notes["sessions by model"] = {
        name: sum(v.startswith(f"{name}@") for v in versions.values()) for name in sorted(known)
    }
    outcome.check({v.partition("@")[0] for v in versions.values()} <= known, "a record of an unknown model")
    for record in committed(scenario.direct, scenario.direct.topics.embeddings).decoded():
        same = versions[record["session_id"]] == record["model_version"]
        outcome.check(same, f"session {record['session_id']} names two models")
    return outcome


def _intents(scenario: Scenario) -> list[dict[str, object]]:
    return committed(scenario.direct, scenario.direct.topics.intents).decoded()


def _renamed_bundle(folder: Path, name: str) -> Path:
    """The shipped bundle under another name: another model version, the same figures."""
    bundle = folder / name
    shutil.copytree(default_bundle(), bundle)
    manifest = bundle / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"name": name}))
    return bundle
