"""The audit of labels: how often votes agree, what a second model says, and example sessions per intent.

Test-retest agreement compares the votes of one model on the same session; kappa corrects it for chance
(Fleiss 1971). Agreement doesn't show that labels are right: only people who read examples can judge that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from streamer.models.labelling.rendering import rendering
from streamer.models.labelling.teacher import OTHER, TeacherOutput, Vote
from streamer.models.taxonomy import Taxonomy
from streamer.models.whole_file import write_whole
from streamer.schemas.click import Session

EXAMPLES = 3
_PAIRS_SHOWN = 10

_SESSIONS = 2000
_CLEAR = 0.5


def agreement(pairs: Iterable[tuple[str, str]]) -> dict[str, float | int | None]:
    """Share of pairs that agree, and kappa; None where there is nothing to compare."""
    pairs = list(pairs)
    if not pairs:
        return {"pairs": 0, "agree": None, "kappa": None}
    observed = sum(a == b for a, b in pairs) / len(pairs)
    counts = Counter(label for pair in pairs for label in pair)
    chance = sum((n / (2 * len(pairs))) ** 2 for n in counts.values())
    kappa = (observed - chance) / (1 - chance) if chance < 1 else None
    rounded = None if kappa is None else round(kappa, 4)
    return {"pairs": len(pairs), "agree": round(observed, 4), "kappa": rounded}


def audit(
    taxonomy: Taxonomy,
    renderings: Sequence[str],
    cast: Sequence[Sequence[Vote]],
    seconded: Sequence[Sequence[Vote]],
    evidence_precision: float | None = None,
) -> dict[str, Any]:
    """The report on the labelled sessions; `seconded` are the second model's votes on the first of them."""
    firsts = [[vote[0] for vote in votes] for votes in cast]
    pairs = [pair for labels in firsts for pair in combinations(labels, 2)]
    tops = [top(votes) for votes in cast]
    known = [label for label in tops if label is not None]
    two = [(ours, theirs) for ours, theirs in zip(tops, map(top, seconded), strict=False) if ours and theirs]
    return {
        "sessions": len(cast),
        "without_usable_vote": tops.count(None),
        "share_without_vote": _share(label is None for label in tops),
        "evidence_precision": evidence_precision,
        "share_of_other": round(known.count(OTHER) / max(1, len(known)), 4),
        "share_with_two_intents": _share(len(vote) > 1 for votes in cast for vote in votes),
        "test_retest": agreement(pairs),
        "two_models": agreement(two),
        "confusions": _confusions(pairs),
        "intents": [
            _of_intent(intent.id, intent.label, renderings, firsts, tops) for intent in taxonomy.intents
        ],
    }


def top(votes: Sequence[Vote]) -> str | None:
    """The intent that most votes name first; of equals the one named earliest."""
    return Counter(vote[0] for vote in votes).most_common(1)[0][0] if votes else None


def _share(flags: Iterable[bool]) -> float:
    found = list(flags)
    return round(sum(found) / max(1, len(found)), 4)


def _confusions(pairs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    counts = Counter((min(a, b), max(a, b)) for a, b in pairs if a != b)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_PAIRS_SHOWN]
    return [{"intents": list(pair), "times": times} for pair, times in ranked]


def _of_intent(
    intent: str,
    label: str,
    renderings: Sequence[str],
    firsts: Sequence[Sequence[str]],
    tops: Sequence[str | None],
) -> dict[str, Any]:
    rows = [row for row, found in enumerate(tops) if found == intent]
    sure = [row for row in rows if set(firsts[row]) == {intent}]
    return {
        "id": intent,
        "label": label,
        "sessions": len(rows),
        "all_votes_agree": round(len(sure) / max(1, len(rows)), 4),
        "examples": [renderings[row] for row in (sure or rows)[:EXAMPLES]],
    }


def write_report(report: dict[str, Any], folder: Path) -> None:
    """`audit.json` for programs, `audit.md` for people."""
    write_whole(folder / "audit.json", json.dumps(report, indent=2).encode() + b"\n")
    write_whole(folder / "audit.md", as_text(report).encode())


def as_text(report: dict[str, Any]) -> str:
    """The report as Markdown, for the people who decide whether the taxonomy may be used."""
    retest, two = report["test_retest"], report["two_models"]
    lines = [
        "# Audit of the taxonomy",
        "",
        f"- Teacher: {report['teacher']}; taxonomy version {report['taxonomy_version']}",
        f"- Sessions labelled: {report['sessions']}, of them without a usable vote:"
        f" {report['without_usable_vote']}",
        f"- Share of `{OTHER}`: {report['share_of_other']:.1%}; votes with two intents:"
        f" {report['share_with_two_intents']:.1%}",
        f"- Test-retest: {_said(retest)}",
        f"- Two models: {_said(two)}",
        *_evidence(report["evidence_precision"]),
        *_notes(report.get("notes", {})),
        "",
        *_table(report["intents"], voted=retest["pairs"] > 0),
        "",
        "## Taken for each other",
        "",
        *(
            f"- `{a}` and `{b}`: {each['times']} times"
            for each in report["confusions"]
            for a, b in [each["intents"]]
        ),
        "",
        "## Examples",
    ]
    for each in report["intents"]:
        lines += ["", f"### {each['label']}"]
        for example in each["examples"]:
            lines += ["", *(f"    {line}" for line in example.splitlines())]
    return "\n".join(lines) + "\n"


def _table(intents: Sequence[dict[str, Any]], voted: bool) -> list[str]:
    """The last column, how often all votes agree, is there if sessions have several votes."""
    heads = ["intent", "sessions", *(["all votes agree"] if voted else [])]
    rows = [heads, ["---"] * len(heads)]
    for each in intents:
        row = [f"{each['label']} (`{each['id']}`)", str(each["sessions"])]
        rows.append([*row, *([f"{each['all_votes_agree']:.0%}"] if voted else [])])
    return [f"| {' | '.join(row)} |" for row in rows]


def _evidence(precision: float | None) -> list[str]:
    return [] if precision is None else [f"- Evidence that stands in the session: {precision:.1%}"]


def _notes(notes: Mapping[str, Any]) -> list[str]:
    """How clusters were found and named."""
    return [f"- {name.replace('_', ' ').capitalize()}: {value}" for name, value in notes.items()]


def _said(found: dict[str, Any]) -> str:
    if not found["pairs"]:
        return "not measured"
    return f"{found['agree']:.1%} of {found['pairs']} pairs agree, kappa {found['kappa']}"


def review(output: TeacherOutput, sessions: Sequence[Session]) -> dict[str, Any]:
    """The audit of clusters, on training sessions; one without a clear intent counts as `other`.

    The sessions were scrubbed when their clicks came in, and the report stays on the machine.
    """
    labels, ids = output.train, [intent.id for intent in output.taxonomy.intents]
    chosen = np.unique(np.linspace(0, len(labels.rows) - 1, _SESSIONS).astype(int))
    cast = [
        [(ids[int(given.argmax())],) if given.max() >= _CLEAR else (OTHER,)]
        for given in labels.probabilities[chosen]
    ]
    renderings = [rendering(sessions[row], str) for row in labels.rows[chosen]]
    about = {
        "teacher": output.taxonomy.teacher,
        "taxonomy_version": output.taxonomy.version,
        "notes": output.notes,
    }
    return {**about, **audit(output.taxonomy, renderings, cast, [])}
