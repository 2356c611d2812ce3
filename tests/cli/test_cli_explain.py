"""`streamer explain` as a process."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from streamer import sample
from streamer.core.rules import SessionRules
from streamer.replay.file_source import sessions_of_file
from tests.conftest import ROOT, RunStreamer

START_MS = 1_795_046_400_000
SEARCHED = "zebra finance"


@pytest.fixture
def one_session(tmp_path: Path) -> Path:
    """Clicks of one session, with a search."""
    steps = [
        ("page_view", "/loans/car/electric", None),
        ("search", "/search", SEARCHED),
        ("page_view", "/save-invest/saver", None),
        ("form_start", "/apply/saver", None),
    ]
    file = tmp_path / "clicks.jsonl"
    file.write_bytes(
        b"\n".join(
            orjson.dumps(
                {
                    "visitor_id": "v",
                    "timestamp": START_MS + 20_000 * at,
                    "event_id": f"e{at}",
                    "event_type": event_type,
                    "page_url": f"https://bank.example{path}",
                    "search_query": query,
                }
            )
            for at, (event_type, path, query) in enumerate(steps)
        )
    )
    return file


def test_a_table_has_a_line_for_each_click_and_none_of_what_was_typed(
    run_streamer: RunStreamer, one_session: Path
) -> None:
    result = run_streamer("explain", "--click-file", str(one_session))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].endswith("2026-11-19T00:00:00.000Z, 4 clicks, closed by drain")
    for shown in ("/loans/car/electric", "/search  (a search)", "/save-invest/saver", "/apply/saver"):
        assert sum(line.endswith(shown) for line in lines) == 1, shown
    assert any(line.endswith("  search_query") for line in lines)
    assert SEARCHED not in result.stdout + result.stderr


def test_the_page_about_it_shows_what_is_printed(run_streamer: RunStreamer) -> None:
    page = (ROOT / "docs/explain.md").read_text()
    command, _, shown = page.partition("```\n$ ")[2].partition("```")[0].partition("\n")
    assert "streamer/sample/clicks.jsonl.gz" in command
    file, session_id = str(sample.path()), command.split()[-1]
    assert run_streamer("explain", "--click-file", file, session_id).stdout == shown


def test_queries_are_shown_where_they_are_asked_for(run_streamer: RunStreamer, one_session: Path) -> None:
    result = run_streamer("explain", "--click-file", str(one_session), "--show-queries")
    assert f'"{SEARCHED}"' in result.stdout


def test_json_has_the_same_without_queries(run_streamer: RunStreamer, one_session: Path) -> None:
    found = json.loads(run_streamer("explain", "--click-file", str(one_session), "--json").stdout)
    assert len(found["clicks"]) == 4
    assert [each["has_query"] for each in found["clicks"]] == [False, True, False, False]
    assert SEARCHED not in json.dumps(found)
    assert {"path", "search_query"} <= set(found["fields"])
    contributions = [each["contribution"] for each in found["clicks"]]
    speak_for = (at for at, each in enumerate(contributions) if each > 0)
    assert found["strongest"] == sorted(speak_for, key=lambda at: -contributions[at])[:3]
    shown = json.loads(
        run_streamer("explain", "--click-file", str(one_session), "--json", "--show-queries").stdout
    )
    assert shown["clicks"][1]["search_query"] == SEARCHED


def test_of_several_sessions_one_is_chosen_by_its_id(run_streamer: RunStreamer) -> None:
    file = str(sample.path())
    several = run_streamer("explain", "--click-file", file)
    assert several.returncode == 2
    assert "has 497 sessions, expected the SESSION_ID of one" in several.stderr
    wanted = sessions_of_file(sample.path(), SessionRules()).sessions[7]
    assert wanted.visitor_id not in several.stderr
    chosen = run_streamer("explain", "--click-file", file, wanted.session_id, "--json")
    assert json.loads(chosen.stdout)["session"]["started_at"] == wanted.started_at


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "expected a SESSION_ID or --click-file F"),
        (["abc"], 2, "explain abc: expected a session_id, 32 hex digits"),
        (["--click-file", "no.jsonl"], 2, "no.jsonl"),
        (["--click-file", "clicks.jsonl", "--from", "2026-01-01"], 2, "expected no --from or --to"),
        (["--click-file", "clicks.jsonl", "0" * 32], 1, f"none of its 1 sessions is {'0' * 32}"),
        (["--click-file", "clicks.jsonl", "--clicks", "segment"], 1, "no session in it; of 4 clicks 4 can't"),
        (["--click-file", "clicks.jsonl", "--bundle", "no"], 1, "the model bundle no can't be used"),
    ],
    ids=["nothing", "no id", "no file", "times of a file", "unknown session", "another shape", "no bundle"],
)
def test_what_cannot_be_explained_is_a_clear_message(
    run_streamer: RunStreamer, one_session: Path, arguments: list[str], code: int, message: str
) -> None:
    result = run_streamer("explain", *arguments)
    assert result.returncode == code
    assert message in result.stderr
    assert len(result.stderr.splitlines()) <= 2
    assert result.stdout == ""


def test_the_nearest_labelled_sessions_come_from_a_replay_with_the_same_bundle(
    run_streamer: RunStreamer, tmp_path: Path
) -> None:
    file = str(sample.path())
    assert run_streamer("replay", "--source", file, "--out", "rows.parquet", "--no-users").returncode == 0
    rows = pq.read_table(tmp_path / "rows.parquet")
    labelled = rows.filter(rows["top_intent"].is_valid())["session_id"].to_pylist()
    run = ["explain", "--click-file", file, labelled[0], "--nearest", "rows.parquet"]
    found = json.loads(run_streamer(*run, "--json").stdout)["nearest"]
    assert len(found) == 5
    assert {each["session_id"] for each in found} <= set(labelled[1:])
    cosines = [each["cosine"] for each in found]
    assert cosines == sorted(cosines, reverse=True)
    shown = run_streamer(*run).stdout
    assert all(each["session_id"] in shown for each in found)

    others = rows.set_column(
        rows.schema.get_field_index("embedding_space"), "embedding_space", [["0" * 12] * len(rows)]
    )
    pq.write_table(others, tmp_path / "rows.parquet")
    refused = run_streamer(*run)
    assert refused.returncode == 2
    assert "has embeddings of space 000000000000, the bundle's is" in refused.stderr
