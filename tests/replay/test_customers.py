"""`streamer replay` of a file gives the records of customers, beside sessions, as each output has them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from streamer.errors import UsageError
from streamer.identity.rules import IdentityRules
from streamer.replay.identity_inputs import ties_of_file
from streamer.replay.options import ReplayOptions
from streamer.replay.time_range import TimeRange
from tests import forks
from tests.conftest import without_settings

START = 1_795_000_000_000
HOUR = 3_600_000


def click(visitor: str, hours: float, user: str | None = None) -> dict[str, Any]:
    return {
        "visitor_id": visitor,
        "timestamp": START + int(hours * HOUR),
        "event_type": "page_view",
        "page_url": "https://bank.example/loans",
        "user_id": user,
    }


def link(visitor: str, user: str, hours: float, **more: Any) -> dict[str, Any]:
    timestamp = START + int(hours * HOUR)
    return {"visitor_id": visitor, "user_id": user, "action": "link", "timestamp": timestamp, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`alice` logs in on one browser and is linked to another; the third one is nobody's."""
    clicks = [click("va", 0), click("vb", 1, "alice"), click("vc", 2), click("va", 5), click("vd", 9)]
    links = [link("va", "alice", 4, confidence=0.5, source="crm"), link("va", "bob", 8)]
    for name, lines in (("clicks", clicks), ("links", links)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def replayed(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = without_settings() | {"PYTHONPATH": str(Path(__file__).parents[2])}
    program = ["-c", forks.MAIN, "replay", "--source", "clicks.jsonl", *more]
    return forks.run(program, environment, folder, timeout_s=300)


def test_records_over_time_stand_beside_the_sessions(folder: Path) -> None:
    done = replayed(folder, "--links", "links.jsonl", "--out", "march.parquet", "--json")
    assert done.returncode == 0, done.stderr
    users = json.loads(done.stdout)["bundles"][0]["users"]
    counts = {"login": 1, "link": 0, "ambiguous": 2, "anonymous": 2, "bots": 0, "unlinked": 0, "erased": 0}
    assert users["sessions"] == counts
    assert (users["users"], users["changes"], len(users["digest"])) == (1, 3, 32)
    rows = pq.read_table(folder / "march.users.parquet").to_pylist()
    found = [
        (row["user_id"], row["sessions"], row["visitors"], row["attribution"], row["confidence"])
        for row in rows
    ]
    # Logged in; a link claims a session that had closed; another link takes it away.
    assert found == [
        ("alice", 1, 1, "login", 1.0),
        ("alice", 2, 2, "login", 1.0),
        ("alice", 1, 1, "login", 1.0),
    ]
    assert [row["as_of"] for row in rows] == [START + hours * HOUR for hours in (2, 4, 8)]
    sessions = pq.read_table(folder / "march.parquet").to_pylist()
    last = rows[-1]
    (session,) = [each for each in sessions if each["session_id"] == last["session_id"]]
    for name in ("closed_at", "embedding", "intents", "model_version", "taxonomy_version"):
        assert last[name] == session[name]


def test_standard_output_has_them_after_the_sessions(folder: Path) -> None:
    done = replayed(folder, "--links", "links.jsonl", "--out", "-")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["as_of" in line for line in lines] == [False] * 5 + [True] * 3
    assert "users: 1, 3 changes" in done.stderr


def test_who_wants_no_records_gets_none(folder: Path) -> None:
    done = replayed(folder, "--no-users", "--out", "march.parquet", "--json")
    assert json.loads(done.stdout)["bundles"][0]["users"] is None
    assert not (folder / "march.users.parquet").exists()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"visitor_id": "secret", "user_id": "u", "action": "link"}, "line 2: expected timestamp"),
        (link("secret", "0", 1), "line 2: no identity link: user_id"),
        (link("secret", "u", 1, action="tie"), "line 2: no identity link: action"),
    ],
)
def test_a_broken_link_is_named_by_its_line(tmp_path: Path, line: dict[str, Any], expected: str) -> None:
    path = tmp_path / "links.jsonl"
    path.write_text(json.dumps(link("va", "u", 0)) + "\n" + json.dumps(line) + "\n")
    with pytest.raises(UsageError, match=expected) as refused:
        ties_of_file(path, IdentityRules(), [0])
    assert "secret" not in str(refused.value)


def test_links_from_a_file_are_for_clicks_from_a_file() -> None:
    with pytest.raises(UsageError, match="--links: expected with --source FILE"):
        ReplayOptions(TimeRange(), "topic", (), links=Path("links.jsonl"))
