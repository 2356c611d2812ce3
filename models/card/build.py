"""A card from a bundle and the files that were measured of it: sections, the four answers first, and what
texts ask of such a model."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from streamer.models.bundle import MANIFEST as MANIFEST_FILE
from streamer.models.bundle import Bundle
from streamer.models.card import measured, sections
from streamer.models.card.claims import (
    DRIFT,
    EVALUATION,
    MANIFEST,
    SLICES,
    STATEMENTS,
    Files,
    claims,
)
from streamer.models.card.document import NOT_MEASURED, Answer, Card, Framework, Requirement, Section, Source
from streamer.models.card.evidence import Evidence, EvidenceError
from streamer.models.evaluation.report_tables import SLICE_METRICS
from streamer.models.evaluation.slices import scoring_files

_LISTS = ("intended", "refused", "consent", "limits")
_MOST_SLICES = 8
_SAID_OF = {
    "label_right": "labels that it gives are right in {value} of sessions, elsewhere in {rest}",
    "abstained": "{value} of sessions get no label, elsewhere {rest}",
    "tile_log_loss_gain": "rankings of tiles gain {value} nats, elsewhere {rest}",
    "conversion_f1_gain": "predictions of conversions gain {value} in micro F1, elsewhere {rest}",
    "overconfidence": "probabilities are off by {value}, elsewhere by {rest}",
}
"""The gravest first."""


def statements_file() -> Path:
    """Those that are shipped."""
    return Path(str(resources("streamer.models.card") / "statements.toml"))


def gathered(bundle: Bundle, given: Mapping[str, Path], roots: Sequence[Path] = ()) -> dict[str, Evidence]:
    """All that a card of this bundle rests on, by name; `given` has the statements and what else there is.

    Paths under `roots` are shown from there. Raises EvidenceError, also for what is of another bundle.
    """
    paths = {MANIFEST: bundle.path / MANIFEST_FILE, **given}
    found = {name: Evidence.read(name, path, roots) for name, path in paths.items()}
    statements = given[STATEMENTS]
    for key in _LISTS:
        texts = found[STATEMENTS].document.get(key)
        if not isinstance(texts, list) or not texts or not all(isinstance(each, str) for each in texts):
            raise EvidenceError(f"{statements}: {key} is missing or empty, expected a list of sentences")
    if EVALUATION in found:
        if not isinstance(found[EVALUATION].at("results"), Mapping):
            raise EvidenceError(
                f"{given[EVALUATION]}: has no results, expected report.json of `streamer model evaluate`"
            )
        slices = found[EVALUATION].within(SLICES, "results/slices")
        if SLICES not in found and slices is not None and slices.at("bundle") == scoring_files(bundle):
            found[SLICES] = slices
    if SLICES in given and found[SLICES].at("bundle") != scoring_files(bundle):
        raise EvidenceError(
            f"{given[SLICES]}: is of another bundle, expected slices of {bundle.model_version}"
        )
    if DRIFT in found and found[DRIFT].at("model_version") != bundle.model_version:
        raise EvidenceError(f"{given[DRIFT]}: is of another bundle, expected drift of {bundle.model_version}")
    return found


def card(bundle: Bundle, files: Files) -> Card:
    """Raises EvidenceError if a file has another shape than what makes it gives it."""
    try:
        return _card(bundle, files)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        names = ", ".join(each.path for each in files.values())
        raise EvidenceError(
            f"{names}: one of them lacks what a card reads ({type(error).__name__}: {error}), expected files"
            " as `streamer model evaluate`, `drift` and `erase` write them"
        ) from error


def _card(bundle: Bundle, files: Files) -> Card:
    found = (
        sections.use(files),
        sections.model(files, bundle),
        sections.data(files),
        sections.training(files),
        measured.metrics(files),
        measured.slices(files),
        measured.calibration(files),
        measured.abstention(files),
        measured.failures(files),
        measured.drift(files),
        sections.versions(files, bundle),
    )
    return Card(
        bundle.model_version,
        tuple(_answers(files)),
        found,
        tuple(_frameworks({each.id: each for each in found})),
        tuple(Source(each.name, each.path, each.sha256) for each in files.values()),
    )


def _answers(files: Files) -> Iterator[Answer]:
    statements = files[STATEMENTS].document
    yield Answer("What is it for?", tuple(statements["intended"]), "use")
    yield Answer("What is it not for?", tuple(statements["refused"]), "use")
    good = [f"{each.text}: {each.value}" for each in claims(files, "summary")]
    yield Answer("How good is it?", tuple(good), "metrics")
    yield Answer("For whom is it worse?", tuple(_worse(files)), "slices")


def _worse(files: Files) -> Iterator[str]:
    if SLICES not in files:
        yield f"{NOT_MEASURED.capitalize()} of this bundle."
        return
    cells = [each for each in files[SLICES].document["cells"] if each["verdict"] == "worse"]
    order = {name: place for place, name in enumerate(_SAID_OF)}
    cells.sort(key=lambda each: (order[each["metric"]], -abs(each["gap"]["value"])))
    for cell in cells[:_MOST_SLICES]:
        form = SLICE_METRICS[cell["metric"]][1]
        said = _SAID_OF[cell["metric"]].format(
            value=format(cell["value"], form), rest=format(cell["rest"], form)
        )
        yield f"{cell['dimension'].capitalize()}, {cell['slice']}: {said}."
    if len(cells) > _MOST_SLICES:
        yield f"{len(cells) - _MOST_SLICES} more gaps are in the tables."
    yield from _alike(files[SLICES].document)


def _alike(result: Mapping[str, Any]) -> Iterator[str]:
    tested = dict.fromkeys(each["dimension"] for each in result["cells"])
    worse = {each["dimension"] for each in result["cells"] if each["verdict"] == "worse"}
    alike = [each for each in tested if each not in worse]
    if alike:
        yield f"No difference was shown by {', '.join(alike)}."


def _frameworks(by_id: Mapping[str, Section]) -> Iterator[Framework]:
    document = tomllib.loads(
        (resources("streamer.models.card") / "frameworks.toml").read_text(encoding="utf-8")
    )
    for each in document["framework"]:
        requirements = tuple(_requirement(row, by_id) for row in each["requirement"])
        yield Framework(each["name"], each["title"], each["note"], requirements)


def _requirement(row: Mapping[str, Any], by_id: Mapping[str, Section]) -> Requirement:
    names: Sequence[str] = row["sections"]
    every = [each for name in names for each in by_id[name].claims]
    evident = sum(each.measured for each in every)
    return Requirement(row["place"], row["asks"], tuple(names), evident, len(every), row["operator"])
