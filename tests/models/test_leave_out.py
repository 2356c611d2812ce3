"""The clicks that speak most for a label, of many sessions at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from streamer import sample
from streamer.core.rules import SessionRules
from streamer.models.bundle import default_bundle, load_bundle
from streamer.models.encoded import Encoded
from streamer.models.explain import Explanation, explain
from streamer.models.leave_out import Reason, strongest
from streamer.models.scorer import Scored, Scorer
from streamer.replay.file_source import sessions_of_file
from streamer.schemas.click import HEAD_CLICKS, KEPT_CLICKS, Session
from tests.models.hand_made import a_click, a_session, of_length


@pytest.fixture(scope="module")
def plain() -> Scorer:
    return Scorer(load_bundle(default_bundle()))


@pytest.fixture(scope="module")
def scorer(plain: Scorer) -> Scorer:
    return Scorer(plain.bundle, reasons=True)


@pytest.fixture(scope="module")
def sessions() -> list[Session]:
    """Of people, in the shipped sample, and long ones made of theirs."""
    found = [each for each in sessions_of_file(sample.path(), SessionRules()).sessions if not each.is_bot]
    clicks = [click for each in found for click in each.clicks][: 2 * KEPT_CLICKS]
    ordered = [replace(click, timestamp=clicks[0].timestamp + 5000 * at) for at, click in enumerate(clicks)]
    long = a_session(*ordered[:KEPT_CLICKS])
    cut = a_session(*ordered[:HEAD_CLICKS], *ordered[HEAD_CLICKS - KEPT_CLICKS :], cut=KEPT_CLICKS)
    return [*found[:150], long, cut]


def scored(scorer: Scorer, sessions: Sequence[Session]) -> list[Scored]:
    found = scorer.score(sessions)
    assert all(isinstance(each, Scored) for each in found)
    return found  # type: ignore[return-value]


def expected(plain: Scorer, session: Session) -> list[Reason]:
    """By the explanation of the session alone."""
    found = explain(plain, session)
    assert isinstance(found, Explanation)
    reasons = []
    for at in found.strongest[:3] if found.label.top_intent else ():
        click, effect = session.clicks[at], found.clicks[at]
        assert effect is not None
        reasons.append(Reason(at + 1, click.event_id, click.event_type, click.page_type, effect.contribution))
    return reasons


def test_reasons_are_those_of_the_explanation_whatever_is_scored_beside(
    plain: Scorer, scorer: Scorer, sessions: list[Session]
) -> None:
    alone = [expected(plain, session) for session in sessions]
    assert {len(each) for each in alone} == {0, 1, 2, 3}
    rng = random.Random(5)
    for size in (len(sessions), 40, 1):
        order = rng.sample(range(len(sessions)), size)
        found = scored(scorer, [sessions[i] for i in order])
        assert [each.reasons for each in found] == [alone[i] for i in order]


def test_nothing_else_of_a_result_depends_on_whether_reasons_are_told(
    plain: Scorer, scorer: Scorer, sessions: list[Session]
) -> None:
    for silent, told in zip(scored(plain, sessions), scored(scorer, sessions), strict=True):
        assert silent.reasons is None
        assert told.embedding.tobytes() == silent.embedding.tobytes()
        assert structs.replace(told, embedding=None, reasons=None) == structs.replace(silent, embedding=None)


def test_an_abstention_and_a_session_of_one_click_have_no_reasons(
    scorer: Scorer, sessions: list[Session]
) -> None:
    never = structs.replace(scorer.bundle.calibration, min_probability=1.0)
    strict = Scorer(replace(scorer.bundle, calibration=never), reasons=True)
    assert all(each.reasons == [] for each in scored(strict, sessions))
    always = structs.replace(never, min_probability=0.0, max_novelty=1e9, min_clicks=0)
    bold = Scorer(replace(scorer.bundle, calibration=always), reasons=True)
    (alone,) = scored(bold, [of_length(1, path="/loans/mortgage")])
    assert alone.top_intent is not None
    assert alone.reasons == []


def test_what_was_typed_is_in_no_reason(scorer: Scorer, sessions: list[Session]) -> None:
    typed = [
        replace(each, clicks=[replace(click, search_query="my secret") for click in each.clicks])
        for each in sessions
    ]
    told = [reason for each in scored(scorer, typed) for reason in each.reasons or ()]
    assert told
    assert "secret" not in repr(told)


class NotWithoutClicks:
    """A tokenizer that fails on what is left of one session."""

    def __init__(self, tokenizer: Any, whole: Session) -> None:
        self._tokenizer, self._whole = tokenizer, whole

    def encode(self, sessions: Sequence[Session]) -> list[Encoded]:
        for each in sessions:
            if each.session_id == self._whole.session_id and each.event_count < self._whole.event_count:
                raise RuntimeError
        found: list[Encoded] = self._tokenizer.encode(sessions)
        return found


def test_a_session_that_fails_less_a_click_has_no_reasons_and_disturbs_no_other(
    scorer: Scorer, sessions: list[Session]
) -> None:
    some = sessions[:30]
    undisturbed = scored(scorer, some)
    at = next(at for at, each in enumerate(undisturbed) if each.reasons)
    failing: Any = NotWithoutClicks(scorer.bundle.tokenizer, some[at])
    found = scored(Scorer(replace(scorer.bundle, tokenizer=failing), reasons=True), some)
    assert found[at].reasons is None
    assert found[at].top_intent == undisturbed[at].top_intent
    del found[at], undisturbed[at]
    assert [each.reasons for each in found] == [each.reasons for each in undisturbed]


def test_clicks_that_say_the_same_are_named_in_their_order() -> None:
    assert strongest([0.5, None, 0.7, 0.5, 0.0, -1.0, float("nan")]) == [2, 0, 3]


def test_a_session_of_clicks_that_are_all_alike_has_an_answer(plain: Scorer, scorer: Scorer) -> None:
    for count in (2, 9, KEPT_CLICKS):
        clicks = [a_click(0, event_id=f"e{at}", path="/loans", page_type="product") for at in range(count)]
        session = a_session(*clicks)
        (found,) = scored(scorer, [session])
        assert found.reasons == expected(plain, session)
