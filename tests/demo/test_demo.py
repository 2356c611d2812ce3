"""The demo against its own broker: what it reports of a few clicks whose end is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from streamer.demo.page import live_page
from streamer.demo.view import DemoProgress, live_view
from streamer.identity.attribution import SessionCounts
from tests.client.records import a_record
from tests.conftest import FreshSettings, RunStreamer
from tests.worker.live import ask

START_MS = 1_709_805_600_000
HOUR_MS = 3_600_000


def visit(visitor: str, hour: int, user: str | None = None, **more: str) -> list[dict[str, Any]]:
    """Three clicks, a session of their own; who logs in does so with the last."""
    return [
        {
            "visitor_id": visitor,
            "timestamp": START_MS + hour * HOUR_MS + number * 1000,
            "event_type": "page_view",
            "event_id": f"{visitor}-{hour}-{number}",
            "page_url": f"https://bank.example/mortgage/{number}",
            "user_id": user if number == 2 else None,
        }
        | more
        for number in range(3)
    ]


CLICKS = [
    *visit("nobody", 0),
    *visit("crawler", 0, user_agent="Googlebot/2.1"),
    *visit("ann", 0),
    *visit("ann", 1, "a"),
    *visit("kiosk", 0),
    *visit("kiosk", 1, "b"),
    *visit("kiosk", 2, "c"),
]


@pytest.mark.kafka
def test_every_click_and_every_session_is_accounted_for(run_streamer: RunStreamer, tmp_path: Path) -> None:
    file = tmp_path / "clicks.jsonl"
    in_order = sorted(CLICKS, key=lambda click: click["timestamp"])
    file.write_text("".join(json.dumps(click) + "\n" for click in in_order))
    done = run_streamer("demo", str(file), "--headless", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["accounts"]["received"], told["accounts"]["closed"], told["open"]) == (21, 21, 0)
    assert (told["sessions"], told["bots"], told["customers"]) == (7, 1, 3)
    expected = SessionCounts(login=3, link=1, ambiguous=1, anonymous=1, bots=1)
    assert SessionCounts(**told["attributed"]) == expected


def test_the_demo_has_a_live_page_that_ends_with_it(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    with live_page(settings, []) as link:
        assert link is not None
        address = urlsplit(link)
        assert ask(address.port or 0, "/")[0] == 403
        assert ask(address.port or 0, f"/?{address.query}")[0] == 303
    assert ask(address.port or 0, "/")[0] == 0


def test_the_view_shows_who_logged_in_and_what_they_had_looked_at() -> None:
    seen = DemoProgress()
    seen.hand_overs.appendleft(a_record("v1", user_id="c-17", is_final=False))
    console = Console(width=100)
    with console.capture() as capture:
        console.print(live_view(seen))
    row = next(line for line in capture.get().splitlines() if "c-17" in line)
    assert row.split() == ["v1", "3", "c-17", "credit", "/", "cards", "75%"]
