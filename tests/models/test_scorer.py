from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from streamer.models.arrays import Float32
from streamer.models.bundle import Bundle
from streamer.models.encoded import Encoded
from streamer.models.runtime import Outputs, Runtime
from streamer.models.scorer import BEST, Numbers, Scored, ScoreError, Scorer, decode_predictions
from streamer.schemas.click import KEPT_CLICKS, Session
from tests.models.hand_made import a_click, a_session, bank_sessions, of_length


def scored(scorer: Scorer, *sessions: Session) -> list[Scored]:
    results = scorer.score(sessions)
    assert all(isinstance(result, Scored) for result in results)
    return results  # type: ignore[return-value]


def bits(result: Scored) -> tuple[object, ...]:
    return result.embedding.tobytes(), result.intents, result.top_intent, result.abstain_reason


def test_each_session_gets_an_embedding_and_its_best_intents(small_scorer: Scorer) -> None:
    results = scored(small_scorer, *bank_sessions(50, seed=9))
    known = {intent.id for intent in small_scorer.bundle.taxonomy.intents}
    parents = {parent.id for parent in small_scorer.bundle.taxonomy.parents}
    for result in results:
        assert result.embedding.shape == (16,)
        assert result.embedding.dtype == np.float32
        chances = [intent.probability for intent in result.intents]
        assert chances == sorted(chances, reverse=True)
        assert len(chances) == min(5, len(known))
        assert {i.intent_id for i in result.intents} <= known
        assert {i.parent for i in result.intents} <= parents
        assert result.abstained == (result.top_intent is None) == (result.abstain_reason is not None)
        assert result.top_intent in (None, result.intents[0].intent_id)


def test_memberships_are_told_where_asked_for_and_are_those_of_the_vector(small_bundle: Bundle) -> None:
    sessions = bank_sessions(30, seed=9)
    prototypes = small_bundle.prototypes
    assert prototypes is not None
    for result in scored(Scorer(small_bundle, memberships=True), *sessions):
        assert result.memberships is not None
        alone = prototypes.memberships(result.embedding[None])
        assert result.memberships.tobytes() == alone.tobytes()
    without = Scorer(replace(small_bundle, prototypes=None), memberships=True)
    for scorer in (Scorer(small_bundle), without):
        assert all(result.memberships is None for result in scored(scorer, *sessions))


def test_no_sessions_give_no_results(small_scorer: Scorer) -> None:
    assert small_scorer.score([]) == []


def test_a_result_does_not_depend_on_the_neighbours_bit_for_bit(small_scorer: Scorer) -> None:
    rng = random.Random(3)
    sessions = bank_sessions(80, seed=4)
    alone = [bits(scored(small_scorer, session)[0]) for session in sessions]
    for _ in range(20):
        order = rng.sample(range(len(sessions)), rng.randint(1, len(sessions)))
        together = scored(small_scorer, *(sessions[i] for i in order))
        assert [bits(result) for result in together] == [alone[i] for i in order]


@pytest.mark.parametrize(
    "broken",
    [
        a_session(session_id="b"),
        a_session(*(a_click(i) for i in range(65)), session_id="b"),
    ],
    ids=["no clicks", "too many clicks"],
)
def test_a_session_that_cannot_be_scored_does_not_disturb_the_others(
    small_scorer: Scorer, broken: Session
) -> None:
    sessions = bank_sessions(6, seed=2)
    undisturbed = [bits(result) for result in scored(small_scorer, *sessions)]
    results = small_scorer.score([*sessions[:3], broken, *sessions[3:]])
    failed = results.pop(3)
    assert isinstance(failed, ScoreError)
    assert failed.session_id == "b"
    assert [bits(result) for result in results] == undisturbed  # type: ignore[arg-type]


def test_an_error_does_not_show_what_a_customer_typed(small_scorer: Scorer) -> None:
    clicks = [a_click(at, search_query="my secret") for at in range(KEPT_CLICKS + 1)]
    (failed,) = small_scorer.score([a_session(*clicks)])
    assert isinstance(failed, ScoreError)
    assert "secret" not in failed.reason


NUMBERS = st.floats(width=32) | st.sampled_from([0.0, 0.45, 0.5, 1.0])


@st.composite
def predictions(draw: st.DrawFn) -> Numbers:
    """Whatever numbers there may be, finite or not."""
    count, intents = draw(st.integers(1, 6)), draw(st.integers(1, BEST))

    def floats(*shape: int) -> Float32:
        size = int(np.prod(shape))
        numbers = draw(st.lists(NUMBERS, min_size=size, max_size=size))
        return np.array(numbers, np.float32).reshape(shape)

    return Numbers(
        embeddings=floats(count, 3),
        finite=np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count))),
        novelty=floats(count),
        best=np.array([draw(st.permutations(range(BEST)))[:intents] for _ in range(count)]),
        chances=floats(count, intents),
        of_parents=floats(count, intents),
        presence=draw(st.none() | st.just(floats(count, intents))),
        memberships=draw(st.none() | st.just(floats(count, 4))),
    )


