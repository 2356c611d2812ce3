"""`streamer model ... --teacher llm`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamer.cli import command_line
from streamer.cli.invocation import Invocation
from streamer.errors import StreamerError
from tests.conftest import RunStreamer
from tests.models.llm.rule_endpoint import Body, Reply, completion, serving
from tests.models.test_model_commands import write_clicks


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["train", "c.jsonl", "--out", "b", "--teacher", "llm"], {}, "needs the setting llm.base_url"),
        (
            ["train", "c.jsonl", "--out", "b", "--teacher", "llm"],
            {"STREAMER_LLM__BASE_URL": "http://127.0.0.1:9/v1"},
            "needs the setting llm.model",
        ),
        (["taxonomy", "--preview"], {}, "--preview is about a language model"),
        (["taxonomy", "--teacher", "clusters+llm"], {}, "needs the setting llm.base_url"),
        (["taxonomy", "--teacher", "clusters+llm", "--llm-batch"], {}, "--llm-batch needs --teacher llm"),
        (["train", "c.jsonl", "--out", "b", "--llm-batch"], {}, "--llm-batch needs --teacher llm"),
        (["taxonomy", "--use", "t.json"], {}, "--use labels with a given taxonomy: it needs --teacher llm"),
        (["taxonomy", "--teacher", "llm"], {"STREAMER_LLM__BASE_URL": "models.example"}, "llm.base_url"),
    ],
)
def test_a_wrong_call_is_exit_2_before_any_training(
    run_streamer: RunStreamer, tmp_path: Path, arguments: list[str], environ: dict[str, str], said: str
) -> None:
    write_clicks(tmp_path / "c.jsonl", 4)
    work = tmp_path / "runs" / "model"
    work.mkdir(parents=True)
    (work / "recipe.json").write_text(
        json.dumps({"file": str(tmp_path / "c.jsonl"), "source": {}, "seed": 1, "epochs": 1, "name": "x"})
    )
    result = run_streamer("model", *arguments, environ=environ)
    assert (result.returncode, said in result.stderr) == (2, True), result.stderr


def test_a_batch_under_way_is_not_asked_once_more(run_streamer: RunStreamer, tmp_path: Path) -> None:
    pending = tmp_path / "runs" / "model" / "llm" / "batch.json"
    pending.parent.mkdir(parents=True)
    pending.touch()
    recipe = {"file": str(tmp_path), "source": {}, "seed": 1, "epochs": 1, "name": "x"}
    (pending.parents[1] / "recipe.json").write_text(json.dumps(recipe))
    environ = {"STREAMER_LLM__BASE_URL": "http://127.0.0.1:9/v1", "STREAMER_LLM__MODEL": "m"}
    result = run_streamer("model", "taxonomy", "--teacher", "llm", environ=environ)
    assert (result.returncode, "a batch is under way; expected --llm-batch" in result.stderr) == (2, True)


def test_training_with_a_language_model_says_so_in_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    clicks = write_clicks(tmp_path / "clicks.jsonl", 120)
    out, work = tmp_path / "bundle", tmp_path / "work"
    with serving() as server:
        for key, value in {"BASE_URL": server.base_url, "MODEL": "rules", "API_KEY": "hunter2"}.items():
            monkeypatch.setenv(f"STREAMER_LLM__{key}", value)
        command_line().main(
            ["model", "train", str(clicks), "--out", str(out), "--work", str(work), "--epochs", "1",
             "--teacher", "llm", "--json"],
            obj=Invocation(), standalone_mode=False,
        )  # fmt: skip
        assert server.headers[0]["authorization"] == "Bearer hunter2"
    found = json.loads(capsysbinary.readouterr().out)["metrics"]["taxonomy"]
    assert found["teacher"] == "llm:rules"
    assert found["requests"] == len(server.bodies)
    assert (work / "audit.md").is_file()
    assert json.loads((out / "manifest.json").read_text())["teacher"] == "llm:rules"
    assert not any(b"hunter2" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def made_up_evidence(_number: int, body: Body) -> Reply | None:
    reads = "Which of these lines" in body["messages"][0]["content"]
    return completion(json.dumps({"line": "/never/seen"})) if reads else None


def test_a_preview_sends_nothing_then_the_model_names_the_clusters_and_a_poor_taxonomy_is_exit_1_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    clicks, work = write_clicks(tmp_path / "clicks.jsonl", 120), tmp_path / "work"

    def model(*arguments: str) -> bytes:
        command_line().main(
            ["model", *arguments, "--work", str(work)], obj=Invocation(), standalone_mode=False
        )
        return capsysbinary.readouterr().out

    with serving() as server:
        for key, value in {"BASE_URL": server.base_url, "MODEL": "rules", "MIN_KAPPA": "-1"}.items():
            monkeypatch.setenv(f"STREAMER_LLM__{key}", value)
        model("fit", str(clicks), "--epochs", "1")
        model("pretrain")
        capsysbinary.readouterr()
        found = json.loads(model("taxonomy", "--teacher", "clusters+llm", "--preview", "--json"))
        assert server.bodies == []
        assert found["requests"] > 0
        assert found["examples"][0].startswith("<session>")
        model("taxonomy", "--teacher", "clusters+llm")
        assert json.loads((work / "taxonomy.json").read_text())["teacher"] == "clusters+llm:rules"
        server.misbehave = made_up_evidence
        monkeypatch.setenv("STREAMER_LLM__MODEL", "careless")
        with pytest.raises(StreamerError, match=r"kept, but too poor to go on: .* above llm\.max_without"):
            model("taxonomy", "--teacher", "clusters+llm")
    assert json.loads((work / "taxonomy.json").read_text())["teacher"] == "clusters+llm:careless"
    assert "clusters+llm:careless" in (work / "audit.md").read_text()
    assert "llm.max_without_vote" in json.loads((work / "notes.json").read_text())["taxonomy"]["below_bounds"]
