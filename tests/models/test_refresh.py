"""`streamer model refresh`: trained, held against the live bundle, judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamer.cli.recipe_file import RecipeFields, read_recipe_file
from streamer.cli.refresh import NotPromotedError, _recipe_of
from streamer.errors import UsageError
from streamer.models.bundle import default_bundle, load_bundle
from tests.models.test_model_commands import here, write_clicks


def test_a_candidate_is_trained_and_held_against_the_live_bundle(
    small_bundle_path: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    clicks, work, out = write_clicks(tmp_path / "clicks.jsonl", 160), tmp_path / "work", tmp_path / "next"
    options = ["--live", str(small_bundle_path), "--work", str(work), "--epochs", "1", "--json"]
    with pytest.raises(NotPromotedError, match=r"small@\w+: next@\w+|of next@\w+"):
        here("refresh", str(clicks), "--out", str(out), *options)
    found = json.loads(capsysbinary.readouterr().out)
    live, candidate = load_bundle(small_bundle_path), load_bundle(out)
    assert (found["live"], found["candidate"]) == (live.model_version, candidate.model_version)
    assert found["verdict"] in {"keep", "undecided"}
    passed = {check["name"]: check["passed"] for check in found["checks"]}
    assert passed["outcomes"] is None
    assert passed["sessions that only the live bundle can score"] is True
    # Its batch, too, is that of the live bundle's recipe.
    assert candidate.manifest.config["batch"] == live.manifest.config["batch"] == 32
    document = json.loads((work / "backtest.json").read_text())
    assert document["bundles"] == [live.model_version, candidate.model_version]
    assert (work / "backtest.html").is_file()

    # Judged again, without being trained again.
    with pytest.raises(NotPromotedError):
        here("refresh", str(clicks), "--candidate", str(out), *options)
    assert json.loads(capsysbinary.readouterr().out) == found
    assert load_bundle(out).model_version == candidate.model_version


def test_objectives_are_those_of_the_live_bundle(tmp_path: Path) -> None:
    hashed = {"product_id": 512}
    older = {"weight_masked": 1.0, "weight_rest": 0.5, "weight_contrast": 0.2, "hashed": hashed}
    weights = {"masked": 1.0, "rest": 0.5, "contrast": 0.2}
    # Such a bundle was made before the last two could be chosen.
    found = read_recipe_file(_recipe_of(older, tmp_path / "recipe.toml"))
    assert found == RecipeFields({}, hashed, weights, rest_every=1, events_of_pages=True)
    now = {**older, "rest_every": 3, "events_of_pages": False}
    found = read_recipe_file(_recipe_of(now, tmp_path / "recipe.toml"))
    assert found == RecipeFields({}, hashed, weights, rest_every=3, events_of_pages=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "expected either --out DIR, to train, or --candidate DIR"),
        (["--out", "next", "--candidate", "next"], "expected either --out DIR"),
        (["--candidate", str(default_bundle())], "expected another than the live one"),
        (["--candidate", "next", "--report", "page.txt"], "--report page.txt: expected FILE.html"),
    ],
)
def test_a_call_that_names_no_candidate_is_wrong(options: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        here("refresh", "clicks.jsonl", *options)
