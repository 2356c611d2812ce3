"""The bundle that is shipped: whole, small, and right about visitors its training never saw."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from streamer.core.rules import SessionRules
from streamer.models.bundle import Bundle, default_bundle, load_bundle
from streamer.models.scorer import Scored, Scorer
from streamer.models.simulator import SimulatorConfig, simulate
from streamer.models.simulator.files import write_table
from streamer.replay.file_source import sessions_of_file
from streamer.schemas.click import Session

UNSEEN_SEED = 77_002
"""Nothing was trained on it: the shipped bundle's clicks have seed 1."""

Judged = tuple[list[Session], list[Scored], list[str], list[str]]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(default_bundle())


@pytest.fixture(scope="module")
def judged(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Sessions of people, what the bundle says, and their latent first intent and its parent."""
    simulated = simulate(SimulatorConfig(seed=UNSEEN_SEED, visitors=400))
    clicks = tmp_path_factory.mktemp("unseen") / "clicks.jsonl.gz"
    write_table(simulated.clicks(), clicks)
    truth = {(row["visitor_id"], row["start"]): row for row in simulated.sessions() if row["intents"]}
    sessions = [
        session
        for session in sessions_of_file(clicks, SessionRules()).sessions
        if (session.visitor_id, session.started_at) in truth and not session.is_bot
    ]
    results = Scorer(bundle).score(sessions)
    assert all(isinstance(result, Scored) for result in results)
    rows = [truth[session.visitor_id, session.started_at] for session in sessions]
    intents, parents = [row["intents"][0] for row in rows], [row["parents"][0] for row in rows]
    return sessions, results, intents, parents  # type: ignore[return-value]


def mutual_information(a: list[str], b: list[str]) -> float:
    """Normalized by the mean of both entropies."""
    joint, of_a, of_b = Counter(zip(a, b, strict=True)), Counter(a), Counter(b)

    def entropy(counts: Counter[str]) -> float:
        p = np.array(list(counts.values())) / len(a)
        return float(-(p * np.log(p)).sum())

    shared = sum(n / len(a) * np.log(n * len(a) / (of_a[x] * of_b[y])) for (x, y), n in joint.items())
    return 2 * float(shared) / (entropy(of_a) + entropy(of_b))


def test_it_is_small_enough_for_a_repository(bundle: Bundle) -> None:
    assert sum(path.stat().st_size for path in bundle.path.iterdir()) < 4_000_000


def test_it_says_what_it_was_made_of_and_who_labelled(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.name == "default"
    assert manifest.data["source"] == "simulator"
    assert manifest.data["seed"] != UNSEEN_SEED
    assert manifest.teacher == "keyless"
    assert manifest.metrics["pretraining"]["guards"]["passed"]


def test_it_has_a_profile_to_tell_drift_by_and_tells_what_is_shown(bundle: Bundle) -> None:
    profile = bundle.manifest.profile
    assert profile is not None
    assert profile.sessions == bundle.manifest.data["sessions"]["test"]
    assert bundle.calibration.presence_slope is not None


def test_its_intents_agree_with_latent_intents_far_beyond_chance(judged: Judged) -> None:
    _, results, intents, _ = judged
    labels = [result.intents[0].intent_id for result in results]
    shuffled = np.random.default_rng(0).permutation(labels).tolist()
    assert mutual_information(labels, intents) > 0.5
    assert mutual_information(shuffled, intents) < 0.15


def test_its_parents_agree_with_latent_parents(judged: Judged) -> None:
    _, results, _, parents = judged
    assert mutual_information([result.intents[0].parent for result in results], parents) > 0.6


def test_it_is_right_more_often_where_it_does_not_abstain(judged: Judged) -> None:
    _, results, intents, _ = judged
    latent_of: dict[str, Counter[str]] = {}
    for result, latent in zip(results, intents, strict=True):
        latent_of.setdefault(result.intents[0].intent_id, Counter())[latent] += 1
    right = [
        latent_of[result.intents[0].intent_id].most_common(1)[0][0] == latent
        for result, latent in zip(results, intents, strict=True)
    ]
    abstained = [result.abstained for result in results]
    sure = np.mean([hit for hit, no in zip(right, abstained, strict=True) if not no])
    unsure = np.mean([hit for hit, no in zip(right, abstained, strict=True) if no])
    assert sure > unsure + 0.15
    assert 0.02 < np.mean(abstained) < 0.5


def test_it_knows_what_it_has_never_seen(bundle: Bundle) -> None:
    from tests.models.hand_made import a_click, a_session

    strange = a_session(
        *(
            a_click(i * 100, event_type="hover", page_type=f"x{i}", path=f"/{i}q/{i}z/{i}k", element=f"e{i}")
            for i in range(40)
        )
    )
    (result,) = Scorer(bundle).score([strange])
    assert isinstance(result, Scored)
    assert result.abstain_reason == "novel"


def test_its_files_are_readable_by_people(bundle: Bundle) -> None:
    for name in ("taxonomy.json", "manifest.json", "tokenizer.json"):
        assert Path(bundle.path / name).read_text().count("\n") > 20
