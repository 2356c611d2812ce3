"""Metrics of drift, computed when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamer.models.drift import DriftMonitor

_PSI = "Distance of the last sessions from the bundle's reference: above 0.1 moved, above 0.25 moved a lot"
_LEVEL = "What that distance asks for: 0 nothing, 1 a look, 2 a new bundle"
_UNKNOWN = "Share of the last sessions' values that the bundle's vocabulary lacks"


def drift_families() -> list[GaugeMetricFamily]:
    """Sessions, distances, levels and unknown values, without any of these yet."""
    return [
        GaugeMetricFamily("streamer_drift_sessions", "Sessions that drift is measured on"),
        GaugeMetricFamily("streamer_drift_psi", _PSI, labels=["part"]),
        GaugeMetricFamily("streamer_drift_level", _LEVEL, labels=["part"]),
        GaugeMetricFamily("streamer_unknown_value_share", _UNKNOWN, labels=["field"]),
    ]


class DriftCollector(Collector):
    """Gauges of one monitor."""

    def __init__(self, monitor: DriftMonitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterable[Metric]:
        sessions, distance, levels, unknown = found = drift_families()
        sessions.add_metric([], self._monitor.sessions)
        for part, value in self._monitor.psi().items():
            distance.add_metric([part], value)
        for part, level in self._monitor.levels().items():
            levels.add_metric([part], level)
        for field, share in self._monitor.unknown_shares().items():
            unknown.add_metric([field], share)
        return found
