"""What was paid for is kept, and no more is paid than was allowed."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from streamer.models.llm.answer_store import AnswerStore
from streamer.models.llm.budget import Budget
from streamer.models.llm.endpoint import Answer
from streamer.models.llm.errors import BudgetSpentError
from streamer.models.llm.structured_output import FormatFallback


def test_an_answer_is_found_again_by_what_was_asked(tmp_path: Path) -> None:
    file = tmp_path / "llm" / "answers.jsonl"
    store = AnswerStore(file)
    key = store.key({"a": 1, "b": "ü"})
    assert store.get(key) is None
    store.put(key, Answer("yes", "stop", 12))
    assert AnswerStore(file).get(AnswerStore.key({"b": "ü", "a": 1})) == Answer("yes", "stop", 12)
    assert store.get(store.key({"a": 2, "b": "ü"})) is None


def test_half_a_line_is_no_answer_and_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    store = AnswerStore(file)
    store.put("a" * 64, Answer("yes", "stop", 12))
    store.put("b" * 64, Answer("no", "stop", 12))
    file.write_bytes(file.read_bytes()[:-9])
    again = AnswerStore(file)
    assert again.get("b" * 64) is None
    again.put("c" * 64, Answer("perhaps", "stop", 12))
    assert AnswerStore(file).get("a" * 64) == Answer("yes", "stop", 12)
    assert AnswerStore(file).get("c" * 64) == Answer("perhaps", "stop", 12)


def refused(budget: Budget, tokens: int) -> str:
    with pytest.raises(BudgetSpentError) as caught, budget.reserved(tokens):
        pass
    return str(caught.value)


def test_the_budget_counts_what_is_under_way(tmp_path: Path) -> None:
    budget = Budget(2, 1000, tmp_path / "spent.json")
    with budget.reserved(400) as took, budget.reserved(400):
        assert "llm.budget_requests" in refused(budget, 1)
        took(300)
    assert budget.spent() == (2, 700)
    more = Budget(9, 1000, tmp_path / "spent.json")
    assert "700 of 1000 tokens are spent and the next request may take 400" in refused(more, 400)
    with more.reserved(300):
        pass


def test_a_budget_holds_over_runs_and_whatever_runs_at_once(tmp_path: Path) -> None:
    """A request that ended without an answer may have been paid, so it stays counted."""
    with pytest.raises(ZeroDivisionError), Budget(5, 10**6, tmp_path / "spent.json").reserved(10):
        raise ZeroDivisionError
    sent: list[int] = []

    def run(number: int) -> None:
        budget = Budget(5, 10**6, tmp_path / "spent.json")
        for _ in range(3):
            try:
                with budget.reserved(10) as took:
                    sent.append(number)
                    took(4)
            except BudgetSpentError:
                return

    threads = [Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 4
    assert Budget(5, 10**6, tmp_path / "spent.json").spent() == (5, 10 + 4 * 4)


def test_an_endpoint_is_remembered_by_the_format_that_works(tmp_path: Path) -> None:
    fallback = FormatFallback(tmp_path / "endpoints.json", "here")
    fallback.refused("json_schema")
    fallback.refused("json_schema")
    assert fallback.current == "tool"
    assert FormatFallback(tmp_path / "endpoints.json", "here").current == "tool"
    assert FormatFallback(tmp_path / "endpoints.json", "elsewhere").current == "json_schema"


def test_a_format_is_given_up_after_unreadable_answers_unless_some_could_be_read(tmp_path: Path) -> None:
    fallback = FormatFallback(tmp_path / "endpoints.json", "here")
    fallback.answered("json_schema", readable=True)
    for _ in range(9):
        fallback.answered("json_schema", readable=False)
    assert fallback.current == "json_schema"
    other = FormatFallback(tmp_path / "endpoints.json", "there")
    for _ in range(3):
        other.answered("json_schema", readable=False)
    assert other.current == "tool"
