"""The backtest as a page: no script, no network, everything escaped."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

Json = Mapping[str, Any]

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1d2430}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.4rem}h3{font-size:1rem;margin-top:1.4rem}
table{border-collapse:collapse;margin:.6rem 0;font-size:13px}
th,td{padding:.25rem .7rem;border-bottom:1px solid #e4e6ea;text-align:left;vertical-align:top}
th{color:#5a6372;font-weight:600}.note{color:#5a6372;font-size:13px}.scroll{overflow-x:auto}
"""
_COLOURS = ("#2f6db3", "#e08214", "#3a9a5b", "#c0392b", "#7b52ab", "#a0522d", "#c9a227", "#5f9ea0")
_OTHERS = "#c8ccd2"
_WIDTH, _HEIGHT = 900, 160


def page(document: Json) -> str:
    """The whole page."""
    return "\n".join(_page(document)) + "\n"


def _page(document: Json) -> Iterator[str]:
    yield "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Backtest</title>"
    yield f"<style>{STYLE}</style></head><body><h1>Backtest</h1>"
    replay = document["replay"]
    yield (
        f"<p class='note'>{replay['sessions']['selected']:,} sessions of {replay['clicks']['read']:,} clicks,"
        f" closed from {_time(replay['from'], 'the beginning')} to {_time(replay['to'], 'the end')}; rules"
        f" {escape(replay['rules_version'])}. The first bundle is what the others are held against.</p>"
    )
    for contrast in document["contrasts"]:
        yield from _contrast(contrast)
    yield from _shares(document["label_shares"])
    if document["outcomes"] is not None:
        yield from _outcomes(document["outcomes"])
    yield "</body></html>"


def _contrast(found: Json) -> Iterator[str]:
    sessions, flips, vectors = found["sessions"], found["flips"], found["vectors"]
    yield f"<h2>A: {escape(found['a'])}<br>B: {escape(found['b'])}</h2>"
    yield from table(
        ("", ""),
        [
            ("sessions that both scored", f"{sessions['both']:,}"),
            ("only A, only B", f"{sessions['only_a']:,}, {sessions['only_b']:,}"),
            ("labels that flipped", f"{flips['sessions']:,} ({percent(flips['share'])})"),
            *_vectors(vectors),
        ],
    )
    if not found["same_taxonomy"]:
        yield "<p class='note'>The taxonomies differ: a flip may be another name for the same intent.</p>"
    if flips["commonest"]:
        yield "<h3>Commonest flips</h3>"
        yield from table(
            ("A says", "B says", "sessions", "examples"),
            [(f["a"], f["b"], f"{f['sessions']:,}", _examples(f["examples"])) for f in flips["commonest"]],
        )


def _vectors(vectors: Json) -> Iterator[tuple[str, str]]:
    if "cosine" in vectors:
        quantiles = ", ".join(f"{q}: {value:.3f}" for q, value in vectors["cosine"].items())
        yield "cosine of A's and B's vectors, quantiles", quantiles
    elif "because" in vectors:
        yield "vectors", f"not comparable: {vectors['because']}"
    overlap = vectors["neighbour_overlap"]
    if overlap is not None:
        text = f"{percent(overlap['share'])} (by chance {percent(overlap['by_chance'])})"
        yield f"of the {overlap['neighbours']} nearest sessions, in both", text


def _examples(examples: Iterable[Json]) -> str:
    return "; ".join(
        f"{each['session_id'][:8]}: {' → '.join(each['paths'])}"
        f" ({each['probability_a']:.2f} / {each['probability_b']:.2f})"
        for each in examples
    )


def _shares(found: Json) -> Iterator[str]:
    yield "<h2>Label shares over time</h2>"
    totals: Counter[str] = Counter()
    for steps in found["bundles"].values():
        for counts in steps.values():
            totals.update(counts)
    named = [label for label, _ in totals.most_common(len(_COLOURS))]
    yield "<p class='note'>" + " ".join(
        f"<span style='color:{colour}'>■</span> {escape(label)}"
        for label, colour in [*zip(named, _COLOURS, strict=False), ("others", _OTHERS)]
    )
    yield "</p>"
    for model, steps in found["bundles"].items():
        yield f"<h3>{escape(model)}</h3>{_bars(steps, named)}"


def _bars(steps: Json, named: Sequence[str]) -> str:
    """A stacked bar a step, in shares; SVG."""
    width = _WIDTH / max(len(steps), 1)
    parts = []
    for place, (begin, counts) in enumerate(steps.items()):
        total, at = sum(counts.values()), 0.0
        others = total - sum(counts.get(label, 0) for label in named)
        values = [*((label, counts.get(label, 0)) for label in named), ("others", others)]
        for (label, count), colour in zip(values, [*_COLOURS[: len(named)], _OTHERS], strict=True):
            height = _HEIGHT * count / total if total else 0.0
            if count:
                text = escape(f"{_time(int(begin), '')} {label}: {count:,} of {total:,}")
                parts.append(
                    f"<rect x='{place * width:.2f}' y='{at:.2f}' width='{max(width - 1, 1):.2f}'"
                    f" height='{height:.2f}' fill='{colour}'><title>{text}</title></rect>"
                )
            at += height
    return f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' width='100%' role='img'>{''.join(parts)}</svg>"


def _outcomes(found: Json) -> Iterator[str]:
    yield f"<h2>Outcomes</h2><p class='note'>{found['sessions']:,} sessions of visitors with outcomes. 95 %"
    yield " intervals from a bootstrap over visitors, paired for changes; p after Holm.</p>"
    for task in ("tiles", "conversions"):
        result = found[task]
        yield f"<h3>{task.capitalize()}</h3>"
        if "skipped" in result:
            yield f"<p class='note'>Not measured: {escape(result['skipped'])}.</p>"
            continue
        rows = result["rows"]
        yield f"<p class='note'>{rows['train']:,} training, {rows['validation']:,} validation, "
        yield f"{rows['test']:,} test rows of {result['test_visitors']:,} visitors.</p>"
        for metric, by_name in result["metrics"].items():
            better = next(iter(by_name.values()))["better"]
            yield from table(
                (f"{metric.replace('_', ' ')} ({better} is better)", "value", "against the first", "p"),
                [_measured(name, entry) for name, entry in by_name.items()],
            )


def _measured(name: str, entry: Json) -> tuple[str, str, str, str]:
    value = f"{entry['value']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]"
    change = entry.get("against_first")
    if change is None:
        return name, value, "", ""
    text = f"{change['value']:+.1%} [{change['low']:+.1%}, {change['high']:+.1%}]"
    return name, value, text, f"{change['p_holm']:.4f}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "<div class='scroll'><table>"
    if any(columns):
        yield "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in columns) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</table></div>"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _time(at_ms: int | None, otherwise: str) -> str:
    return (
        otherwise
        if at_ms is None
        else dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).isoformat(" ", "minutes")
    )
