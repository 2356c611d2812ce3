"""Questions over real HTTP to an endpoint that misbehaves in every way that endpoints do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamer.models.llm.asking import Asker
from streamer.models.llm.causes import Cause, most_often
from streamer.models.llm.dialogue import Question
from streamer.models.llm.errors import BudgetSpentError, EndpointError, UnansweredError
from streamer.models.llm.structured_output import AnswerSchema
from tests.models.llm.rule_endpoint import HANG_UP, Body, Misbehaviour, Reply, as_json, completion, serving

AskerOf = Callable[..., Asker]


class Colour(msgspec.Struct, frozen=True):
    name: str


ALLOWED = ("red", "green")
SCHEMA = AnswerSchema("colour", Colour, lambda found: None if found.name in ALLOWED else "not in the list")
QUESTION = Question("Name a colour.", "Any.")
GOOD = '{"name": "red"}'


def good(body: Body) -> Reply:
    return completion(GOOD, tool="tools" in body)


def first(*replies: Reply | None) -> Misbehaviour:
    """These replies, then good ones; None is a good one too."""

    def misbehave(number: int, body: Body) -> Reply | None:
        wrong = replies[number] if number < len(replies) else None
        return wrong or good(body)

    return misbehave


AT_ONCE = {"retry_after_ms": "1"}


@pytest.mark.parametrize(
    "replies",
    [
        [as_json(429, {}, Retry_After="0.01")],
        [as_json(500, {"error": {"message": "secret"}}, **AT_ONCE), as_json(503, {}, **AT_ONCE)],
        [HANG_UP],
        [completion("certainly!")],
        [completion(GOOD[:9], finish="length")],
        [completion(None)],
        [completion("")],
        [completion('{"name": "mauve"}')],
        [completion('{"colour": "red"}')],
        [as_json(200, {"choices": []})],
        [as_json(200, {"choices": None})],
        [as_json(200, ["no", "completion"])],
        [(200, {"Content-Type": "text/html"}, b"<h1>Bad gateway</h1>")],
        [completion(GOOD, tokens=None)],
        [completion("no"), completion("no"), completion("no")],
    ],
    ids=str,
)
def test_a_misbehaving_endpoint_still_gives_an_answer(asker_of: AskerOf, replies: list[Reply]) -> None:
    with serving(first(*replies)) as server:
        assert asker_of(server.base_url).ask(QUESTION, SCHEMA) == Colour("red")


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "text", "text": GOOD[:5]}, {"type": "text", "text": GOOD[5:]}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": '{"name": "green"}'}]},
                     {"type": "text", "text": GOOD}, "odd", {"type": "text"}]},
        {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"name": "red"}}}]},
    ],
    ids=["parts", "thinking", "arguments as an object"],
)  # fmt: skip
def test_text_parts_and_arguments_given_as_an_object_are_read(
    asker_of: AskerOf, message: dict[str, Any]
) -> None:
    reply = as_json(200, {"choices": [{"message": message, "finish_reason": "stop"}]})
    with serving(lambda _number, _body: reply) as server:
        assert asker_of(server.base_url).ask(QUESTION, SCHEMA) == Colour("red")
        assert len(server.bodies) == 1


def test_retry_after_is_kept_to(asker_of: AskerOf) -> None:
    with serving(first(as_json(429, {}, Retry_After="0.4"))) as server:
        started = time.monotonic()
        asker_of(server.base_url).ask(QUESTION, SCHEMA)
        assert time.monotonic() - started >= 0.4
        assert len(server.bodies) == 2


def test_a_slow_answer_is_asked_again(asker_of: AskerOf) -> None:
    def slow_once(number: int, body: Body) -> Reply:
        time.sleep(0.4 * (number == 0))
        return good(body)

    with serving(slow_once) as server:
        assert asker_of(server.base_url, timeout_s=0.2).ask(QUESTION, SCHEMA) == Colour("red")
        assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            as_json(401, {"error": {"message": "you typed hunter2", "code": "bad_key"}}),
            "refuses the key.*bad_key",
        ),
        (as_json(404, {}), "no such path or model.*llm.base_url"),
        (as_json(429, {}, Retry_After="9999"), "limits the rate.*answers so far are kept"),
        (as_json(500, {"error": {"code": "x y\n"}}, **AT_ONCE), r"fails after all retries \(500\)"),
    ],
)
def test_an_endpoint_that_stays_unusable_ends_the_job_without_its_words(
    asker_of: AskerOf, reply: Reply, said: str
) -> None:
    with serving(lambda _number, _body: reply) as server:
        with pytest.raises(EndpointError, match=said) as caught:
            asker_of(server.base_url).ask(QUESTION, SCHEMA)
        assert "hunter2" not in str(caught.value)


def test_nobody_there_is_said() -> None:
    with serving() as server:
        url = server.base_url
    from streamer.models.llm.config import LlmConfig
    from streamer.models.llm.endpoint import Endpoint

    endpoint = Endpoint(LlmConfig(url, "rules", retries=0, timeout_s=1))
    with pytest.raises(EndpointError, match="can't be reached"):
        endpoint.complete("rules", [{"role": "user", "content": "?"}], {}, 0, 10)
    endpoint.close()


def format_of(body: Body) -> str:
    if "tools" in body:
        return "tool"
    return body.get("response_format", {}).get("type", "text")


@pytest.mark.parametrize("lowest", ["json_schema", "tool", "json_object", "text"])
def test_formats_that_are_refused_are_not_tried_again(asker_of: AskerOf, lowest: str) -> None:
    formats = ["json_schema", "tool", "json_object", "text"]

    def refusing(_number: int, body: Body) -> Reply:
        known = formats.index(format_of(body)) >= formats.index(lowest)
        return good(body) if known else as_json(400, {"error": {"message": "unsupported"}})

    with serving(refusing) as server:
        asker = asker_of(server.base_url)
        assert asker.ask(QUESTION, SCHEMA) == Colour("red")
        tried = [format_of(body) for body in server.bodies]
        assert tried == formats[: formats.index(lowest) + 1]
        asker_of(server.base_url).ask(Question("Another?", ""), SCHEMA)
        assert [format_of(body) for body in server.bodies[len(tried) :]] == [lowest]


@pytest.mark.parametrize(
    "error", [{"message": "unsupported", "param": "{}"}, {"message": "Unsupported parameter: '{}'."}]
)
def test_a_refused_parameter_is_left_out_or_renamed(asker_of: AskerOf, error: dict[str, str]) -> None:
    def choosy(_number: int, body: Body) -> Reply:
        for name in ("max_tokens", "temperature"):
            if name in body:
                return as_json(400, {"error": {key: text.format(name) for key, text in error.items()}})
        return good(body)

    with serving(choosy) as server:
        asker_of(server.base_url).ask(QUESTION, SCHEMA)
        assert server.bodies[-1]["max_completion_tokens"] == 2000
        assert format_of(server.bodies[-1]) == "json_schema"


def test_a_wrong_answer_in_the_right_form_says_nothing_against_the_format(asker_of: AskerOf) -> None:
    with serving(lambda _n, _b: completion('{"name": "mauve"}')) as server:
        asker = asker_of(server.base_url)
        with pytest.raises(UnansweredError):
            asker.ask(QUESTION, SCHEMA)
        assert [format_of(body) for body in server.bodies] == ["json_schema"] * 4
        assert asker.answer_format == "json_schema"
        assert asker.causes == {Cause.WRONG: 4}


@pytest.mark.parametrize("status", [404, 500])
def test_a_format_may_be_refused_as_not_found_or_by_failing(asker_of: AskerOf, status: int) -> None:
    def failing(_number: int, body: Body) -> Reply:
        known = format_of(body) in ("json_object", "text")
        return good(body) if known else as_json(status, {}, retry_after_ms="1")

    with serving(failing) as server:
        asker = asker_of(server.base_url, retries=0)
        assert asker.ask(QUESTION, SCHEMA) == Colour("red")
        assert asker.answer_format == "json_object"


def test_an_endpoint_that_is_starting_is_no_reason_for_another_format(asker_of: AskerOf) -> None:
    starts = as_json(503, {}, retry_after_ms="1")
    with serving(lambda _number, body: starts if format_of(body) == "json_schema" else good(body)) as server:
        asker = asker_of(server.base_url)
        with pytest.raises(EndpointError, match=r"fails after all retries \(503\)"):
            asker.ask(QUESTION, SCHEMA)
        assert asker.answer_format == "json_schema"


def test_a_format_that_has_worked_is_not_given_up_for_a_failure(asker_of: AskerOf) -> None:
    with serving(lambda n, body: good(body) if n == 0 else as_json(500, {}, retry_after_ms="1")) as server:
        asker = asker_of(server.base_url, retries=0)
        asker.ask(QUESTION, SCHEMA)
        with pytest.raises(EndpointError, match=r"fails after all retries \(500\)"):
            asker.ask(Question("Another?", ""), SCHEMA)
        assert (asker.answer_format, len(server.bodies)) == ("json_schema", 2)


def test_an_endpoint_that_only_streams_is_read_in_pieces(asker_of: AskerOf) -> None:
    def streaming(_number: int, body: Body) -> Reply:
        if not body.get("stream"):
            return as_json(400, {"error": {"message": "This model supports streaming only (stream=true)"}})
        pieces = [{"choices": [{"delta": {"content": part}}]} for part in (GOOD[:7], GOOD[7:])]
        pieces += [{"choices": [{"delta": {}, "finish_reason": "stop"}]}, {"usage": {"total_tokens": 7}}]
        lines = [*(f"data: {json.dumps(piece)}" for piece in pieces), "data: [DONE]"]
        return 200, {"Content-Type": "text/event-stream"}, "\n\n".join(lines).encode()

    with serving(streaming) as server:
        asker = asker_of(server.base_url)
        assert asker.ask(QUESTION, SCHEMA) == Colour("red")
        assert asker.tokens == 7
        assert len(server.bodies) == 2


THOUGHT = "<think>red or green, " + "hm " * 9


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        ((200, {"Content-Type": "text/html"}, b"<h1>sorry</h1>"), Cause.NO_COMPLETION),
        (completion(""), Cause.EMPTY),
        (completion("", finish="content_filter"), Cause.FILTERED),
        (completion(GOOD[:9], finish="length"), Cause.TRUNCATED),
        (completion(THOUGHT, finish="length"), Cause.THINKING),
        (completion("red, certainly"), Cause.NO_JSON),
        (completion('{"colour": "red"}'), Cause.OTHER_FORM),
        (completion('{"name": "mauve"}'), Cause.WRONG),
        (as_json(400, {"error": {"message": "maximum context length is 4096"}}), Cause.TOO_LONG),
        (as_json(400, {"error": {"message": "no"}}), Cause.REFUSED),
    ],
)
def test_each_cause_of_nothing_usable_is_told_from_the_others(
    asker_of: AskerOf, reply: Reply, cause: Cause
) -> None:
    with serving(lambda _n, _b: reply) as server:
        asker = asker_of(server.base_url, attempts=1)
        with pytest.raises(UnansweredError):
            asker.ask(QUESTION, SCHEMA)
        assert asker.causes == {cause: 1}
        assert f"1 of 1 times {cause}: " in most_often(asker.causes)


def test_more_fields_and_what_the_site_is_go_into_every_request(asker_of: AskerOf) -> None:
    with serving(first()) as server:
        asker = asker_of(server.base_url, extra_body={"top_k": 1}, site="A bank for bees.")
        asker.ask(QUESTION, SCHEMA)
        assert server.bodies[0]["top_k"] == 1
        assert "A bank for bees." in server.bodies[0]["messages"][0]["content"]
        asker_of(server.base_url, extra_body={"top_k": 2}, site="A bank for bees.").ask(QUESTION, SCHEMA)
        assert len(server.bodies) == 2


def test_a_request_that_is_refused_in_every_format_is_given_up_alone(asker_of: AskerOf) -> None:
    with serving(lambda _n, _b: as_json(400, {"error": {"code": "context_length_exceeded"}})) as server:
        asker = asker_of(server.base_url)
        with pytest.raises(UnansweredError, match="context_length_exceeded"):
            asker.ask(QUESTION, SCHEMA)
        assert asker.answer_format == "json_schema"


def test_the_model_is_told_what_was_wrong(asker_of: AskerOf) -> None:
    with serving(first(completion('{"name": "mauve"}'))) as server:
        asker_of(server.base_url).ask(QUESTION, SCHEMA)
        said = [message["content"] for message in server.bodies[1]["messages"]]
        assert said[2] == '{"name": "mauve"}'
        assert "not in the list" in said[3]


def test_a_truncated_answer_gets_more_room(asker_of: AskerOf) -> None:
    with serving(first(completion("{", finish="length"), completion("{", finish="length"))) as server:
        asker_of(server.base_url, max_tokens=100).ask(QUESTION, SCHEMA)
        assert [body["max_tokens"] for body in server.bodies] == [100, 200, 400]
        assert len({len(body["messages"]) for body in server.bodies}) == 1


def test_an_endpoint_that_never_gives_a_usable_answer_is_given_up(asker_of: AskerOf) -> None:
    with serving(lambda _n, _b: completion("no")) as server:
        with pytest.raises(UnansweredError, match="4 attempts"):
            asker_of(server.base_url).ask(QUESTION, SCHEMA)
        # What a server ignores, another format may bring about.
        assert [format_of(body) for body in server.bodies] == ["json_schema", "json_schema", "tool", "tool"]


def test_what_was_answered_is_never_asked_again(asker_of: AskerOf) -> None:
    with serving(first(completion("no"))) as server:
        asker_of(server.base_url).ask(QUESTION, SCHEMA)
        assert len(server.bodies) == 2
        again = asker_of(server.base_url)
        assert again.ask(QUESTION, SCHEMA) == Colour("red")
        assert len(server.bodies) == 2
        assert (again.answers, again.tokens) == (2, 200)
        assert again.budget.spent() == (2, 200)
        again.ask(Question("Name a colour.", "Any.", variant=1), SCHEMA)
        assert len(server.bodies) == 3


def test_what_is_no_completion_is_not_kept(asker_of: AskerOf) -> None:
    broken = (200, {"Content-Type": "text/html"}, b"<h1>sorry</h1>")
    with serving(first(broken, broken, broken, broken)) as server:
        with pytest.raises(UnansweredError):
            asker_of(server.base_url).ask(QUESTION, SCHEMA)
        assert asker_of(server.base_url).ask(QUESTION, SCHEMA) == Colour("red")


def test_the_budget_ends_the_job_and_a_higher_one_goes_on(asker_of: AskerOf) -> None:
    questions = [Question("Name a colour.", str(i)) for i in range(6)]
    with serving(first()) as server:

        def job(budget: int) -> list[Colour]:
            asker = asker_of(server.base_url, budget_requests=budget, concurrency=1)
            return asker.map(lambda question: asker.ask(question, SCHEMA), questions)

        for _ in range(2):
            with pytest.raises(BudgetSpentError, match=r"raise llm\.budget_requests"):
                job(4)
            assert len(server.bodies) == 4
        assert job(6) == [Colour("red")] * 6
        assert len(server.bodies) == 6


def test_answers_come_in_the_order_of_the_questions(asker_of: AskerOf) -> None:
    def uneven(_number: int, body: Body) -> Reply:
        asked = body["messages"][1]["content"]
        time.sleep(0.05 * (asked == "0"))
        return completion(json.dumps({"name": asked}))

    with serving(uneven) as server:
        asker = asker_of(server.base_url, concurrency=4)
        any_name: AnswerSchema[Any] = AnswerSchema("colour", Colour)
        found = asker.map(lambda i: asker.ask(Question("?", str(i)), any_name), range(8))
        assert [each.name for each in found] == [str(i) for i in range(8)]


def test_key_and_headers_are_sent_and_never_shown(asker_of: AskerOf) -> None:
    with serving(first()) as server:
        asker = asker_of(server.base_url, api_key="hunter2", headers={"X-Team": "hunter3"})
        asker.ask(QUESTION, SCHEMA)
        assert server.headers[0]["authorization"] == "Bearer hunter2"
        assert server.headers[0]["x-team"] == "hunter3"
        assert "hunter" not in repr(asker.config)
