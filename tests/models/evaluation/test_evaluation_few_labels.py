"""What an embedding adds on public clickstreams: who is tested on has no part in anything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from streamer.models.arrays import Float64
from streamer.models.evaluation.probe.contenders import EMBEDDING, FUSED, HAND
from streamer.models.evaluation.real import few_labels
from streamer.models.evaluation.real.few_labels import (
    AVERAGED,
    BY_HAND,
    FIVE_FOLDS,
    NESTED,
    TEST,
    VALIDATION,
    Plan,
    RealTask,
    Recipe,
    measured,
    stored_encoder,
)
from streamer.models.evaluation.real.tasks import (
    SITES,
    eshop2008_sale,
    eshop2008_sale_by_fields,
    pisa_cc_solved,
    shop1999_payment,
)
from streamer.models.evaluation.result_store import ResultStore
from streamer.models.training.config import TrainConfig
from streamer.schemas.click import Session
from tests.models.evaluation.test_evaluation_shop1999 import shop
from tests.models.evaluation.test_evaluation_trivago import event, write

TINY = {"dim": 8, "heads": 2, "hidden": 16, "epochs": 1, "batch": 32, "min_count": 1}
RECIPES = {
    "mean": Recipe({}, whole=False),
    "causal": Recipe({"weight_causal": 1.0}),
    "causal readout": Recipe({"weight_causal": 1.0, "readout": "causal"}),
}
PLAN = Plan(TEST, (60, None), TINY, RECIPES, seeds=(1, 2), draws=2, resampled=50, ensembles=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    folder = tmp_path_factory.mktemp("few")
    return ResultStore(folder / "results", folder / "cache")


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> RealTask:
    return shop1999_payment(shop(tmp_path_factory.mktemp("shop"), told=0.9))


@pytest.fixture(scope="module")
def found(payments: RealTask, store: ResultStore) -> Mapping[str, object]:
    return measured(payments, PLAN, store)


def test_parts_test_everybody_once_and_learn_from_nobody_they_test(payments: RealTask) -> None:
    for parts in (FIVE_FOLDS, TEST, VALIDATION):
        for part in parts:
            train, test = payments.rows(part)
            assert not set(train.tolist()) & set(test.tolist())
    tested = np.concatenate([payments.rows(part)[1] for part in FIVE_FOLDS])
    assert sorted(tested.tolist()) == list(range(len(payments.labels)))
    of_choice, of_test = (
        set(np.concatenate(payments.rows(parts[0])).tolist()) for parts in (VALIDATION, TEST)
    )
    assert not of_choice & set(payments.rows(TEST[0])[1].tolist())
    assert of_choice < of_test


def test_every_contender_has_an_auc_at_every_number_of_labels(found: Mapping[str, object]) -> None:
    few, every = found["levels"]  # type: ignore[misc]
    assert (few["labels"], few["all"], every["all"]) == (60, False, True)
    fused = {f"{name}: {recipe}" for name in (EMBEDDING, AVERAGED, FUSED) for recipe in RECIPES}
    ensembles = {
        f"{name}: {recipe}, ensemble of 2 seeds" for name in (EMBEDDING, AVERAGED) for recipe in RECIPES
    }
    for level in (few, every):
        assert set(level["auc"]) == {*BY_HAND, *fused, *ensembles}
        assert set(level["gain_over_hand"]) == fused | ensembles
        for name, gain in level["gain_over_hand"].items():
            apart = level["auc"][name]["value"] - level["auc"][HAND]["value"]
            assert gain["value"] == pytest.approx(apart)
            assert gain["low"] <= gain["high"]
    assert every["auc"][HAND]["value"] > 0.8


def test_encoders_see_no_session_of_a_visitor_who_is_tested_on(
    payments: RealTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Session] = []
    learn = few_labels.pretrained_on

    def pretrained_on(sessions: list[Session], config: object) -> object:
        seen.extend(sessions)
        return learn(sessions, config)  # type: ignore[arg-type]

    monkeypatch.setattr(few_labels, "pretrained_on", pretrained_on)
    few_labels._encoded(payments, VALIDATION[0], TINY, 1, ResultStore(tmp_path, tmp_path))
    assert seen
    assert all(VALIDATION[0].learns(session.visitor_id) for session in seen)


def test_readouts_of_one_encoder_are_pretrained_once_and_differ(
    payments: RealTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(tmp_path, tmp_path)

    def encoded(name: str) -> Float64:
        return few_labels._encoded(payments, TEST[0], {**TINY, **RECIPES[name].overrides}, 1, store)

    three = encoded("causal")
    monkeypatch.setattr(few_labels, "pretrained_on", lambda *_: pytest.fail("trained again"))
    causal = encoded("causal readout")
    assert three.shape == causal.shape == (len(payments.labels), 3 * TINY["dim"])
    assert not np.allclose(three, causal, atol=1e-3)


def test_a_second_run_computes_nothing(
    payments: RealTask, found: object, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_labels, "pretrained_on", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(few_labels, "fitted_heads", lambda *_: pytest.fail("fitted again"))
    assert measured(payments, PLAN, store) == found


def test_intervals_have_the_variance_of_seeds_and_of_draws() -> None:
    """Two seeds of which one is right and the other wrong: visitors alone would hide how unsure that is."""
    labels = np.array([0, 1] * 50)
    right = np.where(labels == 1, 1.0, -1.0)
    seeds, draws = np.array([[0, 0], [1, 1], [0, 1]]), np.zeros((3, 1), np.int64)
    odds = np.stack([right, -right])[:, None, :]
    assert few_labels._resampled(odds, labels, seeds, draws).draws.tolist() == [1.0, 0.0, 0.5]
    by_draw = few_labels._resampled(odds.swapaxes(0, 1), labels, draws, seeds).draws
    assert by_draw.tolist() == [1.0, 0.0, 0.5]


def test_an_ensemble_is_the_mean_of_its_seeds_and_is_drawn_from_them() -> None:
    """Each seed has other positive rows below the negative ones: together they are right."""
    labels = np.tile([0, 1, 1], 20)
    odds = np.tile([[[0.0, -1.0, 4.0]], [[0.0, 4.0, -1.0]]], 20)
    seeds, draws = np.array([[0, 0], [1, 0], [1, 1]]), np.zeros((3, 1), np.int64)
    alone = few_labels._resampled(odds, labels, seeds, draws)
    ensemble = few_labels._ensemble(odds, labels, seeds, draws)
    assert (alone.value, ensemble.value) == (0.5, 1.0)
    whole = few_labels._resampled(odds.mean(axis=0, keepdims=True), labels, draws, draws)
    expected = [alone.draws[0], whole.draws[1], alone.draws[2]]
    np.testing.assert_array_equal(ensemble.draws, expected)


def test_the_share_of_a_part_is_chosen_without_its_labels() -> None:
    rng = np.random.default_rng(0)
    labels, part_of = rng.integers(2, size=200), np.repeat([0, 1], 100)
    hand = rng.normal(size=(1, 2, 200))
    embedding = rng.normal(size=(3, 2, 200)) + labels
    found = few_labels._nested(hand, embedding, labels, part_of)
    # By hand nothing is known, so that the embedding has the largest share that there is.
    np.testing.assert_allclose(found, 0.25 * hand + 0.75 * embedding)
    wrong = np.where(part_of == 0, 1 - labels, labels)
    other = few_labels._nested(hand, embedding, wrong, part_of)
    np.testing.assert_array_equal(other[..., :100], found[..., :100])
    np.testing.assert_array_equal(other[..., 100:], np.broadcast_to(hand, (3, 2, 200))[..., 100:])


def test_a_share_is_nested_where_there_are_several_parts(payments: RealTask, tmp_path: Path) -> None:
    plan = replace(PLAN, parts=FIVE_FOLDS[:2], counts=(60,), recipes={"mean": RECIPES["mean"]})
    (level,) = measured(payments, plan, ResultStore(tmp_path, tmp_path))["levels"]
    assert {f"{NESTED}: mean", f"{NESTED}: mean, ensemble of 2 seeds"} < set(level["gain_over_hand"])


def test_ensembles_fit_no_head_that_was_not_fitted(
    payments: RealTask, found: object, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_labels, "fitted_heads", lambda *_: pytest.fail("fitted again"))
    assert found
    without = replace(PLAN, ensembles=False)
    assert without.as_config() != PLAN.as_config()
    assert not any("ensemble" in name for name in measured(payments, without, store)["levels"][0]["auc"])


def test_with_permuted_labels_nothing_is_found(payments: RealTask, tmp_path: Path) -> None:
    permuted = replace(payments, labels=np.random.default_rng(0).permutation(payments.labels))
    plan = replace(PLAN, counts=(None,), recipes={"mean": RECIPES["mean"]}, seeds=(1,))
    (level,) = measured(permuted, plan, ResultStore(tmp_path, tmp_path))["levels"]
    assert all(each["low"] < 0.6 for each in level["auc"].values())


def test_of_pisa_cc_only_the_first_eight_of_more_actions_are_read(tmp_path: Path) -> None:
    rows = [
        {**event(visitor, step, 1_000 * step, page_type=f"{step}", element="reset"), "event_type": "click"}
        for visitor, length in enumerate((8, 9, 30))
        for step in range(length)
    ]
    write(tmp_path, "pisa_cc.events", rows)
    visitors = sorted({row["visitor_id"] for row in rows})
    solved = [{"visitor_id": visitor, "solved": place == 2} for place, visitor in enumerate(visitors)]
    write(tmp_path, "pisa_cc.labels", solved)
    task = pisa_cc_solved(tmp_path)
    assert task.labels.tolist() == [0, 1]
    assert [len(session.clicks) for session in task.beginnings] == [8, 8]
    assert [len(session.clicks) for session in task.whole] == [8, 9, 30]


def test_of_eshop2008_who_has_seen_a_sale_is_left_out_and_later_clicks_are_not_read(tmp_path: Path) -> None:
    events, context = [], []
    for visitor in range(60):
        for step in range(4):
            category = (
                "sale" if (visitor % 3 == 0 and step == 0) or (visitor % 3 == 1 and step == 3) else "skirts"
            )
            each = {
                **event(visitor, step, step, category=category, product_id=f"B{step}"),
                "price": 20.0 + step,
            }
            events.append(each)
            more = {"country_code": 29, "colour_code": step, "model_photography": 1, "site_page": step}
            context.append({**more, "event_id": each["event_id"], "price_above_category_mean": False})
    write(tmp_path, "eshop2008.events", events)
    write(tmp_path, "eshop2008.context", context)
    task = eshop2008_sale(tmp_path)
    assert len(task.labels) == 40
    assert task.labels.sum() == 20
    for session, by_hand, clicks in zip(task.beginnings, task.by_hand, task.columns["clicks"], strict=True):
        assert len(session.clicks) == len(by_hand.clicks) == clicks < 4
        assert [click.path for click in session.clicks] == [f"/{at}/1/{at}" for at in range(int(clicks))]
        assert [click.page_type for click in by_hand.clicks] == [f"B{at}" for at in range(int(clicks))]
    by_fields = eshop2008_sale_by_fields(tmp_path)
    assert by_fields.by_hand == task.by_hand
    assert by_fields.columns == task.columns
    settings = {**TINY, "fields": SITES["eshop2008_fields"].training["fields"]}
    config = TrainConfig(seed=1, **settings)  # type: ignore[arg-type]
    *_, tokenizer = stored_encoder("e", by_fields.whole, TEST[0], config, ResultStore(tmp_path, tmp_path))
    read = {field.name: field for field in tokenizer.extras.fields}
    assert list(read) == ["price", *(f"properties.{name}" for name in more if name != "country_code")]
    assert read["properties.site_page"].document()["values"] == ["0", "1", "2", "3"]
