"""The batch API over real HTTP: the same answers as one by one, whatever becomes of a batch."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from streamer.models.labelling.teacher import TeacherOutput
from streamer.models.llm.answer_store import AnswerStore
from streamer.models.llm.asking import Asker
from streamer.models.llm.batch_endpoint import BatchEndpoint
from streamer.models.llm.batches import PENDING, Batches
from streamer.models.llm.budget import Budget
from streamer.models.llm.config import LlmConfig
from streamer.models.llm.dialogue import Question
from streamer.models.llm.errors import BatchError, BudgetSpentError, EndpointError
from streamer.models.llm.structured_output import AnswerSchema
from streamer.models.llm.teacher import LlmTeacher
from streamer.pipeline.scrub import scrub
from tests.models.llm.batch_rule_endpoint import BatchRuleEndpoint, Line
from tests.models.llm.conftest import QUICK
from tests.models.llm.rule_endpoint import Body, Reply, completion, running
from tests.models.llm.teacher_inputs import FEW, teacher_input

BatchAskerOf = Callable[..., Asker]


class Colour(msgspec.Struct, frozen=True):
    name: str


SCHEMA = AnswerSchema("colour", Colour, lambda found: None if found.name.startswith("c") else "no colour")
QUESTIONS = [(Question("Name a colour.", f"Number {i}."), SCHEMA) for i in range(30)]


def colour(_number: int, body: Body) -> Reply:
    number = body["messages"][1]["content"].split()[1]
    return completion(json.dumps({"name": f"c{number}"}), tool="tools" in body)


class KilledError(Exception):
    pass


def killed(_seconds: float) -> None:
    raise KilledError


@pytest.fixture
def server() -> Iterator[BatchRuleEndpoint]:
    with running(BatchRuleEndpoint(colour)) as server:
        yield server


@pytest.fixture
def asker_of(tmp_path: Path) -> Iterator[BatchAskerOf]:
    """`asker_of(base_url, most, sleep, **config)`: with the batch API."""
    with ExitStack() as stack:

        def make(
            base_url: str, most: int = 5000, sleep: Callable[[float], None] = lambda _: None, **fields: Any
        ) -> Asker:
            config = LlmConfig(base_url, **({"model": "rules"} | QUICK | fields))
            endpoint = BatchEndpoint(config)
            stack.callback(endpoint.close)
            store = AnswerStore(tmp_path / "answers" / "answers.jsonl")
            budget = Budget(config.budget_requests, config.budget_tokens, tmp_path / "answers" / "spent.json")
            batches = Batches(endpoint, store, budget, most, sleep)
            return Asker(config, endpoint, store, budget, batches)

        yield make


def all_asked(asker: Asker) -> list[str]:
    asker.prefetch(QUESTIONS)
    return [found.name for found in asker.map(lambda each: asker.ask(*each), QUESTIONS)]


ALL = [f"c{i}." for i in range(30)]


def test_a_batch_is_waited_for_with_back_off_and_read_and_deleted_at_the_endpoint(
    server: BatchRuleEndpoint, asker_of: BatchAskerOf
) -> None:
    waits: list[float] = []
    asker = asker_of(server.base_url, sleep=waits.append)
    assert all_asked(asker) == ALL
    assert ([len(each) for each in server.batched], len(server.bodies)) == ([29], 1)
    assert waits == [5.0, 7.5]
    assert server.files == {}
    assert asker.budget.spent() == (30, 3000)
    assert (asker.answers, asker.tokens, asker.causes.total()) == (30, 3000, 0)


def test_few_requests_are_sent_one_by_one(server: BatchRuleEndpoint, asker_of: BatchAskerOf) -> None:
    asker_of(server.base_url).prefetch(QUESTIONS[:9])
    assert (server.batched, server.bodies) == ([], [])


def careless(_number: int, body: Body) -> Reply | None:
    """One question in five is answered badly when it is first asked."""
    asked = zlib.crc32(json.dumps(body["messages"]).encode())
    poor = {0: completion("I'd rather not."), 1: completion('{"se', finish="length")}
    return poor.get(asked % 10) if len(body["messages"]) == 2 and body["max_tokens"] == 2000 else None


def test_a_teacher_gives_the_same_with_batches_as_without(asker_of: BatchAskerOf, tmp_path: Path) -> None:
    few = FEW | {"sessions_per_label": 1, "sessions_per_summary": 1}

    def taught(name: str, batched: bool) -> tuple[TeacherOutput, BatchRuleEndpoint, Asker]:
        (tmp_path / name).mkdir()
        with running(BatchRuleEndpoint(careless)) as server:
            asker = asker_of(server.base_url, **few)
            if not batched:
                asker.batches = None
            teacher = LlmTeacher(asker.config, asker, scrub, tmp_path / name, 1, 3)
            return teacher.teach(teacher_input(80), teacher_input(30, 1), None), server, asker

    plain, server, asker = taught("plain", batched=False)
    sent, spent = len(server.bodies), asker.budget.spent()
    (tmp_path / "answers" / "spent.json").unlink()
    batched, server, asker = taught("batched", batched=True)
    assert batched.taxonomy == plain.taxonomy
    assert batched.notes == plain.notes
    assert batched.notes["asked_again"] != 0
    for a, b in ((batched.train, plain.train), (batched.validation, plain.validation)):
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal(a.probabilities, b.probabilities)
    assert (tmp_path / "batched/audit.json").read_text() == (tmp_path / "plain/audit.json").read_text()
    assert sum(map(len, server.batched)) + len(server.bodies) == sent
    assert len(server.bodies) < sent / 5
    assert asker.budget.spent() == spent


def test_a_killed_job_waits_for_the_same_batch(server: BatchRuleEndpoint, asker_of: BatchAskerOf) -> None:
    with pytest.raises(KilledError):
        all_asked(asker_of(server.base_url, sleep=killed))
    asker = asker_of(server.base_url)
    assert all_asked(asker) == ALL
    assert ([len(each) for each in server.batched], len(server.bodies)) == ([29], 1)
    assert asker.budget.spent() == (30, 3000)


def test_a_batch_that_was_started_without_a_word_is_found(
    server: BatchRuleEndpoint, asker_of: BatchAskerOf
) -> None:
    server.hangs_up_once_started = True
    with pytest.raises(EndpointError, match="can't be reached"):
        all_asked(asker_of(server.base_url))
    server.hangs_up_once_started = False
    asker = asker_of(server.base_url)
    assert all_asked(asker) == ALL
    assert len(server.batched) == 1
    assert asker.budget.spent() == (30, 3000)


@pytest.mark.parametrize(
    ("ends_as", "most", "said"),
    [
        ("expired", 12, r"batch_0 expired before it was done: 12 of 29 were answered and are kept\. Run"),
        ("cancelled", 0, "batch_0 was cancelled at the endpoint: 0 of 29"),
        ("failed", None, r"refused batch batch_0 \(token_limit_exceeded\): .* lower llm\.batch_requests"),
    ],
)
def test_each_bad_end_of_a_batch_is_said_and_the_next_run_asks_the_rest(
    server: BatchRuleEndpoint, asker_of: BatchAskerOf, ends_as: str, most: int | None, said: str
) -> None:
    server.ends_as, server.most = ends_as, most
    with pytest.raises(BatchError, match=said) as error:
        all_asked(asker_of(server.base_url))
    assert "secret" not in str(error.value)
    answered = 1 + (most or 0)
    assert asker_of(server.base_url).budget.spent() == (answered, 100 * answered)
    server.ends_as, server.most = "completed", None
    asker = asker_of(server.base_url)
    assert all_asked(asker) == ALL
    assert [len(each) for each in server.batched] == [29, 29 - answered]
    assert asker.budget.spent() == (30, 3000)
    assert server.files == {}


def test_requests_that_fail_in_a_batch_are_sent_one_by_one(
    server: BatchRuleEndpoint, asker_of: BatchAskerOf
) -> None:
    def spoil(number: int, line: Line) -> Line | str:
        failed = {"response": {"status_code": 500, "body": {"error": {"message": "secret"}}}}
        strange = {0: "{half a line", 1: line | {"response": None, "error": {"code": "x"}}}
        return strange.get(number, line | failed if number < 12 else line)

    server.spoil = spoil
    asker = asker_of(server.base_url)
    assert all_asked(asker) == ALL
    assert ([len(each) for each in server.batched], len(server.bodies)) == ([29], 1 + 12)
    assert asker.budget.spent() == (30, 3000)


def test_a_batch_that_mostly_fails_ends_the_job(server: BatchRuleEndpoint, asker_of: BatchAskerOf) -> None:
    server.spoil = lambda number, line: (
        line if number < 9 else line | {"response": {"status_code": 429, "body": {}}}
    )
    with pytest.raises(BatchError, match=r"left most of its requests \(mostly for 429\): 9 of 29"):
        all_asked(asker_of(server.base_url))


def test_what_is_no_completion_is_not_kept_and_strange_lines_are_left(
    server: BatchRuleEndpoint, asker_of: BatchAskerOf
) -> None:
    def spoil(number: int, line: Line) -> Line | str:
        strange = {
            0: "[]", 1: json.dumps(line | {"custom_id": "another"}), 2: "\xff",
            3: line | {"response": {"status_code": 200, "body": "no completion"}},
            4: line | {"response": {"status_code": 200, "body": {"choices": []}}},
        }  # fmt: skip
        return strange.get(number, line)

    server.spoil = spoil
    assert all_asked(asker_of(server.base_url)) == ALL


def test_a_budget_holds_by_smaller_batches_and_then_ends_the_job(
    server: BatchRuleEndpoint, asker_of: BatchAskerOf
) -> None:
    asker = asker_of(server.base_url, budget_tokens=25_000)
    assert all_asked(asker) == ALL
    assert max(map(len, server.batched)) <= 12
    assert asker.budget.spent() == (30, 3000)
    other = [(Question("Name another.", f"Number {i}."), SCHEMA) for i in range(30)]
    with pytest.raises(BudgetSpentError, match=r"raise llm\.budget_requests"):
        asker_of(server.base_url, budget_requests=40).prefetch(other)
    assert asker.budget.spent()[0] == 40


def test_a_batch_has_at_most_so_many_requests(server: BatchRuleEndpoint, asker_of: BatchAskerOf) -> None:
    assert all_asked(asker_of(server.base_url, most=11)) == ALL
    assert [len(each) for each in server.batched] == [11, 11]


def test_an_endpoint_without_a_batch_api_costs_one_request(
    server: BatchRuleEndpoint, asker_of: BatchAskerOf
) -> None:
    server.has_api = False
    asker = asker_of(server.base_url)
    with pytest.raises(BatchError, match=r"has no batch API.*404 not_found.*without --llm-batch"):
        asker.prefetch(QUESTIONS)
    assert asker.budget.spent() == (1, 100)


def test_a_batch_that_is_gone_or_a_record_that_is_damaged_is_said(
    server: BatchRuleEndpoint, asker_of: BatchAskerOf, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        all_asked(asker_of(server.base_url, sleep=killed))
    server.batches.clear()
    with pytest.raises(BatchError, match=rf"batch batch_0: .* delete \S+{PENDING} and run the same command"):
        all_asked(asker_of(server.base_url))
    (tmp_path / "answers" / PENDING).write_bytes(b"{}")
    with pytest.raises(BatchError, match=rf"{PENDING} can't be read"):
        all_asked(asker_of(server.base_url))


def test_two_runs_in_one_folder_do_not_wait_for_one_batch(
    server: BatchRuleEndpoint, asker_of: BatchAskerOf
) -> None:
    def meanwhile(_seconds: float) -> None:
        with pytest.raises(BatchError, match="another run waits for a batch"):
            asker_of(server.base_url).prefetch(QUESTIONS)

    assert all_asked(asker_of(server.base_url, sleep=meanwhile)) == ALL
