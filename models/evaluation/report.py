"""Reports as plain text tables; the JSON is the report itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADER = f"{'':<22}{'value':>24}{'vs app only':>30}{'p (Holm)':>10}{'gap closed':>26}"


def as_text(title: str, report: Mapping[str, Any]) -> str:
    """One table per metric, contenders as rows, 95 % intervals in brackets."""
    rows = report["rows"]
    lines = [
        f"{title}: {rows['train']:,} train, {rows['validation']:,} validation, {rows['test']:,} test rows"
        f" of {report['test_visitors']:,} visitors"
    ]
    for metric, by_name in report["metrics"].items():
        lines += ["", f"{metric:<22}{HEADER[22:]}"]
        lines += [_line(name, entry) for name, entry in by_name.items()]
    return "\n".join(lines)


def _line(name: str, entry: Mapping[str, Any]) -> str:
    cells = f"{name:<22}{_number(entry, '.4f'):>24}"
    change, gap = entry.get("vs_app_only"), entry.get("gap_closed")
    if change is not None:
        cells += f"{_number(change, '+.1%'):>30}{change['p_holm']:>10.4f}"
    if gap is not None:
        cells += f"{_number(gap, '.0%'):>26}"
    return cells


def _number(estimate: Mapping[str, float], form: str) -> str:
    value, low, high = (format(estimate[key], form) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
