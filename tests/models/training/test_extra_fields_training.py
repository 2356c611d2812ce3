"""What a recipe adds to clicks is learnt from, exported and served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from streamer.bundle_extras import not_kept, warn_of_missing
from streamer.models.bundle import Bundle, default_bundle, load_bundle
from streamer.models.explain import Explanation, explain
from streamer.models.scorer import Scored, Scorer
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus, by_split
from streamer.models.training.errors import TrainingError
from streamer.models.training.objectives import Objectives
from streamer.models.training.pipeline import TrainingPipeline
from streamer.models.training.pretrain import deterministic, new_encoder, new_tokenizer, pretrain
from streamer.models.training.token_shards import TokenShards, write_shards
from streamer.operations.doctor import _bundle
from streamer.schemas.click import Session
from streamer.settings import ClickSettings, load_settings
from tests.conftest import RunStreamer
from tests.models.conftest import SMALL
from tests.models.hand_made import a_click, a_session, bank_sessions
from tests.models.test_extra_fields import PLAN, SPECS, shop_sessions
from tests.models.training.test_token_shards import same

CONFIG = TrainConfig(name="extras", fields=SPECS, hashed={"product_id": 512}, **SMALL)  # type: ignore[arg-type]
SESSIONS = shop_sessions(400)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("extras")
    TrainingPipeline.of(SESSIONS, CONFIG, folder / "work").run(folder / "bundle", {"source": "hand"})
    return load_bundle(folder / "bundle")


def of_plan(plan: str, price: float) -> Session:
    return a_session(
        *(a_click(at * 5000, path="/shoes", price=price, extras={PLAN: plan}) for at in range(4))
    )


def test_a_bundle_tells_sessions_apart_that_differ_in_nothing_else(bundle: Bundle) -> None:
    scored = Scorer(bundle).score([of_plan("gold", 500.0), of_plan("basic", 5.0), of_plan("gold", 510.0)])
    gold, basic, another = (each.embedding for each in scored if isinstance(each, Scored))
    assert np.linalg.norm(gold - basic) > 3 * np.linalg.norm(gold - another)
    assert len(bundle.tokenizer.event_columns) == bundle.runtime.columns == 21


def test_a_bundle_is_served_the_same_without_the_compiled_tokens(bundle: Bundle) -> None:
    plain = Tokenizer.from_json(bundle.tokenizer.to_json())
    plain._compiled = None
    some = SESSIONS[:60]
    ours, theirs = (bundle.runtime.run_all(each.encode(some)) for each in (bundle.tokenizer, plain))
    assert ours.embeddings.tobytes() == theirs.embeddings.tobytes()


def test_an_explanation_leaves_out_each_of_them(bundle: Bundle) -> None:
    session = of_plan("gold", 500.0)
    found = explain(Scorer(bundle), session)
    assert isinstance(found, Explanation)
    without_price = replace(session, clicks=[replace(click, price=None) for click in session.clicks])
    assert {"price", PLAN} <= found.fields.keys()
    (left,) = Scorer(bundle).score([without_price])
    assert isinstance(left, Scored)
    chances = {intent.intent_id: intent.probability for intent in left.intents}
    expected = chances[found.intents[0].intent_id]
    assert found.fields["price"].probability == pytest.approx(expected, abs=1e-6)


def test_whoever_serves_it_is_told_what_the_settings_do_not_keep(bundle: Bundle) -> None:
    hint = not_kept(bundle, ClickSettings(keep=("utm_term", "page_title")))
    expected = 'clicks.keep = ["page_title", "properties.plan", "properties.size", "utm_term"]'
    assert hint is not None
    assert hint.startswith(f"{bundle.model_version} reads properties.plan, properties.size, which")
    assert hint.endswith(f"expected {expected}")
    assert not_kept(bundle, ClickSettings(keep=("page_title", "properties.size", PLAN))) is None
    assert not_kept(load_bundle(default_bundle()), ClickSettings()) is None
    with capture_logs() as logged:
        warn_of_missing([bundle, load_bundle(default_bundle())], ClickSettings())
    assert [each["event"] for each in logged] == ["bundle_reads_what_is_not_kept"]


def test_inspect_and_doctor_say_what_it_reads(bundle: Bundle, run_streamer: RunStreamer) -> None:
    shown = run_streamer("model", "inspect", str(bundle.path))
    assert "reads also    price (number, 9 ids), page_title (text, 513 ids), properties.plan" in shown.stdout
    assert "warning: extras@" in shown.stderr
    settings = load_settings(overrides={"model.bundle": bundle.path}, environ={})
    assert (_bundle(settings).state, _bundle(settings).check) == ("warn", "bundle")
    to_add = ("model", "prototypes", "nowhere.jsonl", "--bundle", str(bundle.path), "--out", "given")
    assert "warning: extras@" in run_streamer(*to_add).stderr


@pytest.mark.parametrize("name", ["weight_masked", "weight_rest", "weight_causal"])
def test_an_objective_alone_teaches_the_rows_of_every_field(name: str) -> None:
    weights = {"weight_masked": 0.0, "weight_rest": 0.0, "weight_contrast": 0.0, "weight_causal": 0.0}
    config = TrainConfig(fields=SPECS, **(SMALL | weights | {name: 1.0, "epochs": 1}))  # type: ignore[arg-type]
    tokenizer = new_tokenizer(SESSIONS, config)
    corpus = Corpus.of(SESSIONS[:64], tokenizer)
    encoder = new_encoder(tokenizer, config, torch.Generator().manual_seed(0))
    objectives = Objectives(encoder, config)
    objectives.initialize(torch.Generator().manual_seed(1))
    bucket = corpus.buckets[0]
    rows = torch.arange(len(bucket.rows))
    draws = torch.Generator().manual_seed(2)
    losses = objectives.losses(encoder, bucket.pick(rows), bucket.visitors_of(rows), draws)
    (losses.masked + losses.rest + losses.causal).backward()  # type: ignore[no-untyped-call]
    gradient = encoder.events.rows.weight.grad
    assert gradient is not None
    for field in range(10, 14):
        start = encoder.events.starts[field]
        told = gradient[start + 1 : start + encoder.events.sizes[field]].abs().sum(1) > 0
        assert told.float().mean() > 0.9, field


def test_all_words_of_a_text_are_hidden_together() -> None:
    tokenizer = new_tokenizer(SESSIONS, CONFIG)
    encoder = new_encoder(tokenizer, CONFIG, torch.Generator().manual_seed(0))
    objectives = Objectives(encoder, CONFIG)
    seen: list[torch.Tensor] = []
    hidden_states = encoder.hidden_states
    encoder.hidden_states = lambda tokens, extra=None: (
        seen.append(tokens.event_ids) or hidden_states(tokens, extra)
    )  # type: ignore[method-assign, func-returns-value, assignment]
    bucket = Corpus.of(SESSIONS, tokenizer).buckets[0]
    tokens = bucket.pick(torch.arange(len(bucket.rows)))
    objectives._masked(encoder, tokens, tokens, torch.Generator().manual_seed(3))
    words = tokens.event_ids[:, :, 11:19]
    left = (seen[0][:, :, 11:19] > 0).sum(2)
    assert set((left == (words > 0).sum(2)).logical_or(left == 0).flatten().tolist()) == {True}
    assert ((left == 0) & (words > 0).any(2)).any()
    assert (left > 0).any()


def test_a_corpus_of_shards_has_the_fields_too(tmp_path: Path) -> None:
    tokenizer = new_tokenizer(SESSIONS, CONFIG)
    write_shards(SESSIONS, tokenizer, tmp_path / "tokens", per_shard=50)
    shards = TokenShards.open(tmp_path / "tokens", tokenizer)
    assert same(shards.corpus("train"), Corpus.of(by_split(SESSIONS)["train"], tokenizer))


def test_a_recipe_without_fields_trains_to_the_same_bytes_with_clicks_that_have_extras() -> None:
    bare = [
        replace(each, clicks=[replace(click, price=None, extras=None) for click in each.clicks])
        for each in SESSIONS[:80]
    ]
    config = TrainConfig(**(SMALL | {"epochs": 1}))  # type: ignore[arg-type]
    made = []
    for sessions in (bare, SESSIONS[:80]):
        tokenizer = new_tokenizer(sessions, config)
        with deterministic(threads=1):
            generator = torch.Generator().manual_seed(0)
            corpus = Corpus.of(sessions, tokenizer)
            encoder = pretrain(corpus, tokenizer, config, generator, lambda *_: None).encoder
        made.append(encoder.events.rows.weight.detach().numpy().tobytes())
    assert made[0] == made[1]


def test_a_field_that_no_session_has_ends_training_before_it_begins(tmp_path: Path) -> None:
    pipeline = TrainingPipeline.of(bank_sessions(60), CONFIG, tmp_path / "work")
    with pytest.raises(TrainingError, match=r"^fields\.price: no click of the training split has a number"):
        pipeline.fit()
    assert not (tmp_path / "work" / "tokenizer.json").exists()
