"""A Grafana dashboard of all metrics of a worker: a panel each, what it shows by the metric's type.

Meanings are the catalogue's own; here is only in which row a metric is, and which label tells its lines
apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, Final

import orjson
from prometheus_client.core import Metric

from streamer.worker.drift import drift_families
from streamer.worker.metrics import Metrics

ROWS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "Is it keeping up?": {
            "streamer_consumer_lag": "partition",
            "streamer_watermark_lag_seconds": "partition",
            "streamer_clicks": "end",
            "streamer_clicks_lost": "partition",
            "streamer_unrecovered_partitions": "instance",
            "streamer_unread_partitions": "instance",
        },
        "Sessions": {
            "streamer_sessions_closed": "reason",
            "streamer_open_sessions": "partition",
            "streamer_open_clicks": "partition",
            "streamer_held_sessions": "partition",
            "streamer_sessions_revised": "partition",
            "streamer_provisional_records": "instance",
            "streamer_score_seconds": "",
            "streamer_shadow_failures": "instance",
        },
        "Dead letters and clocks": {
            "streamer_dead_letters": "reason",
            "streamer_clock_behind": "partition",
            "streamer_watermark_seconds": "partition",
            "streamer_source_position": "partition",
        },
        "Commits": {
            "streamer_commit_seconds": "",
            "streamer_commit_interval_seconds": "instance",
            "streamer_commits_failed": "instance",
            "streamer_recovery_seconds": "",
        },
        "Customers, and clicks that are not keyed by visitor": {
            "streamer_stage_lag": "stage",
            "streamer_stage_keys": "stage",
            "streamer_stage_unrecovered_partitions": "stage",
            "streamer_stage_commit_seconds": "stage",
            "streamer_attributed_sessions": "attribution",
            "streamer_identity_events": "event",
            "streamer_repartitioned_records": "end",
        },
        "Drift": {
            "streamer_drift_psi": "part",
            "streamer_drift_level": "part",
            "streamer_unknown_value_share": "field",
            "streamer_drift_sessions": "instance",
        },
        "Registry": {
            "streamer_registry_waiting_seconds": "instance",
            "streamer_registry_requests": "outcome",
        },
        "Traces": {
            "streamer_trace_spans": "outcome",
            "streamer_trace_contexts_malformed": "instance",
        },
        "Process": {
            "process_cpu_seconds": "instance",
            "process_resident_memory_bytes": "instance",
            "process_open_fds": "instance",
        },
    }
)
"""Metrics by row, each with the label by which its lines are told apart; none: quantiles over all."""
_LEFT_OUT: Final = (
    "process_virtual_memory_bytes",
    "process_max_fds",
    "process_start_time_seconds",
)
"""They say nothing of how it goes."""
_QUANTILES = (0.5, 0.99)
_WIDTH, _HEIGHT, _COLUMNS = 8, 7, 3
_UNITS = {"seconds": "s", "bytes": "bytes", "share": "percentunit"}


def families() -> dict[str, Metric]:
    """All metrics that a worker may have, but those that say nothing, by name without a counter's suffix."""
    collected: Iterable[Metric] = chain(Metrics().registry.collect(), drift_families())
    return {each.name: each for each in collected if each.name not in _LEFT_OUT}


def expressions(family: Metric, by: str) -> list[str]:
    """What a panel draws of a metric."""
    name, chosen = family.name, '{job=~"$job", instance=~"$instance"}'
    if family.type == "counter":
        return [f"sum by ({by}) (rate({name}_total{chosen}[$__rate_interval]))"]
    if family.type == "histogram":
        labels = f"le, {by}" if by else "le"
        rates = f"sum by ({labels}) (rate({name}_bucket{chosen}[$__rate_interval]))"
        return [f"histogram_quantile({quantile}, {rates})" for quantile in _QUANTILES]
    return [f"max by ({by}) ({name}{chosen})" if _is_level(name) else f"sum by ({by}) ({name}{chosen})"]


def dashboard_json() -> str:
    """A dashboard that Grafana imports."""
    document = {
        "title": "Clicks to intent",
        "uid": "clicks-to-intent",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_datasource(), _variable("job"), _variable("instance")]},
        "panels": list(_panels()),
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _is_level(name: str) -> bool:
    """Of what partitions, or workers, have each: a sum means nothing."""
    return name.endswith(("_seconds", "_lag", "_psi", "_level", "_share", "_position", "_partitions"))


def _panels() -> Iterator[dict[str, Any]]:
    known, y, number = families(), 0, 0
    for row, metrics in ROWS.items():
        number += 1
        yield {"id": number, "type": "row", "title": row, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}
        y += 1
        here = [each for each in metrics.items() if each[0] in known]  # of processes: on Linux only
        for place, (name, by) in enumerate(here):
            number += 1
            column, line = place % _COLUMNS, place // _COLUMNS
            at = {"x": column * _WIDTH, "y": y + line * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            yield {"id": number, "gridPos": at, **_panel(known[name], by)}
        y += (len(here) + _COLUMNS - 1) // _COLUMNS * _HEIGHT


def _panel(family: Metric, by: str) -> dict[str, Any]:
    legends = [f"{{{{{by}}}}}"] if by else [""]
    if family.type == "histogram":
        legends = [f"p{quantile * 100:g} {legends[0]}".strip() for quantile in _QUANTILES]
    unit = _UNITS.get(family.name.rpartition("_")[2], "short")
    if family.type == "counter":
        unit = "percentunit" if unit == "s" else "cps"
    return {
        "type": "timeseries",
        "title": family.name,
        "description": family.documentation,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": expr, "legendFormat": legend, "datasource": _DATASOURCE}
            for place, (expr, legend) in enumerate(zip(expressions(family, by), legends, strict=True))
        ],
    }


_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _variable(label: str) -> dict[str, Any]:
    return {
        "name": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": f"label_values(streamer_source_position, {label})",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
    }
