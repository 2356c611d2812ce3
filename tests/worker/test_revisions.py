"""A worker that holds closed sessions, and publishes a revision where a click comes late."""

from __future__ import annotations

import signal
import time

from tests.chaos.scenario import Scenario
from tests.conftest import FreshSettings
from tests.worker.live import as_messages, committed, send, wait_until

QUICK = {
    "late.revise_within_s": 600,
    "session.gap_s": 2,
    "watermark.out_of_orderness_s": 0,
    "watermark.idle_after_s": 1,
    "watermark.idle_margin_s": 0.2,
    "topics.partitions": 1,
    "identity.enabled": True,
}


def test_a_late_click_revises_what_a_worker_before_has_closed(fresh_settings: FreshSettings) -> None:
    scenario = Scenario(fresh_settings(QUICK), seed=0)
    settings, topics = scenario.settings, scenario.settings.topics

    def finals() -> list[dict[str, object]]:
        return [record for record in committed(settings, topics.intents).decoded() if record["is_final"]]

    def click(visitor: str, at_ms: int, event_id: str, user_id: str | None = None) -> None:
        fields = {"visitor_id": visitor, "timestamp": at_ms, "event_id": event_id, "user_id": user_id}
        send(settings, as_messages([fields | {"event_type": "page_view"}]))

    worker = scenario.worker()
    begin_ms = int(time.time() * 1000)
    click("v", begin_ms, "a", "u")
    wait_until(lambda: len(finals()) == 1)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    click("v", begin_ms - 1000, "b")
    worker = scenario.worker()
    wait_until(lambda: len(finals()) == 2)
    first, second = finals()
    assert (second["revision"], second["supersedes"]) == (2, first["session_id"])
    assert (first["event_count"], second["event_count"], second["started_at"]) == (1, 2, begin_ms - 1000)

    def users() -> list[dict[str, object]]:
        return committed(settings, topics.users).decoded()

    wait_until(lambda: bool(users()) and users()[-1]["session_id"] == second["session_id"])
    assert (users()[-1]["sessions"], len(users()[-1]["history"])) == (1, 1)  # type: ignore[arg-type]
    assert committed(settings, topics.visitors).decoded()[-1]["session_id"] == second["session_id"]
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    scenario.verify()
    assert scenario.outcome.kept, scenario.outcome
