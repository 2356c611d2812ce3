"""The plots of the report: results of steps in, PNG bytes out; the same results give the same bytes.

No pyplot: nothing is global, and no display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from streamer.models.drift import MOVED, MOVED_A_LOT

Json = Mapping[str, Any]

BLUE, ORANGE, GREEN, RED, GREY, PURPLE = "#2f6db3", "#e08214", "#3a9a5b", "#c0392b", "#8a8f98", "#7b52ab"
COLOURS = {
    "embedding": BLUE,
    "ours": BLUE,
    "coles": GREEN,
    "both": PURPLE,
    "distilled_soft": GREEN,
    "distilled_hard": "#8cc9a1",
    "teacher": ORANGE,
    "keyless": "#c9a227",
    "bag": "#a0522d",
    "bag_trees": RED,
    "app_only": GREY,
    "oracle": "#333333",
}
DPI = 110
_PARTS = 6
"""Of a profile, in one plot."""


def reliability(student: Json) -> bytes:
    """Claimed against true shares, with how many sessions claim as much."""
    figure, (axes, below) = _figure(4.6, 5.0, rows=2, heights=(4, 1))
    points = student["reliability"]
    claimed = [point["claimed"] for point in points]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    axes.plot(claimed, [point["right"] for point in points], color=BLUE, marker="o", markersize=4)
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of the teacher's answers")
    axes.set_title(f"ECE {student['ece']['teacher']['value']:.3f}", loc="left", fontsize=10)
    below.bar(claimed, [point["rows"] for point in points], width=0.05, color=BLUE, alpha=0.5)
    below.set(xlim=(0, 1), xlabel="probability claimed", ylabel="sessions")
    return _png(figure)


def abstention(student: Json) -> bytes:
    figure, (axes,) = _figure(5.2, 3.6)
    for name, colour, label in (
        ("against_teacher", BLUE, "as the teacher says"),
        ("against_truth", ORANGE, "as the latent intent is"),
    ):
        curve = student["abstention"][name]
        axes.plot([p["answered"] for p in curve], [p["accuracy"] for p in curve], color=colour, label=label)
    axes.set(xlim=(0, 1), xlabel="share of sessions answered, the surest first", ylabel="right")
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def learning(result: Json) -> bytes:
    """Micro F1 over the number of labels, with intervals."""
    figure, (axes,) = _figure(6.2, 4.0)
    labels = [point["labels"] for point in result["points"]]
    for name in result["points"][0]["micro_f1"]:
        points = [point for point in result["points"] if name in point["micro_f1"]]
        _band(axes, [p["labels"] for p in points], [p["micro_f1"][name] for p in points], name)
    axes.set_xscale("log")
    axes.set_xticks(labels, [f"{count:,}" for count in labels], fontsize=7)
    axes.minorticks_off()
    axes.set(xlabel="labelled rows", ylabel="micro F1, conversions")
    axes.legend(frameon=False, fontsize=7, ncols=2)
    return _png(figure)


def scaling(result: Json) -> bytes:
    """Share of the gap closed over sessions to pretrain on, both tasks; hollow: other numbers of epochs."""
    figure, (axes,) = _figure(6.2, 4.0)
    name, bundle = "embedding_and_memberships", result["bundle"]
    # Of too few sessions there are no prototypes.
    points = [point for point in result["points"] if name in point["conversions"]["micro_f1"]]
    same = [point for point in points if point["epochs"] == bundle["epochs"]]
    others = [point for point in points if point["epochs"] != bundle["epochs"]]
    sessions = [point["sessions"] for point in same]
    for task, metric, colour, label in (
        ("tiles", "log_loss", BLUE, "tiles, log loss"),
        ("conversions", "micro_f1", GREEN, "conversions, micro F1"),
    ):
        closed = [point[task][metric][name]["gap_closed"] for point in same]
        _band(axes, sessions, closed, label, colour)
        for point in others:
            at = point["sessions"], point[task][metric][name]["gap_closed"]["value"]
            axes.plot(*at, color=colour, marker="o", markersize=5, fillstyle="none", linestyle="")
            axes.annotate(f"{point['epochs']} epochs", at, (4, 4), textcoords="offset points", fontsize=6)
        if bundle["sessions"] is not None:
            at = bundle["sessions"], bundle[task][metric][name]["gap_closed"]["value"]
            axes.plot(*at, color=colour, marker="*", markersize=9, linestyle="", label=f"bundle, {task}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sessions, [f"{count:,}" for count in sessions], fontsize=7)
    axes.minorticks_off()
    axes.set(xlabel="sessions to pretrain on", ylabel="share of the gap closed")
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def signal(result: Json) -> bytes:
    """Share of the gap closed over signal strength, both tasks."""
    figure, (axes,) = _figure(5.2, 3.6)
    points = [point for point in result["points"] if point["signal_strength"] > 0]
    strengths = [point["signal_strength"] for point in points]
    for task, metric, colour, label in (
        ("tiles", "log_loss", BLUE, "tiles, log loss"),
        ("conversions", "micro_f1", GREEN, "conversions, micro F1"),
    ):
        closed = [point[task][metric]["embedding"]["gap_closed"] for point in points]
        _band(axes, strengths, closed, label, colour)
    axes.axhline(0.7, color=GREY, linewidth=1, linestyle="--")
    axes.set_xscale("log", base=2)
    axes.set_xticks(strengths, [f"{strength:g}" for strength in strengths])
    axes.set(xlabel="signal strength", ylabel="share of the gap closed", ylim=(0, 1.2))
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def teachers(main: Json) -> bytes:
    """Micro F1 over the teacher's accuracy."""
    figure, (axes,) = _figure(5.2, 3.6)
    curve = main["teacher_curve"]
    accuracies = [point["accuracy"] for point in curve]
    for name in ("embedding", "teacher", "distilled_hard", "distilled_soft", "both"):
        _band(axes, accuracies, [point[name] for point in curve], name)
    axes.set_xticks(accuracies, [f"{accuracy:.0%}" for accuracy in accuracies])
    axes.set(xlabel="how often the teacher is right", ylabel="micro F1, conversions")
    axes.legend(frameon=False, fontsize=7)
    return _png(figure)


