"""`streamer erase`: whom it takes, and what `--verify` finds by reading all topics."""

from __future__ import annotations

import gzip
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import UsageError
from streamer.kafka.erase import checked_visitors, listed_visitors
from tests.conftest import FreshSettings, RunStreamer
from tests.worker import live


@pytest.mark.parametrize(
    ("visitors", "reason"),
    [
        ([], "nobody to erase"),
        (["v", ""], "visitor 2 has 0 bytes"),
        (["v" * 257], "visitor 1 has 257 bytes, expected 1 to 256"),
        (["\udcff"], "visitor 1 is not UTF-8"),
    ],
)
def test_a_visitor_that_no_click_can_have_is_refused_unprinted(visitors: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        checked_visitors(visitors)
    assert "vv" not in str(caught.value)


def test_each_visitor_is_erased_once() -> None:
    assert checked_visitors(["b", "a", "b"]) == ["b", "a"]


@pytest.mark.parametrize(
    "content",
    [
        b"anna\nbert\ncarla",
        "\ufeffanna\r\n\r\nbert\r\ncarla\r\n".encode(),
        "\ufeffanna\n\ufeffbert\ncarla\n".encode(),  # two lists, joined
        gzip.compress(b"anna\nbert\ncarla\n", mtime=0),
    ],
)
def test_a_list_names_the_same_visitors_however_it_was_saved(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    assert listed_visitors(str(path)) == ["anna", "bert", "carla"]


@pytest.mark.parametrize(
    "line", ["bert ", " bert", "be\ufeffrt", "be\u00adrt", "bert\u200b", "bert\u2028", "bert\t", "anna\rbert"]
)
def test_a_list_is_refused_where_an_id_is_not_what_it_looks_like(tmp_path: Path, line: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(f"anna\n{line}\n".encode())
    with pytest.raises(UsageError, match=r"list.txt, line 2: has invisible characters, or spaces") as caught:
        listed_visitors(str(path))
    assert "bert" not in str(caught.value)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("anna\nbert\n".encode("utf-16"))
    with pytest.raises(UsageError, match="is UTF-16; expected one visitor_id a line in UTF-8"):
        listed_visitors(str(path))
    path.write_bytes(b"anna\n\xe9ric\n")
    with pytest.raises(UsageError, match="line 2: is not UTF-8"):
        listed_visitors(str(path))


def test_verify_reads_all_topics(fresh_settings: FreshSettings, run_streamer: RunStreamer) -> None:
    settings = fresh_settings()
    clicks = live.some_clicks(30, seed=31)
    live.set_up(settings)
    live.send(settings, [*live.as_messages(clicks), (b"v3", b"garbage")])
    in_clicks = sum(click["visitor_id"] in ("v3", "v4") for click in clicks) + 1

    def erase(*arguments: str, stdin: str = "") -> tuple[int, Any]:
        done = run_streamer("erase", *arguments, "--verify", "--json", settings=settings, stdin=stdin)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    worker = live.Worker(settings)
    live.wait_until(lambda: len(live.published(settings)) > 5)
    live.wait_until(lambda: live.committed(settings, settings.topics.dlq).records)
    code, now = erase("--visitor", "v3", "--visitor", "v4", "--dry-run")
    assert (code, now["moment"], now["taken_in"]) == (1, None, None)
    assert now["open_sessions"] + now["latest_intents"] > 0
    code, report = erase("--file", "-", stdin="v3\nv4\n")
    assert (code, report["visitors"], report["taken_in"]) == (0, 2, True), worker.log
    assert (report["open_sessions"], report["latest_intents"], report["unknown"]) == (0, 0, 0)
    left = {topic["topic"]: topic for topic in report["left"]}
    assert left[settings.topics.clicks]["records"] == in_clicks
    assert left[settings.topics.clicks]["kept_until"] > report["moment"]
    assert left[settings.topics.dlq]["records"] == 1
    assert left[settings.topics.late]["kept_until"] is None
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    code, report = erase("--visitor", "v5", "--visitor", "v5 ", "--timeout", "0")
    assert (code, report["taken_in"], report["unknown"]) == (1, False, 1)
