"""The report: report.json with figures and every step's result, report.html with tables and plots.

The page needs no network and no script. What wasn't run isn't shown.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from models.evaluation import plots
from models.evaluation.laboratory import Scale
from models.evaluation.report_tables import TABLES, Table
from models.evaluation.summary import NOTE, figures
from models.evaluation.targets import Target, targets

Json = dict[str, Any]

_PLOTS: tuple[tuple[str, str, str, Callable[[Any], bytes]], ...] = (
    ("learning", "learning", "Few labels: conversions over the number of labelled rows", plots.learning),
    ("teachers", "main", "Teachers: labels against the embedding", plots.teachers),
    ("signal", "signal", "Signal strength: how much of the gap is closed", plots.signal),
    ("reliability", "student", "Calibration of the student on test visitors", plots.reliability),
    ("abstention", "student", "Abstention: right answers over the share answered", plots.abstention),
    ("map", "map", "The embedding in the plane (t-SNE), coloured by latent intent", plots.embedding_map),
    ("confusion", "student", "Confusion of the student with latent intents", plots.confusion),
)
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1d2430}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.4rem}
table{border-collapse:collapse;margin:.6rem 0;font-size:13px}
th,td{padding:.25rem .7rem;border-bottom:1px solid #e4e6ea;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:#5a6372;font-weight:600}
.yes{color:#2c7a47}.no{color:#b03a2e}.note{color:#5a6372;font-size:13px}
figure{margin:1rem 0}img{max-width:100%}.scroll{overflow-x:auto}
"""


def write_report(out: Path, results: Mapping[str, Json], scale: Scale) -> None:
    """Writes report.json, report.html and the plots beside them."""
    out.mkdir(parents=True, exist_ok=True)
    document = {"scale": scale.as_dict(), "note": NOTE, "figures": figures(results), "results": dict(results)}
    (out / "report.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    drawn = [(name, title, draw(results[step])) for name, step, title, draw in _PLOTS if step in results]
    for name, _, png in drawn:
        (out / f"{name}.png").write_bytes(png)
    (out / "report.html").write_text("\n".join(_page(results, scale, drawn)) + "\n", encoding="utf-8")


def _page(
    results: Mapping[str, Json], scale: Scale, drawn: Iterable[tuple[str, str, bytes]]
) -> Iterable[str]:
    yield "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Evaluation</title>"
    yield f"<style>{_STYLE}</style></head><body><h1>Evaluation</h1>"
    yield f"<p class='note'>{escape(NOTE)}.</p>"
    yield (
        f"<p class='note'>{scale.visitors:,} visitors a world, seeds {', '.join(map(str, scale.seeds))};"
        f" 95 % intervals from {scale.draws:,} draws of seeds and visitors, in brackets; visitors are split"
        " 60/15/25 by a hash; everything is fitted on training and validation visitors.</p>"
    )
    yield from _targets(targets(results))
    for step, tables in TABLES.items():
        if step in results:
            for table in tables(results[step]):
                yield from _table(table)
    for _, title, png in drawn:
        image = base64.b64encode(png).decode()
        yield f"<h2>{escape(title)}</h2>"
        yield f"<figure><img alt='{escape(title)}' src='data:image/png;base64,{image}'></figure>"
    yield "</body></html>"


def _targets(found: list[Target]) -> Iterable[str]:
    if not found:
        return
    yield "<h2>What was to be reached</h2><div class='scroll'><table>"
    yield "<tr><th>target</th><th>found</th><th>reached</th></tr>"
    for target in found:
        word, style = ("yes", "yes") if target.reached else ("no", "no")
        yield (
            f"<tr><td>{escape(target.text)}</td><td>{escape(target.found)}</td>"
            f"<td class='{style}'>{word}</td></tr>"
        )
    yield "</table></div>"


def _table(table: Table) -> Iterable[str]:
    yield f"<h2>{escape(table.title)}</h2>"
    if table.note:
        yield f"<p class='note'>{escape(table.note)}</p>"
    yield "<div class='scroll'><table><tr>"
    yield "".join(f"<th>{escape(name)}</th>" for name in table.columns) + "</tr>"
    for row in table.rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</table></div>"
