"""SIGKILL at moments that nobody chose: drawn from the seed, in many short rounds.

Each round is an app of its own. One worker has all partitions when up to two others join, and some of the
three are killed: while they start, join or take over, while they work, right behind each other. Then comes
a drain, or two, while the dead are still members of the group and others still work, which are ended or
killed while it joins and drains. A drain that exits with 0 has to have published everything, whoever had
the partitions before. With `identity` there are logins and links, and with `unkeyed` clicks that are first
written by visitor: kills fall on every stage.
"""

from __future__ import annotations

import random
import signal
import time
from typing import Any

from tests.chaos.scenario import Outcome, Scenario
from tests.worker.live import UNKEYED, Worker, send, wait_until

VISITORS = 150
DRAINED_WITHIN_S = 120


def killed_at_random(environment: Any, seed: int, dose: dict[str, Any]) -> Outcome:
    """So many rounds on the shared broker; the last one is also held against a replay."""
    chance, outcome = random.Random(seed), Outcome()
    for number in range(1, dose["rounds"] + 1):
        on = {"identity.enabled": dose.get("identity", False), **(UNKEYED if dose.get("unkeyed") else {})}
        settings = environment.settings(environment.shared.bootstrap, on)
        scenario = Scenario(settings, chance.randrange(2**31))
        _Round(scenario).play()
        scenario.hold_against_oracle()
        if number == dose["rounds"]:
            scenario.verify()
        environment.end_workers()
        outcome.add(scenario.outcome, f"round {number}")
    return outcome


class _Round:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._chance = scenario.chance
        self._running: list[Worker] = []
        self._start_s = 0.0
        """How long a worker takes to have partitions, on this machine and today."""

    def play(self) -> None:
        scenario, chance = self._scenario, self._chance
        scenario.click_for(VISITORS)
        messages = scenario.messages()
        half = len(messages) // 2
        send(scenario.settings, messages[:half])
        first = scenario.worker()
        first.wait_for("shards_open")
        self._start_s = first.seconds_to("shards_open")
        started = self._running = [first, *(scenario.worker() for _ in range(chance.randint(0, 2)))]
        for victim in chance.sample(started, chance.randint(0, len(started))):
            self._kill(victim)
        send(scenario.settings, messages[half:])
        scenario.link_some()
        self._drain()

    def _drain(self) -> None:
        drains = [self._scenario.worker("--drain") for _ in range(self._chance.randint(1, 2))]
        for worker in list(self._running):
            if self._chance.random() < 0.5:
                wait_until(lambda: "shards_open" in drains[0].log or drains[0].process.poll() is not None)
            self._chance.choice((self._kill, self._end))(worker)
        if self._chance.random() < 0.3:
            self._kill(drains.pop(0), "a drain")
            drains.append(self._scenario.worker("--drain"))
        for drain in drains:
            code = drain.end(DRAINED_WITHIN_S)
            self._scenario.outcome.check(code == 0, f"a drain ended with {code}: {drain.last_words}")

    def _kill(self, victim: Worker, what: str = "a worker") -> None:
        self._pause()
        victim.signal(signal.SIGKILL)
        if victim.end() == -signal.SIGKILL:
            phase = "with" if "shards_open" in victim.log else "without"
            self._scenario.outcome.faults[f"SIGKILL of {what} {phase} partitions"] += 1
        self._running = [worker for worker in self._running if worker is not victim]

    def _end(self, worker: Worker) -> None:
        self._pause()
        worker.signal(signal.SIGTERM)
        # -15: Python itself was still starting.
        code, allowed = worker.end(30), (0, -signal.SIGTERM)
        self._scenario.outcome.check(code in allowed, f"{code} after SIGTERM: {worker.last_words}")
        self._scenario.outcome.faults["SIGTERM"] += 1

    def _pause(self) -> None:
        """Up to a second, so that kills come right behind each other; or as long as it takes to join."""
        time.sleep(self._chance.choice((self._chance.random(), self._chance.uniform(0, 1.5 * self._start_s))))
