from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from msgspec import structs

from streamer import sample
from streamer.core.rules import SessionRules
from streamer.models.bundle import default_bundle, load_bundle
from streamer.models.calibration import log_odds
from streamer.models.explain import Explanation, explain, nearest
from streamer.models.leave_out import without
from streamer.models.scorer import Scored, ScoreError, Scorer
from streamer.replay.file_source import sessions_of_file
from streamer.schemas.click import HEAD_CLICKS, KEPT_CLICKS, Session
from tests.models.hand_made import a_click, a_session, of_length


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(load_bundle(default_bundle()))


@pytest.fixture(scope="module")
def sessions() -> list[Session]:
    """Of people, in the shipped sample."""
    return [each for each in sessions_of_file(sample.path(), SessionRules()).sessions if not each.is_bot]


def explained(scorer: Scorer, session: Session) -> Explanation:
    found = explain(scorer, session)
    assert isinstance(found, Explanation)
    return found


def probability(scorer: Scorer, session: Session, intent_id: str) -> float:
    """Of an intent, the session scored alone."""
    bundle = scorer.bundle
    (encoded,) = bundle.tokenizer.encode([session])
    probabilities = bundle.calibration.probabilities(bundle.runtime.run(encoded).logits)
    return float(probabilities[0, [intent.id for intent in bundle.taxonomy.intents].index(intent_id)])


def odds(chance: float) -> float:
    return float(log_odds(np.array(chance, np.float32)))


def label(scorer: Scorer, session: Session) -> str | None:
    (scored,) = scorer.score([session])
    assert isinstance(scored, Scored)
    return scored.top_intent


def test_a_click_contributes_what_the_log_odds_lose_without_it(
    scorer: Scorer, sessions: list[Session]
) -> None:
    for session in [each for each in sessions if len(each.clicks) > 1][:40]:
        found = explained(scorer, session)
        intent = found.intents[0]
        assert found.log_odds == odds(intent.probability)
        for at, each in enumerate(found.clicks):
            assert each is not None
            assert each.probability == probability(scorer, without(session, {at}), intent.intent_id)
            assert each.contribution == found.log_odds - odds(each.probability)


def test_what_is_left_is_one_session_whose_next_click_has_a_longer_gap() -> None:
    clicks = [a_click(0), a_click(1000, dwell_ms=5), a_click(4000)]
    session = replace(a_session(*clicks), event_count=3)
    assert without(session, {1}) == replace(session, clicks=[clicks[0], clicks[2]], event_count=2)
    shorter = without(session, {0})
    assert (shorter.started_at, shorter.ended_at) == (clicks[1].timestamp, clicks[2].timestamp)


@pytest.mark.parametrize("field", ["path", "page_type", "search_query", "device", "element"])
def test_a_field_contributes_what_the_log_odds_lose_where_all_clicks_lack_it(
    scorer: Scorer, sessions: list[Session], field: str
) -> None:
    having = [each for each in sessions if any(getattr(click, field) for click in each.clicks)]
    assert len(having) >= 10
    for session in having[:10]:
        found = explained(scorer, session)
        lacking = replace(session, clicks=[replace(click, **{field: None}) for click in session.clicks])
        assert found.fields[field].probability == probability(scorer, lacking, found.intents[0].intent_id)


def test_fields_that_a_session_lacks_are_not_told(scorer: Scorer) -> None:
    found = explained(scorer, of_length(2, path="/loans"))
    assert set(found.fields) == {"path", "event_type", "dwell", "gap", "hour"}


def test_the_time_between_head_and_tail_stays_unknown_without_a_click(scorer: Scorer) -> None:
    """So it makes no difference to any contribution how long it was."""
    clicks = [a_click(i * 1000, path=f"/loans/{i % 7}", page_type="product") for i in range(KEPT_CLICKS)]
    later = [replace(each, timestamp=each.timestamp + 9_000_000) for each in clicks[HEAD_CLICKS:]]
    known = explained(scorer, a_session(*clicks, cut=10))
    shifted = explained(scorer, a_session(*clicks[:HEAD_CLICKS], *later, cut=10))
    assert known.clicks == shifted.clicks
    assert known.change == shifted.change


