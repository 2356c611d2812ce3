"""Prometheus rules for what an operator has to know of: each alert with its bound and its runbook entry.

Expressions read the metrics of `streamer.worker.metrics` and `drift`, but for two of others: `up`, which
Prometheus makes itself, and the node exporter's file systems, for the brokers' disks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import yaml

from streamer.models.drift import MOVED_A_LOT, level_of

RUNBOOK = "docs/operations.md"
"""Has a heading of the name of each alert."""
Severity = Literal["page", "ticket"]


@dataclass(frozen=True)
class Alert:
    name: str
    expr: str
    hold: str
    """How long it has to be so, as Prometheus writes durations."""
    severity: Severity
    """`page`: sessions are late or lost until somebody acts; `ticket`: in working hours."""
    summary: str

    def rule(self, runbook: str) -> dict[str, Any]:
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.hold,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "runbook_url": f"{runbook}#{self.name.lower()}"},
        }


def _share(end: str, window: str) -> str:
    """Of the clicks that are received."""
    ended = f'sum(rate(streamer_clicks_total{{end="{end}"}}[{window}]))'
    return f'{ended} / sum(rate(streamer_clicks_total{{end="received"}}[{window}]))'


ALERTS = (
    Alert(
        "StreamerNoWorker",
        "absent(streamer_source_position)",
        "5m",
        "page",
        "No worker has a partition: no click is processed",
    ),
    Alert(
        "StreamerWorkerDown",
        'up{job="streamer"} == 0',
        "5m",
        "ticket",
        "{{ $labels.instance }} does not answer",
    ),
    Alert(
        "StreamerNotRecovered",
        "streamer_unrecovered_partitions > 0 or streamer_stage_unrecovered_partitions > 0",
        "10m",
        "page",
        "{{ $labels.instance }} has partitions without their state for 10 minutes",
    ),
    Alert(
        "StreamerLagGrows",
        "streamer_consumer_lag > 10000 and deriv(streamer_consumer_lag[15m]) > 0",
        "15m",
        "page",
        "Partition {{ $labels.partition }} is {{ $value }} clicks behind, and falls further behind",
    ),
    Alert(
        "StreamerStageLagGrows",
        "streamer_stage_lag > 10000 and deriv(streamer_stage_lag[15m]) > 0",
        "30m",
        "page",
        "Stage {{ $labels.stage }} is {{ $value }} records behind in partition {{ $labels.partition }}, and "
        "falls further behind",
    ),
    Alert(
        "StreamerWatermarkStands",
        "changes(streamer_watermark_seconds[30m]) == 0"
        ' and ignoring (end) increase(streamer_clicks_total{end="received"}[30m]) > 100',
        "15m",
        "ticket",
        "Clicks arrive in partition {{ $labels.partition }}, and its watermark stands: they are late or bad",
    ),
    Alert(
        "StreamerClicksLost",
        "increase(streamer_clicks_lost_total[15m]) > 0",
        "0m",
        "page",
        "Retention has deleted clicks of partition {{ $labels.partition }} before they were read",
    ),
    Alert(
        "StreamerDeadLettersRise",
        f"{_share('dead_lettered', '15m')} > 0.01",
        "15m",
        "ticket",
        "{{ $value | humanizePercentage }} of the clicks become dead letters",
    ),
    Alert(
        "StreamerLateClicksRise",
        f"{_share('late', '30m')} > 0.05",
        "30m",
        "ticket",
        "{{ $value | humanizePercentage }} of the clicks are late",
    ),
    Alert(
        "StreamerRebalanceStorm",
        "increase(streamer_recovery_seconds_count[30m]) > 6",
        "0m",
        "page",
        "{{ $labels.instance }} took shards over {{ $value | humanize }} times in half an hour",
    ),
    Alert(
        "StreamerCommitsFail",
        "increase(streamer_commits_failed_total[10m]) > 5",
        "10m",
        "page",
        "{{ $labels.instance }}: {{ $value | humanize }} transactions failed in ten minutes",
    ),
    Alert(
        "StreamerCommitsSlow",
        "histogram_quantile(0.99, sum by (le, instance) (rate(streamer_commit_seconds_bucket[10m]))) > 5",
        "15m",
        "ticket",
        "One commit of a hundred on {{ $labels.instance }} takes longer than {{ $value | humanize }} s",
    ),
    Alert(
        "StreamerDrift",
        f"streamer_drift_level == {level_of(MOVED_A_LOT)}",
        "1h",
        "ticket",
        "{{ $labels.part }} has moved far from what the bundle was trained on",
    ),
    Alert(
        "StreamerShadowFails",
        "increase(streamer_shadow_failures_total[1h]) > 0",
        "0m",
        "ticket",
        "The shadow bundle on {{ $labels.instance }} can't score sessions",
    ),
    Alert(
        "StreamerClockStepped",
        "increase(streamer_clock_behind_total[1h]) > 0",
        "0m",
        "ticket",
        "Records arrived behind the clock of partition {{ $labels.partition }}: a broker's stepped back",
    ),
    Alert(
        "StreamerRegistryAway",
        "streamer_registry_waiting_seconds > 60",
        "0m",
        "page",
        "Clicks on {{ $labels.instance }} have waited {{ $value | humanizeDuration }} for their schema",
    ),
    Alert(
        "StreamerUnreadPartitions",
        "streamer_unread_partitions > 0",
        "5m",
        "page",
        "{{ $value }} partitions were added to the clicks topic, and nobody reads them",
    ),
    Alert(
        "StreamerLinkFlood",
        'sum(rate(streamer_identity_events_total{event="link_taken"}[10m]))'
        ' / count(streamer_stage_keys{stage="attribution"}) > 20',
        "10m",
        "ticket",
        "{{ $value | humanize }} identity links arrive each second",
    ),
    Alert(
        "StreamerSessionsWithdrawn",
        'sum(rate(streamer_identity_events_total{event="session_withdrawn"}[30m]))'
        " / sum(rate(streamer_sessions_closed_total[30m])) > 0.05",
        "15m",
        "ticket",
        "Sessions are taken out of customers' records, {{ $value | humanizePercentage }} of those that close",
    ),
    Alert(
        "StreamerAmbiguousSessions",
        'sum(streamer_attributed_sessions{attribution="ambiguous"})'
        " / sum(streamer_attributed_sessions) > 0.2",
        "1h",
        "ticket",
        "{{ $value | humanizePercentage }} of the sessions may be of several customers",
    ),
    Alert(
        "StreamerBrokerDiskFills",
        'predict_linear(node_filesystem_avail_bytes{job="kafka-node"}[6h], 86400) < 0',
        "1h",
        "page",
        "The disk of {{ $labels.instance }} ({{ $labels.mountpoint }}) will be full within a day",
    ),
)


def rules_yaml(runbook: str = RUNBOOK) -> str:
    """A rule file. `runbook`: where the operations page is, for the links."""
    rules = [alert.rule(runbook) for alert in ALERTS]
    groups = {"groups": [{"name": "streamer", "rules": rules}]}
    text: str = yaml.safe_dump(groups, sort_keys=False, width=1_000)
    return text
