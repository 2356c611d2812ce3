"""The sections of a card on what was measured: metrics, slices, calibration, abstention, failures, drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamer.models.card.claims import (
    DRIFT,
    EVALUATION,
    MANIFEST,
    SLICES,
    Asked,
    Files,
    claim,
    claims,
    computed,
    declared,
)
from streamer.models.card.document import NOT_MEASURED, CardTable, Claim, Plot, Section
from streamer.models.evaluation import plots
from streamer.models.evaluation.report import targets
from streamer.models.evaluation.report_tables import slice_tables

_WORST = 5


def metrics(files: Files) -> Section:
    same = Asked("The evaluation's figures are those of this bundle's manifest", EVALUATION, "figures")
    return Section(
        "metrics",
        "How good it is",
        "Most figures are of the training recipe: trained anew on each seed's simulated visitors, tested on"
        " visitors that training never saw. 95 % intervals in brackets.",
        (
            *claims(files, "metrics"),
            *claims(files, "bundle"),
            computed(files, same, lambda figures: _same_figures(figures, files)),
            Claim("Real visitors of a bank", NOT_MEASURED, None, None),
        ),
    )


def _same_figures(figures: Mapping[str, Any], files: Files) -> str:
    of_bundle = files[MANIFEST].document["metrics"]
    if all(of_bundle.get(name) == value for name, value in figures.items()):
        return "yes"
    return "no: a recipe was measured, perhaps with other settings than this bundle's"


def slices(files: Files) -> Section:
    title, file = "For whom it is worse", files.get(SLICES)
    if file is None:
        return Section("slices", title, claims=(claim(files, Asked("Metrics by slice", SLICES, "cells")),))
    result = file.document
    return Section(
        "slices",
        title,
        f"Of this bundle itself, on {result['data']}. A slice is compared with the other sessions of its"
        f" table: {result['tests']} tests, p after Holm's correction for all of them; a gap without a mark"
        " may be chance. Label right, and claimed - right: of sessions that get a label. Gains are over the"
        " app's own features. Better is more; of claimed - right nearer to 0; of no label less.",
        (
            claim(files, Asked("Tests", SLICES, "tests")),
            computed(files, Asked("Gaps to a slice's disadvantage", SLICES, "cells"), _disadvantages),
        ),
        tuple(
            CardTable(each.title, each.columns, each.rows, SLICES, f"{file.prefix}cells")
            for each in slice_tables(result)
        ),
    )


def _disadvantages(cells: list[Mapping[str, Any]]) -> str:
    return str(sum(cell["verdict"] == "worse" for cell in cells))


def calibration(files: Files) -> Section:
    claimed = claim(files, Asked("", MANIFEST, "metrics/distillation/reliability")).figure
    error = claim(files, Asked("", MANIFEST, "metrics/distillation/ece")).figure
    tables: tuple[CardTable, ...] = ()
    drawn: tuple[Plot, ...] = ()
    if claimed and error is not None:
        rows = tuple((f"{p['claimed']:.3f}", f"{p['given']:.3f}", f"{p['sessions']:,}") for p in claimed)
        columns = ("probability claimed", "share of the teacher's answers", "sessions")
        caption = "Claimed and true, this bundle on its validation visitors, on whom it was calibrated"
        tables = (CardTable(caption, columns, rows, MANIFEST, "metrics/distillation/reliability"),)
        points = [{"claimed": p["claimed"], "right": p["given"], "rows": p["sessions"]} for p in claimed]
        plot = plots.reliability({"reliability": points, "ece": {"teacher": {"value": error}}})
        drawn = (Plot("Probability claimed against the share that came true", plot),)
    return Section("calibration", "Calibration", "", claims(files, "calibration"), tables, drawn)


def abstention(files: Files) -> Section:
    parts = claim(files, Asked("", MANIFEST, "profile/parts/abstention")).figure
    student = claim(files, Asked("", EVALUATION, "results/student")).figure
    tables: tuple[CardTable, ...] = ()
    if parts:
        total = sum(parts.values())
        names = {"none": "labelled"}
        rows = tuple(
            (names.get(n, n.replace("_", " ")), f"{c:,}", f"{c / total:.1%}") for n, c in parts.items()
        )
        caption = "This bundle on sessions held back from training"
        tables = (
            CardTable(caption, ("reason", "sessions", "share"), rows, MANIFEST, "profile/parts/abstention"),
        )
    drawn = (
        (Plot("Right answers over the share of sessions answered, the recipe", plots.abstention(student)),)
        if student
        else ()
    )
    return Section(
        "abstention",
        "Abstention",
        "No label is given where a session is too short, unlike anything learnt, or torn between labels.",
        claims(files, "abstention"),
        tables,
        drawn,
    )


def failures(files: Files) -> Section:
    results = claim(files, Asked("", EVALUATION, "results")).figure
    missed = [each for each in targets(results) if not each.reached] if results else []
    found = [Claim(f"Missed: {each.text}", each.found, EVALUATION, "results") for each in missed]
    tables = []
    file = files.get(SLICES)
    intents = claim(files, Asked("", SLICES, "by_intent")).figure
    if file is not None and intents:
        at = f"{file.prefix}by_intent"
        worst = sorted(intents, key=lambda each: each["right"])[:_WORST]
        rows = tuple(
            (each["intent"], ", ".join(each["labels"]), f"{each['sessions']:,}", f"{each['right']:.1%}")
            for each in worst
        )
        columns = ("true intent", "its label", "sessions with a label", "label right")
        tables.append(CardTable("Intents that it labels worst", columns, rows, SLICES, at))
        found += [
            Claim("Intents that share a label", f"{label}: {', '.join(names)}", SLICES, at)
            for label, names in _sharing(intents).items()
        ]
    if not found:
        found.append(claim(files, Asked("Targets that were missed", EVALUATION, "results")))
    return Section(
        "failures", "Known failures and limits", "", (*found, *declared(files, "limits")), tuple(tables)
    )


def _sharing(intents: list[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Labels that several intents have."""
    of_label: dict[str, list[str]] = {}
    for each in intents:
        for label in each["labels"]:
            of_label.setdefault(label, []).append(each["intent"])
    return {label: names for label, names in of_label.items() if len(names) > 1}


def drift(files: Files) -> Section:
    parts = claim(files, Asked("", DRIFT, "parts")).figure
    tables: tuple[CardTable, ...] = ()
    if parts:
        rows = tuple(
            (
                p["part"],
                f"{p['psi']:.3f} [{p['psi_interval'][0]:.3f}, {p['psi_interval'][1]:.3f}]",
                p["verdict"],
            )
            for p in parts
        )
        columns = ("part", "PSI", "verdict")
        tables = (CardTable("Population stability index of live traffic", columns, rows, DRIFT, "parts"),)
    return Section(
        "drift",
        "Stability and drift",
        "Above 0.1 a part of the traffic has moved, above 0.25 a lot. The last quarter of the simulated time"
        " has campaigns that training never saw.",
        claims(files, "stability"),
        tables,
    )