def test_the_only_click_has_no_contribution_of_its_own(scorer: Scorer) -> None:
    found = explained(scorer, of_length(1, search_query="mortgage rates"))
    assert found.clicks == [None]
    assert found.change is None
    assert found.strongest == []
    assert found.fields["search_query"].contribution != 0


def test_the_change_is_the_smallest_set_without_which_the_label_is_another(
    scorer: Scorer, sessions: list[Session]
) -> None:
    sizes = set()
    for session in [each for each in sessions if 2 <= len(each.clicks) <= 6][:60]:
        found = explained(scorer, session)
        count = len(session.clicks)
        changing = next(
            (
                chosen
                for size in range(1, count)
                for chosen in combinations(range(count), size)
                if label(scorer, without(session, chosen)) != found.label.top_intent
            ),
            None,
        )
        assert (changing is None) == (found.change is None)
        if changing and found.change:
            assert len(found.change.clicks) == len(changing)
            assert found.change.is_smallest
            assert found.change.label.top_intent == label(scorer, without(session, found.change.clicks))
            sizes.add(len(changing))
    assert len(sizes) > 2


def test_in_a_long_session_a_change_is_one_that_does_though_a_smaller_may_do(
    scorer: Scorer, sessions: list[Session]
) -> None:
    found = [(each, explained(scorer, each)) for each in sessions if len(each.clicks) > 10]
    large = [(session, each) for session, each in found if each.change and not each.change.is_smallest]
    assert large
    for session, each in large:
        assert each.change is not None
        assert each.change.label.top_intent != each.label.top_intent
        assert each.change.label.top_intent == label(scorer, without(session, each.change.clicks))


@pytest.mark.parametrize(
    ("limits", "reason"), [({"min_probability": 1.0}, "ambiguous"), ({"max_novelty": 0.0}, "novel")]
)
def test_of_an_abstention_the_best_candidate_is_explained_and_what_decided(
    scorer: Scorer, sessions: list[Session], limits: dict[str, float], reason: str
) -> None:
    bundle = scorer.bundle
    strict = Scorer(replace(bundle, calibration=structs.replace(bundle.calibration, **limits)))
    session = next(each for each in sessions if label(scorer, each) and label(strict, each) is None)
    usual, found = explained(scorer, session), explained(strict, session)
    assert found.label == (None, reason)
    assert found.intents == usual.intents
    assert found.clicks == usual.clicks
    (encoded,) = bundle.tokenizer.encode([session])
    assert found.evidence.novelty == bundle.runtime.run(encoded).novelty[0]
    assert found.evidence.probability == found.intents[0].probability
    limit = {"ambiguous": found.evidence.min_probability, "novel": found.evidence.max_novelty}[reason]
    assert limit == next(iter(limits.values()))


def test_a_session_that_cannot_be_scored_cannot_be_explained(scorer: Scorer) -> None:
    assert isinstance(explain(scorer, a_session()), ScoreError)


def test_without_the_strongest_clicks_the_label_is_less_probable_than_without_any_others(
    scorer: Scorer, sessions: list[Session]
) -> None:
    """In the mean over sessions; docs/explain.md has the measurement."""
    rng = random.Random(1)
    named, drawn = [], []
    labelled = [each for each in sessions if len(each.clicks) >= 6 and label(scorer, each)]
    assert len(labelled) > 50
    for session in labelled[:100]:
        found = explained(scorer, session)
        intent = found.intents[0].intent_id
        strongest = set(found.strongest[:3])
        others = set(rng.sample(range(len(session.clicks)), len(strongest)))
        named.append(probability(scorer, without(session, strongest), intent))
        drawn.append(probability(scorer, without(session, others), intent))
    assert np.mean(named) < np.mean(drawn) - 0.1


def test_the_nearest_are_those_with_the_largest_cosine() -> None:
    embedding = np.array([1.0, 0.0], np.float32)
    others = np.array([[0, 1], [5, 5], [-1, 0], [3, 0], [0, 0]], np.float32)
    rows, cosines = nearest(embedding, others, 2)
    assert rows.tolist() == [3, 1]
    assert cosines.tolist() == pytest.approx([1, 0.5**0.5])
