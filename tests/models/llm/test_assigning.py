"""Labels count only with ids of the list and words of the session; votes become soft labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from streamer.models.labelling.audit import agreement, audit
from streamer.models.llm.asking import Asker
from streamer.models.llm.assigning import Assignment, IntentChoices, problem, soft_label, votes
from streamer.models.taxonomy import Intent, Parent, Taxonomy
from tests.models.llm.rule_endpoint import Body, Reply, completion, serving

CHOICES = IntentChoices({"loan": "Loan. About loans", "card": "Card. About cards"})
RENDERED = {
    "s1": "mobile, 1 clicks in 0 min\npage_view /loan",
    "s2": "mobile, 1 clicks in 0 min\npage_view /x",
}


def said(*sessions: tuple[str, list[tuple[str, str]]]) -> Assignment:
    import msgspec

    listed = [{"id": i, "intents": [{"intent": n, "evidence": q} for n, q in named]} for i, named in sessions]
    return msgspec.convert({"sessions": listed}, Assignment)


OTHER = ("s2", [("other", "")])


@pytest.mark.parametrize(
    ("sessions", "why"),
    [
        ([("s1", [("loan", "/loan")]), OTHER], None),
        ([("s1", [("loan", "/loan"), ("card", "page_view")]), OTHER], None),
        ([("s1", [("loan", "/loan")])], "missing: s2"),
        ([("s1", [("loan", "/loan")]), OTHER, OTHER], "exactly once"),
        ([("s1", [("house", "/loan")]), OTHER], "isn't in the list"),
        ([("s1", [("loan", "a loan, surely")]), OTHER], "evidence that isn't in it"),
        ([("s1", [("loan", "")]), OTHER], "evidence that isn't in it"),
        ([("s1", []), OTHER], "no intent"),
        ([("s1", [("loan", "/loan")] * 2), OTHER], None),
        ([("s1", [("loan", "/loan"), ("other", "")]), OTHER], None),
    ],
)
def test_what_counts_as_a_label(sessions: list[Any], why: str | None) -> None:
    found = problem(said(*sessions), CHOICES, RENDERED)
    assert (found is None) if why is None else (why in str(found))


def test_votes_are_shares_of_mass_and_a_second_intent_has_half_of_the_first() -> None:
    ids = ["loan", "card"]
    label = soft_label([("loan",), ("loan", "card"), ("other",)], ids)
    assert label is not None
    np.testing.assert_allclose(label, [5 / 6, 1 / 6], rtol=1e-6)


@pytest.mark.parametrize("cast", [[], [("other",)], [("loan",), ("other",)]])
def test_a_session_that_fits_nothing_has_no_label(cast: list[tuple[str, ...]]) -> None:
    assert soft_label(cast, ["loan", "card"]) is None


def test_sessions_that_spoil_an_answer_are_asked_one_by_one(asker_of: Callable[..., Asker]) -> None:
    def stubborn(_number: int, body: Body) -> Reply | None:
        asked = body["messages"][1]["content"]
        return completion("no") if "poison" in asked else None

    renderings = ["d\npage_view /loan", "d\npage_view /poison", "d\npage_view /card"]
    with serving(stubborn) as server:
        found = votes(asker_of(server.base_url), CHOICES, renderings, 2)
    assert found == [[("loan",), ("loan",)], [], [("card",), ("card",)]]


def test_every_vote_sees_the_intents_in_an_order_of_its_own(asker_of: Callable[..., Asker]) -> None:
    many = IntentChoices({f"i{k}": f"Word{k}." for k in range(8)})
    with serving() as server:
        votes(asker_of(server.base_url, concurrency=1), many, ["d\npage_view /a"], 3)
        lists = [body["messages"][1]["content"].partition("</intents>")[0] for body in server.bodies]
    assert len(set(lists)) == 3
    assert len({frozenset(each.splitlines()) for each in lists}) == 1


def test_agreement_is_that_beyond_chance() -> None:
    assert agreement([("a", "a"), ("b", "b")]) == {"pairs": 2, "agree": 1.0, "kappa": 1.0}
    assert agreement([("a", "b"), ("b", "a")])["kappa"] == -1.0
    assert agreement([]) == {"pairs": 0, "agree": None, "kappa": None}
    assert agreement([("a", "a")])["kappa"] is None


def test_the_audit_shows_confusions_others_and_examples() -> None:
    taxonomy = Taxonomy(
        1, "1", "llm:x", (Parent("p", "P"),), (Intent("loan", "Loan", "p"), Intent("card", "Card", "p"))
    )
    cast = [[("loan",), ("loan",)], [("loan",), ("card",)], [("other",), ("other",)], []]
    report = audit(taxonomy, ["r0", "r1", "r2", "r3"], cast, [[("loan",)], [("card",)]])
    assert report["share_of_other"] == pytest.approx(1 / 3, abs=1e-3)
    assert report["without_usable_vote"] == 1
    assert report["test_retest"]["agree"] == pytest.approx(2 / 3, abs=1e-3)
    assert report["two_models"] == {"pairs": 2, "agree": 0.5, "kappa": pytest.approx(-1 / 3, abs=1e-3)}
    assert report["confusions"] == [{"intents": ["card", "loan"], "times": 1}]
    loan, card = report["intents"]
    assert (loan["sessions"], loan["all_votes_agree"], loan["examples"]) == (2, 0.5, ["r0"])
    assert (card["sessions"], card["examples"]) == (0, [])