@given(predictions(), st.data())
def test_a_result_has_the_numbers_of_its_own_row(numbers: Numbers, data: st.DataObject) -> None:
    names = [(f"id {i}", f"label {i}", f"parent {i}") for i in range(BEST)]
    count, width = numbers.best.shape
    reasons = [data.draw(st.sampled_from([None, "novel"])) for _ in range(count)]
    for row, result in enumerate(decode_predictions(numbers, names, reasons)):
        if not numbers.finite[row]:
            assert result is None
            continue
        assert result is not None
        assert result.embedding.tobytes() == numbers.embeddings[row].tobytes()
        shares = None if numbers.memberships is None else numbers.memberships[row]
        assert repr(result.memberships) == repr(shares)
        ranks = [(*names[numbers.best[row, rank]], *chances_of(numbers, row, rank)) for rank in range(width)]
        # As text, for not-a-number doesn't equal itself.
        assert repr([msgspec.structs.astuple(intent) for intent in result.intents]) == repr(ranks)
        assert result.abstain_reason == reasons[row]
        assert result.abstained == (reasons[row] is not None)
        assert result.top_intent == (None if reasons[row] else result.intents[0].intent_id)


def chances_of(numbers: Numbers, row: int, rank: int) -> tuple[float, float, float | None]:
    presence = None if numbers.presence is None else float(numbers.presence[row, rank])
    return float(numbers.chances[row, rank]), float(numbers.of_parents[row, rank]), presence


def test_one_whose_numbers_are_not_finite_fails_alone(
    small_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [of_length(3), of_length(12), of_length(12)]
    expected = scored(small_scorer, *sessions)

    def broken(encoded: Encoded) -> Outputs:
        outputs = Runtime.run(small_scorer.bundle.runtime, encoded)
        outputs.embeddings[encoded.rows == 1, 0] = np.nan
        return outputs

    monkeypatch.setattr(small_scorer.bundle.runtime, "run", broken)
    first, failed, last = small_scorer.score(sessions)
    assert failed == ScoreError("0" * 32, "session can't be scored: its embedding is not finite")
    assert [bits(each) for each in (first, last)] == [bits(expected[0]), bits(expected[2])]  # type: ignore[arg-type]


def with_limits(bundle: Bundle, **limits: float) -> Scorer:
    neither = {"min_probability": 0.0, "max_novelty": 1e30, "min_clicks": 0}
    return Scorer(replace(bundle, calibration=changed(bundle.calibration, **(neither | limits))))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({}, None),
        ({"min_probability": 1.0}, "ambiguous"),
        ({"max_novelty": 0.0}, "novel"),
        ({"min_clicks": 4}, "too_short"),
        ({"min_probability": 1.0, "max_novelty": 0.0}, "novel"),
        ({"max_novelty": 0.0, "min_clicks": 4}, "too_short"),
    ],
)
def test_it_abstains_for_the_first_reason_that_holds(
    small_bundle: Bundle, limits: dict[str, float], reason: str | None
) -> None:
    (result,) = scored(with_limits(small_bundle, **limits), of_length(3, path="/cards"))
    assert result.abstain_reason == reason


def test_a_session_as_long_as_min_clicks_is_long_enough(small_bundle: Bundle) -> None:
    (result,) = scored(with_limits(small_bundle, min_clicks=3), of_length(3))
    assert result.abstain_reason is None


def test_one_click_with_a_query_is_not_too_short(small_bundle: Bundle) -> None:
    scorer = with_limits(small_bundle, min_clicks=2)
    short, asked = scored(scorer, of_length(1), of_length(1, search_query="gold card"))
    assert (short.abstain_reason, asked.abstain_reason) == ("too_short", None)


def test_a_parents_probability_is_the_sum_over_all_of_its_intents(small_scorer: Scorer) -> None:
    intents = small_scorer.bundle.taxonomy.intents
    sessions = bank_sessions(30, seed=4)
    for result in small_scorer.score(sessions):
        assert isinstance(result, Scored)
        if len(intents) <= 5:  # all of them are told
            for parent in {intent.parent for intent in result.intents}:
                told = [each for each in result.intents if each.parent == parent]
                total = sum(each.probability for each in told)
                assert all(each.parent_probability == pytest.approx(total, abs=1e-6) for each in told)
        assert all(0 <= (each.presence or 0) <= 1 for each in result.intents)
        assert all((each.parent_probability or 0) >= each.probability - 1e-6 for each in result.intents)


def test_parents_and_presence_do_not_depend_on_the_neighbours(small_scorer: Scorer) -> None:
    sessions = bank_sessions(60, seed=4)
    together = small_scorer.score(sessions)
    alone = [small_scorer.score([session])[0] for session in sessions]
    for a, b in zip(together, alone, strict=True):
        assert isinstance(a, Scored)
        assert isinstance(b, Scored)
        assert a.intents == b.intents
