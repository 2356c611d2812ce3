"""`streamer model ...` as a process."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.cli import command_line
from streamer.cli.invocation import Invocation
from streamer.cli.recipe import Recipe
from streamer.errors import UsageError
from streamer.models.bundle import Manifest, default_bundle, load_bundle, read_manifest
from streamer.models.training.config import TrainConfig, for_simulated_bank
from tests import forks
from tests.conftest import RunStreamer
from tests.models.hand_made import bank_sessions


def write_clicks(path: Path, sessions: int) -> Path:
    lines = []
    for session in bank_sessions(sessions):
        for click in session.clicks:
            fields = {
                name: getattr(click, name) for name in ("timestamp", "event_id", "event_type", "page_type")
            }
            url = f"https://bank.example{click.path}"
            lines.append(orjson.dumps({"visitor_id": session.visitor_id, "page_url": url, **fields}))
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_inspect_shows_the_shipped_bundle_verified(run_streamer: RunStreamer) -> None:
    result = run_streamer("model", "inspect")
    assert result.returncode == 0
    bundle = load_bundle(default_bundle())
    assert result.stdout.startswith(f"{bundle.model_version}, verified")
    assert all(intent.label in result.stdout for intent in bundle.taxonomy.intents)


def test_to_compile_without_a_compiler_is_a_wrong_call(run_streamer: RunStreamer, tmp_path: Path) -> None:
    call = ("model", "pretrain", "--compile", "--work", str(tmp_path))
    result = run_streamer(*call, environ={"CXX": "/nowhere/c++"}, timeout_s=240)
    assert result.returncode == 2
    assert "--compile: torch can't compile for cpu here" in result.stderr
    assert "expected a C++ compiler" in result.stderr


def test_inspect_prints_one_json_object(run_streamer: RunStreamer) -> None:
    shown = json.loads(run_streamer("model", "inspect", str(default_bundle()), "--json").stdout)
    manifest = json.loads((default_bundle() / "manifest.json").read_text())
    assert shown["metrics"] == manifest["metrics"]
    assert len(shown["taxonomy"]["intents"]) >= 8


def test_a_damaged_bundle_is_a_clear_message_and_exit_1(run_streamer: RunStreamer, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(default_bundle(), tmp_path / "damaged"))
    (damaged / "encoder.onnx").write_bytes(b"")
    result = run_streamer("model", "inspect", str(damaged))
    assert result.returncode == 1
    assert "encoder.onnx has sha256" in result.stderr
    assert len(result.stderr.splitlines()) <= 2


def test_a_bundle_is_given_prototypes_and_all_else_stays(run_streamer: RunStreamer, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    before = load_bundle(default_bundle())
    clicks, out = write_clicks(tmp_path / "clicks.jsonl", 300), tmp_path / "given"
    result = run_streamer("model", "prototypes", str(clicks), "--out", str(out), "--json")
    assert result.returncode == 0, result.stderr
    assert "was trained on other clicks" in result.stderr
    given = load_bundle(out)
    assert given.prototypes is not None
    assert json.loads(result.stdout) == {
        "bundle": str(out),
        "model_version": given.model_version,
        "prototypes": given.manifest.metrics["prototypes"],
    }
    changed = {"files", "metrics"}
    kept = set(Manifest.__struct_fields__) - changed
    assert all(getattr(given.manifest, name) == getattr(before.manifest, name) for name in kept)
    for name in before.manifest.files.keys() - {"prototypes.json"}:
        assert (out / name).read_bytes() == (before.path / name).read_bytes()
    shown = run_streamer("model", "inspect", str(out)).stdout
    assert f"in {len(given.prototypes)} prototypes, version {given.prototypes.version}" in shown


def test_too_few_sessions_for_prototypes_are_an_error(run_streamer: RunStreamer, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    clicks = write_clicks(tmp_path / "clicks.jsonl", 12)
    result = run_streamer("model", "prototypes", str(clicks), "--out", str(tmp_path / "given"))
    assert result.returncode == 1
    assert "differ too little to find 8 prototypes: expected some hundred sessions" in result.stderr
    assert not (tmp_path / "given").exists()
    missing = run_streamer("model", "prototypes", "nowhere.jsonl", "--out", str(tmp_path / "given"))
    assert missing.returncode == 2
    assert "nowhere.jsonl: cannot be read" in missing.stderr


@pytest.mark.parametrize(
    ("recipe", "error"),
    [
        ("[fields.price", "recipe.toml: is not TOML: Expected ']'"),
        ("[field.price]", "recipe.toml: field: unknown key; expected one of fields, hashed, weights, rest"),
        ("fields = 1", "recipe.toml: fields: is 1; expected a table"),
        ("[fields.age]\nkind = 'number'", "recipe.toml: fields.age: is no field of a click"),
        ("[hashed]\nprice = 5", "recipe.toml: hashed.price: unknown key; expected one of page_type"),
        ("[hashed]\ndevice = 0", "recipe.toml: hashed.device: is 0; expected a whole number from 1"),
        (
            "[weights]\nrests = 1",
            "recipe.toml: weights.rests: unknown key; expected one of masked, rest, contrast",
        ),
        (f"a = {'[' * 5000}{']' * 5000}", "recipe.toml: is nested too deeply"),
        ("rest_every = '2'", "recipe.toml: rest_every: is '2'; expected a whole number"),
        ("[weights]\nrest = -1", "recipe.toml: weights.rest: is -1; expected a number from 0 to 1000"),
        ("[weights]\nrest = inf", "recipe.toml: weights.rest: is inf; expected a number from 0 to 1000"),
        (f"[weights]\nrest = {'9' * 5000}", "recipe.toml: is not TOML: Exceeds the limit"),
        (f"[weights]\nrest = {'9' * 400}", f"weights.rest: is {'9' * 40}; expected a number from 0 to 1000"),
        ("rest_every = 0", "recipe.toml: rest_every: is 0; expected a whole number from 1 to 1000"),
        ("rest_every = true", "recipe.toml: rest_every: is True; expected a whole number from 1 to 1000"),
        ("events_of_pages = 1", "recipe.toml: events_of_pages: is 1; expected true or false"),
        (
            "[weights]\nmasked = 0\nrest = 0\ncontrast = 0",
            "recipe.toml: weights: every objective has weight 0",
        ),
        (
            "[fields.page_title]\nkind = 'text'",
            'fields.page_title: no session would have it; expected clicks.keep = ["page_title", "utm_term"]',
        ),
    ],
)
def test_a_recipe_that_can_not_be_followed_is_an_error_before_work_begins(
    recipe: str, error: str, run_streamer: RunStreamer, tmp_path: Path
) -> None:
    write_clicks(tmp_path / "clicks.jsonl", 4)
    (tmp_path / "recipe.toml").write_text(recipe)
    keep = {"STREAMER_CLICKS__KEEP": "utm_term"}
    result = run_streamer("model", "fit", "clicks.jsonl", "--recipe", "recipe.toml", environ=keep)
    assert result.returncode == 2
    assert error in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_recipe_that_can_not_be_fitted_leaves_the_one_before_with_its_tokenizer(
    run_streamer: RunStreamer, tmp_path: Path
) -> None:
    write_clicks(tmp_path / "clicks.jsonl", 60)
    assert run_streamer("model", "fit", "clicks.jsonl").returncode == 0
    left = {path.name: path.read_bytes() for path in (tmp_path / "runs" / "model").iterdir()}
    (tmp_path / "recipe.toml").write_text("[fields.page_title]\nkind = 'text'")
    keep = {"STREAMER_CLICKS__KEEP": "page_title"}
    result = run_streamer("model", "fit", "clicks.jsonl", "--recipe", "recipe.toml", environ=keep)
    assert result.returncode == 1
    assert "page_title" in result.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "runs" / "model").iterdir()} == left


def test_rows_of_another_shape_are_clicks_to_a_recipe_too(run_streamer: RunStreamer, tmp_path: Path) -> None:
    pq.write_table(pa.table({"anonymousId": ["a"], "type": ["page"]}), tmp_path / "events.parquet")
    (tmp_path / "recipe.toml").write_text("[fields.page_title]\nkind = 'text'")
    source = {"STREAMER_CLICKS__SOURCE": "segment"}
    result = run_streamer("model", "fit", "events.parquet", "--recipe", "recipe.toml", environ=source)
    assert result.returncode == 2
    assert "fields.page_title: no session would have it" in result.stderr


def test_inspect_works_and_train_says_what_is_missing_without_the_extra(tmp_path: Path) -> None:
    clicks = write_clicks(tmp_path / "clicks.jsonl", 4)

    def without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; sys.modules['torch'] = None; from streamer.cli import main; main()"
        run = [sys.executable, "-c", code, "model", *arguments]
        return subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert without_torch("inspect").returncode == 0
    result = without_torch("train", str(clicks), "--out", str(tmp_path / "bundle"))
    assert result.returncode == 1
    assert "the package torch of the extra [train], which is not installed: pip install" in result.stderr


def test_only_pretraining_runs_in_several_processes(run_streamer: RunStreamer, tmp_path: Path) -> None:
    write_clicks(tmp_path / "clicks.jsonl", 4)
    for command in (["fit", "clicks.jsonl"], ["train", "clicks.jsonl", "--out", "bundle"], ["distill"]):
        result = run_streamer("model", *command, environ={"WORLD_SIZE": "2"})
        assert result.returncode == 2
        assert f"model {command[0]}: WORLD_SIZE is 2, expected one process" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either a FILE of clicks or --simulated"),
        (["clicks.jsonl", "--simulated"], "either a FILE of clicks or --simulated"),
        (["nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["clicks.jsonl", "--previous", "clicks.jsonl"], "no taxonomy to carry over"),
        (["clicks.jsonl", "--name", "A B"], "--name 'A B': expected 1 to 64 of a-z"),
        (["clicks.jsonl", "--out", "My Bundle"], "--out My Bundle: without --name the folder's name is"),
        (["clicks.jsonl", "--device", "abacus"], "--device abacus: expected cpu, cuda or cuda:N"),
        (["clicks.jsonl", "--device", "cuda:999"], "--device cuda:999: "),
        (["clicks.jsonl", "--out", "clicks.jsonl"], "--out clicks.jsonl: clicks.jsonl is a file; expected"),
        (
            ["clicks.jsonl", "--truth", "clicks.jsonl"],
            "--truth clicks.jsonl: expected the simulator's sessions",
        ),
        (
            ["bad.jsonl"],
            "bad.jsonl: none of its 1 records is a click. The first isn't for this reason: decode: inv",
        ),
        (["clicks.jsonl", "--weight-causal", "inf"], "Invalid value for '--weight-causal'"),
    ],
)
def test_a_wrong_call_is_exit_2(
    run_streamer: RunStreamer, tmp_path: Path, arguments: list[str], said: str
) -> None:
    write_clicks(tmp_path / "clicks.jsonl", 4)
    (tmp_path / "bad.jsonl").write_text("<html>")
    result = run_streamer("model", "train", "--out", "bundle", *arguments)
    assert result.returncode == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    ("blocks", "command", "file", "whole"),
    [
        (0, "fit clicks.jsonl --work full", "tokenizer.json", set()),
        (1, "simulate --visitors 20 --out full", "clicks.jsonl.gz", {"config.json"}),
    ],
)
def test_a_full_disk_is_exit_1_and_leaves_no_half_file(
    tmp_path: Path, blocks: int, command: str, file: str, whole: set[str]
) -> None:
    """A limit on the size of files stands for the disk: the first file that exceeds it can't be written."""
    write_clicks(tmp_path / "clicks.jsonl", 60)
    streamer = shlex.join([sys.executable, "-c", forks.MAIN])
    limited = ["bash", "-c", f"ulimit -f {blocks}; {streamer} model {command}"]
    # Python would leave byte code of the checkout cut off at the limit, which nothing could import again.
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(limited, capture_output=True, text=True, cwd=tmp_path, env=environ, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"Error: full/{file}: File too large"
    assert {path.name for path in (tmp_path / "full").iterdir()} == whole


def test_an_encoder_that_learnt_nothing_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks, work = tmp_path / "clicks.jsonl", str(tmp_path / "work")
    clicks.write_bytes(
        b"".join(
            orjson.dumps({"visitor_id": f"v{n}", "timestamp": 1_700_000_000_000 + n, "event_type": "click"})
            + b"\n"
            for n in range(60)
        )
    )
    here("fit", str(clicks), "--epochs", "1", "--work", work)
    here("pretrain", "--work", work)
    assert "warning: the encoder hasn't learnt more than an untrained one" in capsys.readouterr().err


def test_a_step_that_was_asked_for_and_not_run_is_exit_1(run_streamer: RunStreamer) -> None:
    folders = ("--out", "out", "--work", "work")
    result = run_streamer("model", "evaluate", "--steps", "trivago", *folders, environ={"CLICKS_DATA": ""})
    assert result.returncode == 1
    assert "not run: trivago; expected --data" in result.stderr
    assert "prototypes" not in result.stderr


def test_clicks_that_cannot_train_a_model_are_exit_1(run_streamer: RunStreamer, tmp_path: Path) -> None:
    write_clicks(tmp_path / "clicks.jsonl", 1)
    result = run_streamer("model", "train", "clicks.jsonl", "--out", "bundle")
    assert result.returncode == 1
    assert "too few sessions of people" in result.stderr
    assert not (tmp_path / "bundle").exists()


def test_a_step_out_of_order_says_what_comes_first(run_streamer: RunStreamer) -> None:
    result = run_streamer("model", "pretrain", "--work", "empty")
    assert result.returncode == 2
    assert "run `streamer model fit` first" in result.stderr


def here(*arguments: str) -> None:
    """In this process: every other one would import torch anew."""
    command_line().main(["model", *arguments], obj=Invocation(), standalone_mode=False)


def test_a_causal_readout_needs_the_objective_that_it_reads(tmp_path: Path) -> None:
    clicks = write_clicks(tmp_path / "clicks.jsonl", 1)
    with pytest.raises(UsageError, match="--readout causal: needs --weight-causal, which is 0"):
        here("fit", str(clicks), "--readout", "causal", "--work", str(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


def test_weights_of_a_recipe_file_leave_out_objectives(tmp_path: Path) -> None:
    clicks, file, work = (tmp_path / name for name in ("clicks.jsonl", "recipe.toml", "work"))
    write_clicks(clicks, 60)
    file.write_text("[weights]\nmasked = 0\nrest = 0.0\ncontrast = 0\n")
    what_follows = ("--recipe", str(file), "--weight-causal", "1", "--readout", "causal")
    here("fit", str(clicks), "--epochs", "1", *what_follows, "--work", str(work))
    here("pretrain", "--work", str(work))
    (losses,) = json.loads((work / "notes.json").read_bytes())["pretraining"]["losses"]
    assert losses.pop("causal") > 0
    assert set(losses.values()) == {0.0}


def test_simulated_clicks_have_a_recipe_of_their_own(tmp_path: Path) -> None:
    clicks, file = write_clicks(tmp_path / "clicks.jsonl", 4), tmp_path / "recipe.toml"
    settings = {"seed": 7, "epochs": None, "name": None}
    own, simulated = (Recipe.of(clicks, simulated=each, **settings) for each in (None, {"visitors": 4}))
    assert TrainConfig(**own.learnt()) == TrainConfig()
    assert TrainConfig(**simulated.learnt()) == for_simulated_bank() != TrainConfig()
    file.write_text("rest_every = 5\n[weights]\nmasked = 0.5\n")
    asked = {"rest_every": 5, "weight_masked": 0.5}
    assert TrainConfig(**own.with_fields(file).learnt()) == TrainConfig(**asked)
    assert TrainConfig(**simulated.with_fields(file).learnt()) == for_simulated_bank(**asked)


def test_training_at_once_and_in_steps_write_the_same_bundle(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    clicks = write_clicks(tmp_path / "clicks.jsonl", 120)
    objectives = ("--weight-causal", "0.5", "--weight-visitor", "0.2", "--readout", "mean+max+last")
    recipe = (str(clicks), "--epochs", "1", "--seed", "3", *objectives)
    once, steps, work = (str(tmp_path / name) for name in ("once/mine", "steps/mine", "work"))
    here("train", *recipe, "--out", once, "--work", str(tmp_path / "other"), "--json")
    assert json.loads(capsysbinary.readouterr().out)["metrics"]["taxonomy"]["teacher"] == "keyless"
    here("fit", *recipe, "--work", work)
    for step in ("pretrain", "taxonomy", "distill"):
        here(step, "--work", work)
    here("export", "--work", work, "--out", steps)
    assert load_bundle(Path(once)).model_version == load_bundle(Path(steps)).model_version
    assert load_bundle(Path(once)).embedding_dim == 3 * 64
    assert set(read_manifest(Path(once))[0].metrics["pretraining"]["losses"][0]) >= {"causal", "visitor"}
    assert load_bundle(Path(once)).name == "mine", "without --name a bundle is called after its folder"
    here("export", "--work", work, "--out", steps, "--name", "yours")
    assert load_bundle(Path(steps)).name == "yours"
    clicks.write_bytes(clicks.read_bytes() + b"\n")
    with pytest.raises(UsageError, match="has changed since `streamer model fit`"):
        here("export", "--work", work, "--out", steps)
