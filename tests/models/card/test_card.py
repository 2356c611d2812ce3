"""The card is made, never written: every value is read from a file, and what no file says isn't claimed."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from streamer.models.bundle import Bundle, default_bundle, load_bundle
from streamer.models.card import build
from streamer.models.card.claims import DRIFT, ERASURE, EVALUATION, MANIFEST, SLICES, STATEMENTS
from streamer.models.card.document import NOT_MEASURED, Card, Claim
from streamer.models.card.evidence import EvidenceError
from streamer.models.card.rendering import as_html, as_json, as_markdown
from streamer.models.evaluation.slices import scoring_files
from tests.models.evaluation.made_results import every_step, slices

Json = dict[str, Any]
Made = Callable[..., Card]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(default_bundle())


def evaluation(bundle: Bundle) -> Json:
    steps = every_step() | {"slices": slices(scoring_files(bundle))}
    return {"figures": {"tile": {"log_loss_vs_app_only": -0.0812}}, "results": steps}


def drift_report(bundle: Bundle) -> Json:
    part = {"part": "intent", "psi": 0.31, "psi_interval": [0.27, 0.35], "verdict": "moved a lot"}
    sessions = {"before": 5897, "after": 1234}
    return {
        "model_version": bundle.model_version,
        "verdict": "moved a lot",
        "sessions": sessions,
        "parts": [part],
    }


@pytest.fixture
def given(tmp_path: Path, bundle: Bundle) -> dict[str, Path]:
    """Every file that a card can be made from."""
    erasure = {"open_sessions": 0, "latest_intents": 3, "user_records": 0}
    documents = {EVALUATION: evaluation(bundle), DRIFT: drift_report(bundle), ERASURE: erasure}
    paths = {name: tmp_path / f"{name}.json" for name in documents}
    for name, path in paths.items():
        path.write_text(json.dumps(documents[name]))
    return {STATEMENTS: build.statements_file(), **paths}


@pytest.fixture
def made(bundle: Bundle) -> Made:
    return lambda given: build.card(bundle, build.gathered(bundle, given))


def claims_of(card: Card) -> Iterator[Claim]:
    for section in card.sections:
        yield from section.claims


def answer(card: Card, question: str) -> str:
    return " ".join(next(each.points for each in card.summary if question in each.question))


def test_every_claim_says_what_stands_at_the_place_that_it_names(
    made: Made, given: dict[str, Path], bundle: Bundle
) -> None:
    card = made(given)
    files = build.gathered(bundle, given)
    measured = [each for each in claims_of(card) if each.measured]
    assert len(measured) > 50
    for claim in measured:
        file = files[claim.evidence or ""]
        whole = files[EVALUATION] if claim.evidence == SLICES else file
        assert whole.at(claim.at or "") is not None, claim
        if claim.figure is not None and claim.evidence != MANIFEST:
            assert whole.at(claim.at or "") == claim.figure


def test_nothing_is_claimed_without_evidence(made: Made, given: dict[str, Path]) -> None:
    card = made({STATEMENTS: given[STATEMENTS]})
    without = [each for each in claims_of(card) if each.evidence is None]
    assert {each.value for each in without} == {NOT_MEASURED}
    assert not {EVALUATION, SLICES, DRIFT, ERASURE} & {each.evidence for each in claims_of(card)}
    assert "Not measured" in answer(card, "worse")
    assert f"Sessions that get no label: {NOT_MEASURED}" in answer(card, "How good")


def test_who_changed_what_in_the_taxonomy_is_told(bundle: Bundle, given: dict[str, Path]) -> None:
    files = build.gathered(bundle, given)
    assert "Changes of the taxonomy" not in as_markdown(build.card(bundle, files))
    document: Any = copy.deepcopy(files[MANIFEST].document)
    what = ["loans / car renamed: loans / <cars>", "cards / gold retired"]
    document["metrics"]["taxonomy"]["edits"] = [{"at": "2026-11-30T09:30:00Z", "by": "jo", "what": what}]
    card = build.card(bundle, files | {MANIFEST: replace(files[MANIFEST], document=document)})
    (table,) = (t for each in card.sections for t in each.tables if t.columns == ("when", "who", "what"))
    assert table.rows == (("2026-11-30T09:30:00Z", "jo", "; ".join(what)),)
    assert files[MANIFEST].at(table.at) is None
    assert "jo</td><td>loans / car renamed: loans / &lt;cars&gt;; cards / gold retired" in as_html(card)
    assert "2026-11-30T09:30:00Z | jo | loans / car renamed" in as_markdown(card)


def changed(found: Any) -> Any:
    """As an estimate, or a number by itself."""
    return {**found, "value": found["value"] + 1.25} if isinstance(found, dict) else found + 7


def is_number(found: Any) -> bool:
    number = found.get("value") if isinstance(found, dict) else found
    return isinstance(number, int | float) and not isinstance(number, bool)


def test_numbers_changed_in_the_evidence_change_the_card(made: Made, given: dict[str, Path]) -> None:
    """Every claim that has a number of the evaluation, the drift or the erasure."""
    before = {(each.text, each.at): each for each in claims_of(made(given))}
    documents = {name: json.loads(path.read_text()) for name, path in given.items() if name != STATEMENTS}
    numbers = [c for c in before.values() if c.evidence != MANIFEST and is_number(c.figure)]
    for name, at in {(EVALUATION if c.evidence == SLICES else c.evidence, c.at) for c in numbers}:
        *parents, last = (at or "").split("/")
        place = documents[name or ""]
        for key in parents:
            place = place[key]
        place[last] = changed(place[last])
    for name, document in documents.items():
        given[name].write_text(json.dumps(document))
    after = {(each.text, each.at): each for each in claims_of(made(given))}
    assert len(numbers) >= 20
    assert not [each for each in numbers if after[each.text, each.at].value == each.value]


def test_all_three_forms_show_a_changed_number(made: Made, given: dict[str, Path]) -> None:
    document = json.loads(given[EVALUATION].read_text())
    document["results"]["slices"]["cells"][0]["value"] = 0.4321
    given[EVALUATION].write_text(json.dumps(document))
    card = made(given)
    assert "43.2%" in as_html(card)
    assert "43.2%" in as_markdown(card)
    assert b"43.2%" in as_json(card)


def test_a_reader_finds_the_four_answers(made: Made, given: dict[str, Path]) -> None:
    card = made(given)
    assert "Ranking content" in answer(card, "What is it for")
    refused = answer(card, "What is it not for")
    assert all(word in refused for word in ("Creditworthiness", "Pricing", "Eligibility"))
    assert "+50.0% [+49.0%, +51.0%]" in answer(card, "How good")
    worse = answer(card, "For whom")
    assert "Device, mobile: labels that it gives are right in 71.2% of sessions, elsewhere in 90.0%" in worse
    assert "desktop" not in worse


def test_where_no_slice_is_worse_the_card_says_so(made: Made, given: dict[str, Path]) -> None:
    document = json.loads(given[EVALUATION].read_text())
    for cell in document["results"]["slices"]["cells"]:
        cell["verdict"] = "no difference shown"
    given[EVALUATION].write_text(json.dumps(document))
    assert answer(made(given), "For whom") == "No difference was shown by device."


def test_slices_of_another_bundle_are_not_this_one(made: Made, given: dict[str, Path]) -> None:
    document = json.loads(given[EVALUATION].read_text())
    document["results"]["slices"]["bundle"]["encoder.onnx"] = "another"
    given[EVALUATION].write_text(json.dumps(document))
    card = made(given)
    assert "71.2%" not in as_html(card)
    assert "Not measured" in answer(card, "worse")


def test_an_evaluation_of_another_recipe_is_told(made: Made, given: dict[str, Path], bundle: Bundle) -> None:
    def said() -> str:
        return next(each.value for each in claims_of(made(given)) if "manifest" in each.text)

    assert said().startswith("no")
    document = json.loads(given[EVALUATION].read_text())
    document["figures"] = {"ece": bundle.manifest.metrics["ece"]}
    given[EVALUATION].write_text(json.dumps(document))
    assert said() == "yes"


def test_slices_of_own_sessions_stand_before_those_of_the_evaluation(
    made: Made, given: dict[str, Path], bundle: Bundle, tmp_path: Path
) -> None:
    own = slices(scoring_files(bundle)) | {"data": "own sessions"}
    own["cells"][0]["value"] = 0.4321
    del own["by_intent"]
    given[SLICES] = tmp_path / "slices.json"
    given[SLICES].write_text(json.dumps(own))
    assert "43.2%" in answer(made(given), "For whom")
    given[SLICES].write_text(json.dumps(own | {"bundle": {}}))
    with pytest.raises(EvidenceError, match=r"slices\.json: is of another bundle"):
        made(given)


@pytest.mark.parametrize("name", [EVALUATION, DRIFT, ERASURE, STATEMENTS])
def test_a_file_that_is_not_there_or_no_document_is_named(
    made: Made, given: dict[str, Path], tmp_path: Path, name: str
) -> None:
    given[name] = tmp_path / "nowhere.json"
    with pytest.raises(EvidenceError, match=r"nowhere\.json: can't be read"):
        made(given)
    given[name].write_text("[1]")
    with pytest.raises(EvidenceError, match=r"nowhere\.json: expected one JSON object"):
        made(given)


def test_drift_of_another_bundle_is_refused(made: Made, given: dict[str, Path], bundle: Bundle) -> None:
    given[DRIFT].write_text(json.dumps(drift_report(bundle) | {"model_version": "other@1"}))
    with pytest.raises(EvidenceError, match=f"expected drift of {bundle.model_version}"):
        made(given)


def test_an_evaluation_of_another_shape_is_refused(
    made: Made, given: dict[str, Path], bundle: Bundle
) -> None:
    given[EVALUATION].write_text(json.dumps({"figures": {}}))
    with pytest.raises(EvidenceError, match="has no results"):
        made(given)
    broken = {"results": {"slices": {"bundle": scoring_files(bundle)}}}
    given[EVALUATION].write_text(json.dumps(broken))
    with pytest.raises(EvidenceError, match="lacks what a card reads"):
        made(given)


def test_statements_have_to_name_uses_and_limits(made: Made, given: dict[str, Path], tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('owner = "Ranking"\nintended = ["x"]\nconsent = ["y"]\nlimits = ["z"]\n')
    with pytest.raises(EvidenceError, match="refused is missing or empty"):
        made({**given, STATEMENTS: own})
    own.write_text(own.read_text() + 'refused = ["Loans <b>|b"]\n')
    card = made({**given, STATEMENTS: own})
    assert "Loans &lt;b&gt;|b" in as_html(card)
    assert r"Loans \<b\>\|b" in as_markdown(card)
    assert next(each.value for each in claims_of(card) if each.text == "Owner") == "Ranking"


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.tables = self.captions = self.unlabelled = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.unlabelled += (tag == "img" and not found.get("alt")) or (tag == "th" and "scope" not in found)
        self.ids += [str(found["id"])] if "id" in found else []
        self.links += [str(found[name]) for name in ("href", "src") if name in found]


def test_the_page_stands_alone_and_can_be_found_through(made: Made, given: dict[str, Path]) -> None:
    page = Page()
    page.feed(as_html(made(given)))
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise([0, *page.headings]))
    assert page.tables == page.captions > 15
    assert page.unlabelled == 0
    assert len(set(page.ids)) == len(page.ids)
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)


def test_every_text_is_answered_and_counts_its_evidence(made: Made, given: dict[str, Path]) -> None:
    card = made(given)
    assert [each.name for each in card.frameworks] == ["SR 26-2", "EU AI Act", "GDPR"]
    with_it, without = (
        {(f.name, r.place): r.measured for f in made(files).frameworks for r in f.requirements}
        for files in (given, {STATEMENTS: given[STATEMENTS]})
    )
    assert with_it["GDPR", "Article 17"] > without["GDPR", "Article 17"]
    places = {place for name, place in with_it if name == "GDPR"}
    assert places == {"Article 13", "Article 17", "Article 22"}


def test_the_same_files_give_the_same_bytes(made: Made, given: dict[str, Path]) -> None:
    one, two = made(given), made(copy.deepcopy(given))
    for form in (as_html, as_markdown, as_json):
        assert form(one) == form(two)  # type: ignore[operator]


def test_the_shipped_card_is_what_the_command_makes(bundle: Bundle) -> None:
    """If not: `streamer model card --out docs/results`."""
    root = Path(__file__).parents[3]
    given = {STATEMENTS: build.statements_file(), EVALUATION: root / "docs/results/report.json"}
    card = build.card(bundle, build.gathered(bundle, given, [root]))
    assert (root / "docs/results/model-card.json").read_bytes() == as_json(card)
    assert (root / "docs/results/model-card.md").read_text() == as_markdown(card)
