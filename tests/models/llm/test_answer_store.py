"""What was paid for is kept, and no more is paid than was allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.llm.asking import AnswerStore, Budget
from models.llm.endpoint import Answer
from models.llm.errors import BudgetSpentError
from models.llm.structured_output import FormatFallback


def test_an_answer_is_found_again_by_what_was_asked(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    key = store.key({"a": 1, "b": "ü"})
    assert store.get(key) is None
    store.put(key, Answer("yes", "stop", 12))
    assert AnswerStore(tmp_path).get(AnswerStore.key({"b": "ü", "a": 1})) == Answer("yes", "stop", 12)
    assert store.get(store.key({"a": 2, "b": "ü"})) is None


def test_half_a_file_is_no_answer(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    store.put("ab" * 32, Answer("yes", "stop", 12))
    (path,) = tmp_path.rglob("*.json")
    path.write_bytes(path.read_bytes()[:9])
    assert store.get("ab" * 32) is None


def refused(budget: Budget, tokens: int) -> str:
    with pytest.raises(BudgetSpentError) as caught, budget.reserved(tokens):
        pass
    return str(caught.value)


def test_the_budget_counts_what_is_under_way() -> None:
    budget = Budget(requests=2, tokens=1000)
    with budget.reserved(400), budget.reserved(400):
        assert "llm.budget_requests" in refused(budget, 1)
    budget.paid(700)
    assert "700 of 1000 tokens are spent and the next request may take 400" in refused(budget, 400)
    with budget.reserved(300):
        pass


def test_an_endpoint_is_remembered_by_the_format_that_works(tmp_path: Path) -> None:
    fallback = FormatFallback(tmp_path / "endpoints.json", "here")
    fallback.refused("json_schema")
    fallback.refused("json_schema")
    assert fallback.current == "tool"
    assert FormatFallback(tmp_path / "endpoints.json", "here").current == "tool"
    assert FormatFallback(tmp_path / "endpoints.json", "elsewhere").current == "json_schema"


def test_a_format_is_given_up_after_useless_answers_unless_some_were_of_use(tmp_path: Path) -> None:
    fallback = FormatFallback(tmp_path / "endpoints.json", "here")
    fallback.answered("json_schema", useful=True)
    for _ in range(9):
        fallback.answered("json_schema", useful=False)
    assert fallback.current == "json_schema"
    other = FormatFallback(tmp_path / "endpoints.json", "there")
    for _ in range(3):
        other.answered("json_schema", useful=False)
    assert other.current == "tool"
