from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if find_spec("openai") and find_spec("sklearn") else ["test_*.py"]
"""The language model needs the extra [train]; where it isn't installed, its tests aren't there either."""

if not collect_ignore_glob:
    from streamer.models.llm.answer_store import AnswerStore
    from streamer.models.llm.asking import Asker
    from streamer.models.llm.budget import Budget
    from streamer.models.llm.config import LlmConfig
    from streamer.models.llm.endpoint import Endpoint

QUICK = {"timeout_s": 5.0, "retries": 2, "concurrency": 2}


@pytest.fixture
def asker_of(tmp_path: Path) -> Iterator[Callable[..., Asker]]:
    """`asker_of(base_url, **config)`: an asker whose answers are kept in the test's folder."""
    with ExitStack() as stack:

        def make(base_url: str, **fields: object) -> Asker:
            config = LlmConfig(base_url, **({"model": "rules"} | QUICK | fields))  # type: ignore[arg-type]
            endpoint = Endpoint(config)
            stack.callback(endpoint.close)
            folder = tmp_path / "answers"
            budget = Budget(config.budget_requests, config.budget_tokens, folder / "spent.json")
            return Asker(config, endpoint, AnswerStore(folder / "answers.jsonl"), budget)

        yield make