def embedding_map(result: Json) -> bytes:
    figure, (axes,) = _figure(7.6, 5.4)
    points, names = np.array(result["points"], dtype=np.float64), result["names"]
    palette = _palette(len(names))
    for intent, name in enumerate(names):
        own = points[points[:, 2] == intent]
        axes.scatter(own[:, 0], own[:, 1], s=7, color=palette[intent], label=name, linewidths=0)
    axes.set(xticks=[], yticks=[])
    axes.legend(frameon=False, fontsize=6.5, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2)
    return _png(figure)


def confusion(student: Json) -> bytes:
    """Latent first intents in rows, the student's best in columns; rows add up to 1."""
    names = student["confusion"]["names"]
    counts = np.array(student["confusion"]["counts"], dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    figure, (axes,) = _figure(6.6, 6.0)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.set(xlabel="student's label", ylabel="latent first intent")
    axes.grid(False)
    return _png(figure)


def drift(days: Sequence[Json], since_ms: int | None) -> bytes:
    """The distance of each day from the reference, of the parts that went furthest; where the later period
    begins."""
    figure, (axes,) = _figure(7.6, 3.8)
    at = [_date(day["day"]) for day in days]
    furthest = {part: max(day["psi"][part] for day in days) for part in days[0]["psi"]}
    shown = sorted(furthest, key=lambda part: -furthest[part])[:_PARTS]
    for part, colour in zip(shown, _palette(len(shown)), strict=True):
        axes.plot(at, [day["psi"][part] for day in days], color=colour, marker="o", markersize=3, label=part)
    for bound, text in ((MOVED, "moved"), (MOVED_A_LOT, "moved a lot")):
        axes.axhline(bound, color=GREY, linewidth=1, linestyle="--")
        axes.annotate(text, (0.005, bound), xycoords=("axes fraction", "data"), fontsize=7, va="bottom")
    if since_ms is not None:
        axes.axvline(_date(since_ms), color=RED, linewidth=1)
    axes.set(ylabel="population stability index", ylim=(0, None))
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.xaxis_date("UTC")
    figure.autofmt_xdate()
    return _png(figure)


def _date(at_ms: int) -> float:
    """As matplotlib counts time: days since 1970."""
    return at_ms / 86_400_000


def calibration_drift(found: Json) -> bytes:
    """Probabilities of outcomes against the share that came true, in both periods."""
    figure, (axes,) = _figure(4.6, 4.2)
    highest = max(max(p["claimed"], p["right"]) for points in found.values() for p in points)
    axes.plot([0, highest], [0, highest], color=GREY, linewidth=1, linestyle="--")
    for period, colour in (("before", BLUE), ("after", RED)):
        points = found[period]
        axes.plot(
            [p["claimed"] for p in points],
            [p["right"] for p in points],
            color=colour,
            marker="o",
            markersize=4,
            label=period,
        )
    axes.set(xlabel="probability claimed", ylabel="share that came true")
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def _band(
    axes: Axes, x: Sequence[float], estimates: Sequence[Json], name: str, colour: str | None = None
) -> None:
    colour = colour or COLOURS.get(name, GREY)
    axes.plot(x, [e["value"] for e in estimates], color=colour, marker="o", markersize=3, label=name)
    low, high = [e["low"] for e in estimates], [e["high"] for e in estimates]
    if None not in low and None not in high:
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)


def _figure(
    width: float, height: float, rows: int = 1, heights: Sequence[float] = (1,)
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    found = figure.subplots(rows, 1, squeeze=False, gridspec_kw={"height_ratios": list(heights)})
    axes: list[Axes] = list(found[:, 0])
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(color="#e4e6ea", linewidth=0.6)
        each.set_axisbelow(True)
        each.tick_params(labelsize=8)
    return figure, axes


def _palette(count: int) -> list[tuple[float, float, float, float]]:
    from matplotlib import colormaps

    twenty = colormaps["tab20"]
    return [twenty(index % 20) for index in range(count)]


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
