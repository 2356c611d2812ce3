"""What was served held against the replay: every look-up is counted once, by what came of it."""

from __future__ import annotations

import json
from typing import Any

from streamer.client import VisitorView
from streamer.replay.served import DIFFERENT, MISSING, NO_RECORD, OUTSIDE, PROVISIONAL, SAME, ServedComparison
from streamer.replay.time_range import TimeRange
from streamer.schemas import codec
from streamer.schemas.lookup import IdHash, digest_of
from streamer.settings import Settings
from tests.client.records import NOW_MS, a_message, a_record, a_user
from tests.conftest import FreshSettings, RunStreamer
from tests.identity.live import ON, clicks_with_logins
from tests.serving.live import publish, serving
from tests.worker.live import Worker, as_messages, metric, send, set_up, wait_until

KEY = "key-of-the-hashes-0123"
HASHED = IdHash(KEY)


def comparison(**bounds: int) -> ServedComparison:
    return ServedComparison(HASHED, TimeRange(**bounds))


def look_up(view: str, id_: str, message: bytes | None = None) -> dict[str, Any]:
    answered = {"at": NOW_MS, "view": view, "id_hash": HASHED(view, id_), "outcome": "found"}
    if message is None:
        return answered | {"closed_at": None}
    record = codec.decode(message)[1]
    return answered | {
        "closed_at": record["closed_at"],
        "is_final": record["is_final"],
        "record_digest": digest_of(message),
    }


def test_a_look_up_is_the_same_if_the_replay_has_made_that_record() -> None:
    served = comparison()
    _, first = a_message("v", NOW_MS - 5)
    _, latest = a_message("v", NOW_MS)
    for message in (first, latest, latest):
        served.answered(look_up("visitors", "v", message))
    for message in (first, latest):
        served.replayed("visitors", "v", message)
    assert served.as_dict() == {"state": "equal", "views": {"visitors": {"look_ups": {SAME: 3}, "skew": 0.0}}}


def test_a_look_up_of_another_record_of_that_moment_is_different() -> None:
    served = comparison()
    served.answered(look_up("visitors", "v", a_message("v")[1]))
    served.answered(look_up("visitors", "w", a_message("w")[1]))
    served.replayed("visitors", "v", a_message("v", top_intent="loans")[1])
    served.replayed("visitors", "w", a_message("w")[1])
    served.replayed("visitors", "never-asked-for", a_message("x")[1])
    found = served.as_dict()
    assert found["state"] == "different"
    assert found["views"]["visitors"] == {"look_ups": {SAME: 1, DIFFERENT: 1}, "skew": 0.5}


def test_what_the_replay_has_not_made_is_counted_and_judges_nothing_by_itself() -> None:
    served = comparison()
    served.answered(look_up("visitors", "v", a_message("v")[1]))
    assert served.as_dict() == {
        "state": "undetermined",
        "views": {"visitors": {"look_ups": {MISSING: 1}, "skew": None}},
    }
    served.answered(look_up("visitors", "w", a_message("w")[1]))
    served.replayed("visitors", "w", a_message("w")[1])
    assert served.state == "equal"


def test_what_cannot_be_replayed_is_left_out_by_its_reason() -> None:
    served = comparison(from_ms=NOW_MS, to_ms=NOW_MS + 1)
    served.answered(look_up("users", "u"))
    served.answered(look_up("visitors", "v", a_message("v", is_final=False)[1]))
    served.answered(look_up("visitors", "v", a_message("v", NOW_MS + 1)[1]))
    served.answered(look_up("visitors", "v", a_message("v", NOW_MS - 1)[1]))
    views = served.as_dict()["views"]
    assert views["users"]["look_ups"] == {NO_RECORD: 1}
    assert views["visitors"]["look_ups"] == {PROVISIONAL: 1, OUTSIDE: 2}
    assert served.state == "equal"


def test_customers_are_counted_and_judge_nothing() -> None:
    served = comparison()
    served.answered(look_up("users", "u", a_user("u", a_record("v"))[1]))
    served.replayed("users", "u", a_user("u", a_record("v"), a_record("w", NOW_MS - 9))[1])
    assert served.state == "equal"
    assert served.as_dict()["views"]["users"] == {"look_ups": {DIFFERENT: 1}, "skew": 1.0}


def test_what_was_served_is_what_the_replay_gives(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings({**ON, "serve.log_lookups": True, "serve.log_key": KEY, "serve.drain_s": 0})
    key = {"STREAMER_SERVE__LOG_KEY": KEY}
    set_up(settings)
    clicks = clicks_with_logins(12, seed=5)
    send(settings, as_messages(clicks))
    assert Worker(settings, "--drain", environ=key).end() == 0
    visitors = sorted({click["visitor_id"] for click in clicks})
    users = sorted({click["user_id"] for click in clicks if click.get("user_id")})
    with serving(settings, environ=key) as service:
        service.wait_until_ready()
        found = sum(service.get("visitors", each).status == 200 for each in visitors)
        of_users = sum(service.get("users", each).status == 200 for each in users)
        asked = len(visitors) + len(users)
        wait_until(lambda: metric(service.port, "streamer_lookups_logged_total", outcome="written") == asked)
    assert min(found, of_users) > 0

    def verified(code: int) -> dict[str, Any]:
        done = run_streamer("verify", "--served", "--json", settings=settings, environ=key, timeout_s=120)
        assert done.returncode == code, done.stderr + done.stdout
        views: dict[str, Any] = json.loads(done.stdout)["served"]["views"]
        return views

    views = verified(0)
    assert views["visitors"]["look_ups"].get(SAME) == found
    assert views["visitors"]["skew"] == 0
    assert views["users"]["look_ups"].get(SAME) == of_users
    answered = look_up("visitors", visitors[0])
    publish(settings, settings.topics.lookups, [skewed(settings, answered, visitors[0])])
    assert verified(1)["visitors"]["look_ups"][DIFFERENT] == 1


def skewed(settings: Settings, answered: dict[str, Any], visitor: str) -> tuple[bytes, bytes]:
    """A look-up that was answered with something else than this visitor's record."""
    with VisitorView(settings) as view:
        state = view.get(visitor)
    assert state is not None
    record = {
        **answered,
        "closed_at": state.closed_at,
        "revision": 0,
        "is_final": True,
        "record_digest": "0" * 16,
    }
    return record["id_hash"].encode(), codec.encode("lookup", record)
