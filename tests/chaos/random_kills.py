"""SIGKILL at moments that nobody chose: drawn from the seed, in many short rounds.

Each round is an app of its own. Some of one to three workers are killed, at once, after a while or right
behind each other, and drains follow while the dead are still members of the group. A drain that exits with
0 has to have published everything, whoever had the partitions before.
"""

from __future__ import annotations

import random
import signal
import time
from typing import Any

from tests.chaos.stage import Outcome, Stage, end_all
from tests.worker.live import Worker, as_messages, send, some_clicks, wait_until

VISITORS = 150
DRAINED_WITHIN_S = 120
LONGEST_DELAY_S = {"": 3.0, "worker_started": 1.0, "shards_open": 1.5}
"""A kill comes up to so long after this line of the victim's log, or after its start."""


def killed_at_random(ground: Any, seed: int, dose: dict[str, Any]) -> Outcome:
    """So many rounds on the shared broker; the last one is also held against a replay."""
    chance, outcome = random.Random(seed), Outcome()
    for number in range(1, dose["rounds"] + 1):
        stage = Stage(ground.settings(ground.shared.bootstrap), chance.randrange(2**31))
        _play(stage)
        stage.hold_against_oracle()
        if number == dose["rounds"]:
            stage.verify()
        ground.end_workers()
        outcome.add(stage.outcome, f"round {number}")
    return outcome


def _play(stage: Stage) -> None:
    chance = stage.chance
    stage.clicks = some_clicks(VISITORS, seed=chance.randrange(2**31))
    half = len(stage.clicks) // 2
    send(stage.settings, as_messages(stage.clicks[:half]))
    crew = [stage.worker() for _ in range(chance.randint(1, 3))]
    victims = chance.sample(crew, chance.randint(1, len(crew)))
    for victim in victims:
        _kill_at_some_moment(stage, victim)
    send(stage.settings, as_messages(stage.clicks[half:]))
    survivors = [worker for worker in crew if worker not in victims]
    if chance.random() < 0.5:
        end_all(stage.outcome, survivors)
    time.sleep(chance.uniform(0, 1.5))
    _drain(stage, survivors)


def _drain(stage: Stage, survivors: list[Worker]) -> None:
    """One drain or two at once, of which the first may be killed and followed by another."""
    chance = stage.chance
    drains = [stage.worker("--drain") for _ in range(chance.randint(1, 2))]
    if chance.random() < 0.4:
        _kill_at_some_moment(stage, drains.pop(0), "draining")
        drains.append(stage.worker("--drain"))
    time.sleep(chance.uniform(0, 2))
    end_all(stage.outcome, survivors)
    for drain in drains:
        code = drain.end(DRAINED_WITHIN_S)
        stage.outcome.check(code == 0, f"a drain ended with {code}: {drain.last_words}")


def _kill_at_some_moment(stage: Stage, victim: Worker, phase: str | None = None) -> None:
    event = stage.chance.choice(list(LONGEST_DELAY_S))
    wait_until(lambda: event in victim.log or victim.process.poll() is not None, 90)
    time.sleep(stage.chance.uniform(0, LONGEST_DELAY_S[event]))
    victim.signal(signal.SIGKILL)
    if victim.end() == -signal.SIGKILL:
        stage.outcome.faults[f"SIGKILL while {phase or _phase(victim)}"] += 1


def _phase(worker: Worker) -> str:
    if "shards_open" in worker.log:
        return "working"
    return "joining or taking over" if "worker_started" in worker.log else "starting"
