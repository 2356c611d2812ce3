"""Alerts fire when they should and only then, as Prometheus evaluates them; each has a runbook entry."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.operations.alerts import ALERTS, RUNBOOK, rules_yaml
from streamer.operations.dashboard import ROWS, dashboard_json, expressions, families
from tests.conftest import ROOT, RunStreamer

Series = Mapping[str, str]
"""Values a minute, as promtool writes them, by series."""
MINUTES = 120


def series(name: str, **labels: str) -> str:
    every = {"instance": "a", "job": "streamer", **labels}
    return name + "{" + ", ".join(f'{label}="{value}"' for label, value in every.items()) + "}"


POSITION = series("streamer_source_position", partition="0")
LAG = series("streamer_consumer_lag", partition="0")
STAGE_LAG = series("streamer_stage_lag", stage="users", partition="0")
WATERMARK = series("streamer_watermark_seconds", partition="0")
RECEIVED, DEAD, LATE = (
    series("streamer_clicks_total", partition="0", end=end) for end in ("received", "dead_lettered", "late")
)
LOST = series("streamer_clicks_lost_total", partition="0")
BEHIND = series("streamer_clock_behind_total", partition="0")
UP = series("up")
UNRECOVERED = series("streamer_unrecovered_partitions")
UNREAD = series("streamer_unread_partitions")
FAILED = series("streamer_commits_failed_total")
RECOVERIES = series("streamer_recovery_seconds_count")
FAST, SLOW, ALL = (series("streamer_commit_seconds_bucket", le=le) for le in ("0.05", "10", "+Inf"))
DRIFT_LEVEL = series("streamer_drift_level", part="intent")
SHADOW = series("streamer_shadow_failures_total")
WAITING = series("streamer_registry_waiting_seconds")
KEYS = series("streamer_stage_keys", stage="attribution", partition="0")
LINKS = series("streamer_identity_events_total", event="link_taken")
WITHDRAWN = series("streamer_identity_events_total", event="session_withdrawn")
CLOSED = series("streamer_sessions_closed_total", reason="gap")
BY_LOGIN, AMBIGUOUS = (
    series("streamer_attributed_sessions", partition="0", attribution=how) for how in ("login", "ambiguous")
)
DISK = series("node_filesystem_avail_bytes", instance="b", job="kafka-node", mountpoint="/var/lib/kafka")

HEALTHY: Series = {
    UP: "1x120",
    POSITION: "0+6000x120",
    LAG: "10 200 40 " * 40,
    STAGE_LAG: "3 30 1 " * 40,
    WATERMARK: "1795046400+60x120",
    RECEIVED: "0+6000x120",
    DEAD: "0+6x120",
    LATE: "0+60x120",
    LOST: "0x120",
    BEHIND: "0x120",
    UNRECOVERED: "2 0x120",
    UNREAD: "0x120",
    FAILED: "0x60 1x60",
    RECOVERIES: "1x60 3x60",
    FAST: "0+240x120",
    SLOW: "0+240x120",
    ALL: "0+240x120",
    DRIFT_LEVEL: "2 0x60 1x59",
    SHADOW: "0x120",
    WAITING: "0x120",
    KEYS: "0+10x120",
    LINKS: "0+60x120",
    WITHDRAWN: "0+1x120",
    CLOSED: "0+900x120",
    BY_LOGIN: "0+400x120",
    AMBIGUOUS: "0+20x120",
    DISK: "500000000000-1000000x120",
}

FIRES: Mapping[str, Series] = {
    "StreamerNoWorker": {POSITION: "0+6000x100"},
    "StreamerWorkerDown": {UP: "1x110 0x10"},
    "StreamerNotRecovered": {UNRECOVERED: "0x105 1x15"},
    "StreamerLagGrows": {LAG: "0+300x120"},
    "StreamerStageLagGrows": {STAGE_LAG: "0+300x120"},
    "StreamerWatermarkStands": {WATERMARK: "1795046400x120"},
    "StreamerClicksLost": {LOST: "0x110 7x10"},
    "StreamerDeadLettersRise": {DEAD: "0x80 0+90x40"},
    "StreamerLateClicksRise": {LATE: "0x20 0+400x100"},
    "StreamerRebalanceStorm": {RECOVERIES: "1x90 1+0.5x30"},
    "StreamerCommitsFail": {FAILED: "0x90 0+1x30"},
    "StreamerCommitsSlow": {FAST: "0x120"},
    "StreamerDrift": {DRIFT_LEVEL: "0x40 2x80"},
    "StreamerShadowFails": {SHADOW: "0x110 1x10"},
    "StreamerClockStepped": {BEHIND: "0x90 12x30"},
    "StreamerRegistryAway": {WAITING: "0x118 61x2"},
    "StreamerUnreadPartitions": {UNREAD: "0x110 2x10"},
    "StreamerLinkFlood": {LINKS: "0x80 0+1500x40"},
    "StreamerSessionsWithdrawn": {WITHDRAWN: "0x60 0+60x60"},
    "StreamerAmbiguousSessions": {AMBIGUOUS: "0+120x120"},
    "StreamerBrokerDiskFills": {DISK: "500000000000-800000000x120"},
}
"""What is otherwise than with the healthy worker."""
QUIET: Mapping[str, Series] = {
    "StreamerNoWorker": {POSITION: "0+6000x60 _x3 378000+6000x57"},
    "StreamerWorkerDown": {UP: "1x116 0x4"},
    "StreamerNotRecovered": {UNRECOVERED: "0x112 1x8"},
    "StreamerLagGrows": {LAG: "900000-1000x120"},
    "StreamerStageLagGrows": {STAGE_LAG: "900000-1000x120"},
    "StreamerWatermarkStands": {
        WATERMARK: "1795046400x120",
        RECEIVED: "0+1x120",
        DEAD: "0x120",
        LATE: "0x120",
    },
    "StreamerClicksLost": {LOST: "7x120"},
    "StreamerDeadLettersRise": {DEAD: "0x80 0+50x40"},
    "StreamerLateClicksRise": {LATE: "0x20 0+250x100"},
    "StreamerRebalanceStorm": {RECOVERIES: "1x90 2x5 3x5 4x20"},
    "StreamerCommitsFail": {FAILED: "0x90 3x30"},
    "StreamerCommitsSlow": {FAST: "0+238x120"},
    "StreamerDrift": {DRIFT_LEVEL: "1x70 2x50"},
    "StreamerShadowFails": {SHADOW: "5x120"},
    "StreamerClockStepped": {BEHIND: "0x20 12x100"},
    "StreamerRegistryAway": {WAITING: "0x118 59x2"},
    "StreamerUnreadPartitions": {UNREAD: "0x116 2x4"},
    "StreamerLinkFlood": {LINKS: "0x80 0+1000x40"},
    "StreamerSessionsWithdrawn": {WITHDRAWN: "0x60 0+40x60"},
    "StreamerAmbiguousSessions": {AMBIGUOUS: "0+80x120"},
    "StreamerBrokerDiskFills": {DISK: "500000000000-200000000x120"},
}
"""The same, but not so far, or not for so long."""


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool (Debian: prometheus)")
    return found


def evaluated(promtool: str, folder: Path, tests: list[dict[str, Any]]) -> None:
    (folder / "rules.yml").write_text(rules_yaml())
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (folder / "tests.yml").write_text(yaml.safe_dump(document))
    accepted(folder, promtool, "test", "rules", "tests.yml")


def accepted(folder: Path, *command: str) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def firing(different: Series, *names: str) -> dict[str, Any]:
    """A test that these alerts fire in the end, and no other, with a worker that is healthy but for that."""
    given = {**HEALTHY, **different}
    firing = {f'ALERTS{{alertname="{name}", alertstate="firing"}}': 1 for name in names}
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values.strip()} for name, values in given.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (__name__, alertname, alertstate) (ALERTS{alertstate="firing"})',
                "eval_time": f"{MINUTES}m",
                "exp_samples": [{"labels": labels, "value": count} for labels, count in firing.items()],
            }
        ],
    }


def test_with_a_healthy_worker_no_alert_fires(promtool: str, tmp_path: Path) -> None:
    evaluated(promtool, tmp_path, [firing({})])


def test_each_alert_fires_and_none_but_it(promtool: str, tmp_path: Path) -> None:
    evaluated(promtool, tmp_path, [firing(different, name) for name, different in FIRES.items()])


def test_no_alert_fires_for_less_or_for_a_shorter_time(promtool: str, tmp_path: Path) -> None:
    evaluated(promtool, tmp_path, [firing(different) for different in QUIET.values()])


def test_every_alert_is_tried() -> None:
    names = {alert.name for alert in ALERTS}
    assert set(FIRES) == names
    assert set(QUIET) == names


def test_alerts_ask_for_metrics_that_there_are() -> None:
    known = families()
    exposed = {name + suffix for name, each in known.items() for suffix in _SUFFIXES[each.type]}
    for alert in ALERTS:
        asked = set(re.findall(r"streamer_\w+", alert.expr))
        assert asked <= exposed, alert.name


_SUFFIXES = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def test_every_alert_has_an_entry_in_the_runbook() -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / RUNBOOK).read_text(), re.MULTILINE)
    for alert in ALERTS:
        assert alert.name in headings
    entries = {heading for heading in headings if heading.startswith("Streamer")}
    assert entries == {alert.name for alert in ALERTS}


def test_every_metric_is_on_the_dashboard_once() -> None:
    placed = [name for row in ROWS.values() for name in row]
    assert sorted(placed) == sorted(families())


def test_what_the_dashboard_asks_for_can_be_evaluated(promtool: str, tmp_path: Path) -> None:
    known, rules = families(), []
    for row in ROWS.values():
        for name, by in row.items():
            for place, expr in enumerate(expressions(known[name], by)):
                filled = (
                    expr.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "5m")
                )
                rules.append({"record": f"panel:{name}:{place}", "expr": filled})
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    accepted(tmp_path, promtool, "check", "rules", "panels.yml")


def test_the_files_in_the_repository_are_current() -> None:
    """`make monitoring` writes them."""
    assert (ROOT / "deploy/prometheus/streamer.rules.yml").read_text() == rules_yaml()
    assert (ROOT / "deploy/grafana/streamer.json").read_text() == dashboard_json()


def test_the_command_prints_them_with_links_to_ones_own_runbook(run_streamer: RunStreamer) -> None:
    rules = run_streamer("metrics", "rules", "--runbook", "https://wiki.example/streamer")
    assert rules.returncode == 0, rules.stderr
    (group,) = yaml.safe_load(rules.stdout)["groups"]
    links = [rule["annotations"]["runbook_url"] for rule in group["rules"]]
    assert links == [f"https://wiki.example/streamer#{alert.name.lower()}" for alert in ALERTS]
    assert run_streamer("metrics", "dashboard").stdout == dashboard_json()
