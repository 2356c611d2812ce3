"""A run that was stopped goes on as if it had never been."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo import register_backend

from streamer.models.tokenizer import Tokenizer
from streamer.models.training.arrays_file import load_arrays
from streamer.models.training.checkpoint import CheckpointError
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus
from streamer.models.training.errors import TrainingError
from streamer.models.training.pretrain import Execution, Pretrained, deterministic, pretrain
from streamer.models.training.processes import Processes
from tests.models.hand_made import a_click, a_session, bank_sessions

CONFIG = TrainConfig(dim=16, heads=2, hidden=32, epochs=2, batch=32, learning_rate=5e-3, min_count=3)
SESSIONS = bank_sessions(160)
TOKENIZER = Tokenizer.fit(SESSIONS, min_count=3)
STEPS_OF_EPOCH = Corpus.of(SESSIONS, TOKENIZER).batch_count(32)


class KilledError(Exception):
    pass


def trained(how: Execution, killed_after: int | None = None, config: TrainConfig = CONFIG) -> Pretrained:
    def kill(step: int, *_: object) -> None:
        if step == killed_after:
            raise KilledError

    with deterministic(threads=1):
        generator = torch.Generator().manual_seed(0)
        return pretrain(Corpus.of(SESSIONS, TOKENIZER), TOKENIZER, config, generator, kill, how)


def assert_same(a: Pretrained, b: Pretrained) -> None:
    assert a.losses == b.losses
    assert all(x.equal(y) for x, y in zip(a.encoder.parameters(), b.encoder.parameters(), strict=True))


EVERYTHING = replace(CONFIG, weight_causal=1.0, weight_visitor=0.5)


@pytest.mark.parametrize(
    ("killed_after", "config"),
    [
        (2, CONFIG),
        (STEPS_OF_EPOCH, CONFIG),
        (STEPS_OF_EPOCH + 1, CONFIG),
        (2 * STEPS_OF_EPOCH - 1, CONFIG),
        (STEPS_OF_EPOCH + 1, EVERYTHING),
    ],
)
def test_a_resumed_run_has_the_bytes_of_one_that_was_never_stopped(
    killed_after: int, config: TrainConfig, tmp_path: Path
) -> None:
    how = Execution(checkpoint=tmp_path / "checkpoint.npz", every=1)
    with pytest.raises(KilledError):
        trained(how, killed_after, config)
    assert_same(trained(replace(how, resume=True), config=config), trained(Execution(), config=config))


def test_without_resume_a_run_begins_anew(tmp_path: Path) -> None:
    how = Execution(checkpoint=tmp_path / "checkpoint.npz", every=1)
    with pytest.raises(KilledError):
        trained(how, 3)
    assert_same(trained(how), trained(Execution()))


def test_where_there_is_no_checkpoint_yet_a_run_begins(tmp_path: Path) -> None:
    assert_same(trained(Execution(checkpoint=tmp_path / "none.npz", resume=True)), trained(Execution()))


def a_checkpoint(path: Path) -> Path:
    with pytest.raises(KilledError):
        trained(Execution(checkpoint=path, every=1), 2)
    return path


@pytest.mark.parametrize(
    ("config", "how", "said"),
    [
        ({"batch": 16}, {}, "of another run: batch was 32, expected 16"),
        ({"epochs": 9}, {}, "of another run: epochs was 2, expected 9"),
        ({}, {"accumulate": 2}, "of another run: accumulate was 1, expected 2"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused_before_any_work(
    config: dict[str, int], how: dict[str, int], said: str, tmp_path: Path
) -> None:
    path = a_checkpoint(tmp_path / "checkpoint.npz")
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=said):
        trained(
            Execution(checkpoint=path, every=1, resume=True, **how),  # type: ignore[arg-type]
            config=replace(CONFIG, **config),  # type: ignore[arg-type]
        )
    assert path.read_bytes() == before


def test_a_torn_checkpoint_is_refused(tmp_path: Path) -> None:
    path = a_checkpoint(tmp_path / "checkpoint.npz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="can't be read"):
        trained(Execution(checkpoint=path, resume=True))


def test_parts_of_a_batch_add_up_to_the_same_steps() -> None:
    """Of sessions of two clicks, which can be cut at one place only: nothing depends on chance."""
    sessions = [
        a_session(a_click(path=f"/{i % 5}"), a_click(1000, path=f"/{i % 3}"), visitor_id=f"v{i}")
        for i in range(64)
    ]
    tokenizer = Tokenizer.fit(sessions, min_count=3)
    rest_alone = replace(CONFIG, weight_masked=0.0, weight_contrast=0.0, epochs=4)

    def losses(parts: int) -> list[float]:
        with deterministic(threads=1):
            corpus, generator = Corpus.of(sessions, tokenizer), torch.Generator().manual_seed(0)
            how = Execution(accumulate=parts)
            found = pretrain(corpus, tokenizer, rest_alone, generator, lambda *_: None, how).losses
        return [each["rest"] for each in found]

    assert losses(4) == pytest.approx(losses(1), rel=1e-3)
    with pytest.raises(TrainingError, match=r"32 sessions can't be in 17 parts .* at most 16"):
        losses(17)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch hides it, except where it is an error
def test_a_run_may_be_compiled_from_one_checkpoint_to_the_next(tmp_path: Path) -> None:
    graphs: list[torch.fx.GraphModule] = []

    @register_backend(name="needs_no_compiler")
    def compiled(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    once = replace(CONFIG, layers=1, epochs=1)
    path = tmp_path / "checkpoint.npz"
    how = Execution(checkpoint=path, every=1, resume=True)
    names = []
    for step, compiler in ((2, None), (4, "needs_no_compiler")):
        assert not graphs
        with pytest.raises(KilledError):
            trained(replace(how, compiler=compiler), step, once)
        names.append(set(load_arrays(path)))
    torch.compiler.reset()
    assert graphs
    assert names[0] == names[1]
    found, never_stopped = trained(how, config=once), trained(Execution(), config=once)
    assert found.losses[0] == pytest.approx(never_stopped.losses[0], rel=1e-4)


@pytest.mark.parametrize(("count", "parts", "rows"), [(1, 1, 5), (2, 1, 7), (3, 2, 64), (2, 3, 6)])
def test_processes_and_parts_share_a_batch(count: int, parts: int, rows: int) -> None:
    batch = torch.arange(rows)
    shares = [part for rank in range(count) for part in Processes(rank, count).part(batch, parts)]
    assert sorted(torch.cat(shares).tolist()) == batch.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_of_fewer_sessions_than_parts_is_repeated() -> None:
    shares = [part for rank in range(2) for part in Processes(rank, 2).part(torch.arange(3), 4)]
    assert all(len(share) == 1 for share in shares)


def test_bfloat16_learns_about_the_same() -> None:
    once = replace(CONFIG, epochs=1)
    losses = [trained(Execution(bfloat16=both), config=once).losses[-1] for both in (False, True)]
    assert losses[1]["masked"] == pytest.approx(losses[0]["masked"], rel=0.05)
