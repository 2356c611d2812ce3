"""Training end to end on few sessions: repeatable, blind to the truth, and plain about what is missing."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from streamer.models.bundle import load_bundle, read_manifest
from streamer.models.scorer import Scored, Scorer
from streamer.models.taxonomy import from_json
from streamer.models.training.config import TrainConfig
from streamer.models.training.errors import TrainingError
from streamer.models.training.pipeline import TrainingPipeline, truth_agreement
from tests.models.conftest import SMALL
from tests.models.hand_made import TOPICS, a_click, a_session, bank_sessions, of_length

CONFIG = TrainConfig(name="small", **SMALL)  # type: ignore[arg-type]


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.iterdir()))).hexdigest()


def test_the_same_seed_gives_the_same_bundle_byte_for_byte_in_steps_or_at_once(
    small_bundle_path: Path, tmp_path: Path
) -> None:
    def pipeline() -> TrainingPipeline:
        return TrainingPipeline.of(bank_sessions(400), CONFIG, tmp_path / "work")

    pipeline().fit()
    pipeline().pretrain()
    pipeline().teach()
    pipeline().distill()
    pipeline().export(tmp_path / "bundle", {"source": "hand"})
    assert digest(tmp_path / "bundle") == digest(small_bundle_path)


def test_a_trained_bundle_finds_topics_that_nobody_told_it(small_bundle_path: Path) -> None:
    scorer = Scorer(load_bundle(small_bundle_path))
    sessions, topics = [], []
    for topic, (paths, query) in TOPICS.items():
        for turn in range(12):
            pages = [a_click(i * 5000, path=paths[(i + turn) % 3]) for i in range(4)]
            asked = a_click(30_000, path=paths[turn % 3], search_query=query)
            sessions.append(a_session(*pages, asked))
            topics.append(topic)
    labels = [r.intents[0].intent_id for r in scorer.score(sessions) if isinstance(r, Scored)]
    assert truth_agreement(labels, topics)["nmi"] > 0.5


def test_the_manifest_tells_what_the_bundle_was_made_of(small_bundle_path: Path) -> None:
    manifest, _ = read_manifest(small_bundle_path)
    assert manifest.data["source"] == "hand"
    assert sum(manifest.data["sessions"].values()) == 400
    assert manifest.teacher == "keyless"
    assert manifest.config["seed"] == CONFIG.seed
    assert {"effective_rank", "min_std", "probe_accuracy", "untrained_accuracy"} <= set(
        manifest.metrics["pretraining"]["guards"]
    )
    assert manifest.metrics["export"]["parity_max_error"] <= 1e-5
    assert manifest.metrics["export"]["bit_equal_neighbour_sets"] == 160
    assert manifest.metrics["distillation"]["accuracy_against_teacher"] > 0.5


def test_people_can_read_what_the_clusters_are(small_bundle_path: Path) -> None:
    text = (small_bundle_path.parent / "work" / "audit.md").read_text()
    for intent in from_json((small_bundle_path / "taxonomy.json").read_bytes()).intents:
        assert f"| {intent.label} (`{intent.id}`) |" in text
        assert f"### {intent.label}\n\n    " in text
    assert "Test-retest: not measured" in text
    assert "    page_view " in text


def test_nothing_of_the_machine_gets_into_a_bundle(small_bundle_path: Path, tmp_path: Path) -> None:
    for path in small_bundle_path.iterdir():
        content = path.read_bytes()
        for trace in (b"/work", b"/home/", b"/tmp", b".py"):
            assert trace not in content.replace(b"/home/mortgage", b"").replace(b"/home/calculator", b"")


def test_a_new_taxonomy_carries_over_the_ids_of_the_previous_one(
    small_bundle_path: Path, tmp_path: Path
) -> None:
    previous = from_json((small_bundle_path / "taxonomy.json").read_bytes())
    pipeline = TrainingPipeline.of(bank_sessions(400), CONFIG, tmp_path / "work")
    pipeline.fit()
    pipeline.pretrain()
    pipeline.teach(previous=previous)
    new = from_json((tmp_path / "work" / "taxonomy.json").read_bytes())
    assert new.version == "2"
    assert [i.id for i in new.intents] == [i.id for i in previous.intents]
    assert {m.previous: m.current for m in new.mapping} == {i.id: i.id for i in previous.intents}


@pytest.mark.parametrize(
    "sessions",
    [[], [of_length(5)], [of_length(5)] * 50, [a_session(a_click(), visitor_id=f"v{i}") for i in range(2)]],
    ids=["none", "one", "one visitor", "two visitors"],
)
def test_too_few_visitors_are_said(sessions: list[object], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="too few sessions of people"):
        TrainingPipeline.of(sessions, CONFIG, tmp_path)  # type: ignore[arg-type]


def test_a_step_without_the_one_before_says_which(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="run the step 'fit' first"):
        TrainingPipeline.of(bank_sessions(100), CONFIG, tmp_path).pretrain()


def test_sessions_of_one_click_without_queries_or_pages_still_train(tmp_path: Path) -> None:
    sessions = [a_session(a_click(product_id=f"p{i % 5}"), visitor_id=f"v{i}") for i in range(120)]
    TrainingPipeline.of(sessions, CONFIG, tmp_path / "work").run(tmp_path / "bundle", {"source": "hand"})
    scorer = Scorer(load_bundle(tmp_path / "bundle"))
    assert isinstance(scorer.score(sessions[:1])[0], Scored)


def test_one_intent_is_a_taxonomy_too(tmp_path: Path) -> None:
    sessions = [
        a_session(*(a_click(j, path="/only") for j in range(3)), visitor_id=f"v{i}") for i in range(90)
    ]
    TrainingPipeline.of(sessions, CONFIG, tmp_path / "work").run(tmp_path / "bundle", {"source": "hand"})
    assert json.loads((tmp_path / "bundle" / "taxonomy.json").read_text())["intents"]
    load_bundle(tmp_path / "bundle")


def test_a_bundle_in_eight_bits_says_so_and_what_it_costs(small_bundle_path: Path, tmp_path: Path) -> None:
    work = shutil.copytree(small_bundle_path.parent / "work", tmp_path / "work")
    manifest = TrainingPipeline.of(bank_sessions(400), CONFIG, work).export(tmp_path / "int8", {}, int8=True)
    bundle = load_bundle(tmp_path / "int8")
    assert bundle.manifest.precision == "int8"
    cost = manifest.metrics["export"]
    assert cost["int8_min_cosine"] > 0.98
    assert 0 < cost["int8_changed_by_neighbours"] <= 1
    assert cost["encoder_bytes"] < cost["float32_bytes"]
    assert bundle.embedding_space != load_bundle(small_bundle_path).embedding_space
