"""Self-supervised pretraining: sessions in, encoder out.

One process on a CPU gives the same weights for the same seed and threads, also if it was stopped and goes on
from a checkpoint. On a GPU, and with several processes, nobody promises the same bytes.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.utils.deterministic
from torch import Tensor, nn

from streamer.models.tokenizer import Tokenizer
from streamer.models.training.checkpoint import (
    Checkpoint,
    Position,
    read_checkpoint,
    run_facts,
    write_checkpoint,
)
from streamer.models.training.config import OBJECTIVES, TrainConfig
from streamer.models.training.corpus import Bucket, Corpus, moved
from streamer.models.training.encoder import Encoder, EncoderShape
from streamer.models.training.errors import TrainingError
from streamer.models.training.objectives import Losses, Objectives, VisitorPairs, learnt_at
from streamer.models.training.processes import ALONE, Processes
from streamer.models.training.visitor_sessions import VisitorSessions
from streamer.schemas.click import Session

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, losses as text)."""


@dataclass(frozen=True)
class Execution:
    """How pretraining runs; what it learns is the recipe's."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bfloat16: bool = False
    """Autocast: products of matrices in bfloat16, weights and sums in float32."""
    accumulate: int = 1
    """Parts of a batch whose gradients add up to one step: less memory, and contrast within a part."""
    compiler: str | None = None
    """The backend of `torch.compile`, for what the encoder does in a step; None: nothing is compiled."""
    processes: Processes = ALONE
    checkpoint: Path | None = None
    """Where it is written; None: nowhere."""
    every: int = 1000
    """Steps between checkpoints."""
    resume: bool = False
    """Goes on from the checkpoint if there is one."""


USUAL = Execution()


@dataclass(frozen=True)
class Pretrained:
    encoder: Encoder
    losses: list[dict[str, float]]
    """Mean losses per epoch."""
    objectives: Objectives
    """The heads; a bundle has no use for them."""


def new_tokenizer(train: Iterable[Session], config: TrainConfig) -> Tokenizer:
    """Learnt from the training split. Raises FieldError for a field that no session has."""
    return Tokenizer.fit(train, config.min_count, config.max_vocabulary, config.fields, config.hashed)


def shape_of(tokenizer: Tokenizer, config: TrainConfig) -> EncoderShape:
    return EncoderShape(
        event_sizes=tuple(tokenizer.event_sizes),
        session_sizes=tuple(tokenizer.session_sizes),
        event_columns=tuple(tokenizer.event_columns) if tokenizer.extras.fields else None,
        dim=config.dim,
        layers=config.layers,
        heads=config.heads,
        hidden=config.hidden,
        readout=config.readout,
    )


def new_encoder(tokenizer: Tokenizer, config: TrainConfig, generator: torch.Generator) -> Encoder:
    encoder = Encoder(shape_of(tokenizer, config))
    encoder.initialize(generator)
    return encoder


def pretrain(
    corpus: Corpus,
    tokenizer: Tokenizer,
    config: TrainConfig,
    generator: torch.Generator,
    progress: Progress,
    how: Execution = USUAL,
) -> Pretrained:
    """Raises CheckpointError for a checkpoint of another run, and TrainingError for too many parts of a batch
    and for sessions that none of the objectives can learn from, all before any work; TrainingError for a loss
    that is no number."""
    check_parts(config, how)
    _check_objectives(corpus, config)
    run = _Run.of(corpus, tokenizer, config, generator, how)
    if how.resume and how.checkpoint is not None and how.checkpoint.exists():
        run.restore(read_checkpoint(how.checkpoint, run.facts))
    run.encoder.train()
    while run.position.epoch < config.epochs:
        for bucket, rows in run.rest_of_epoch():
            run.step(bucket, rows)
            at = run.position.step
            progress(at, run.steps, _shown(run.position.means(), config))
            if how.checkpoint is not None and at % how.every == 0:
                run.save(how.checkpoint)
        run.position.end_epoch()
    encoder = run.encoder.eval().cpu()
    _forget_unlearnt(encoder, run.initial)
    return Pretrained(encoder, run.position.history, run.objectives.cpu())


def check_parts(config: TrainConfig, how: Execution) -> None:
    """A session alone in a part has nothing to differ from."""
    most = max(1, config.batch // max(2, how.processes.count))
    if how.accumulate > most:
        raise TrainingError(
            f"a batch of {config.batch} sessions can't be in {how.accumulate} parts (--accumulate): expected"
            f" at most {most}, or a larger batch"
        )


def _check_objectives(corpus: Corpus, config: TrainConfig) -> None:
    """Contrast and the rest of a session need batches in which two sessions have two clicks or more."""
    if config.weight_masked or config.weight_causal or config.weight_visitor:
        return
    batches = corpus.batches(config.batch, torch.Generator().manual_seed(0))
    if not any(int((bucket.pick(rows).lengths > 1).sum()) > 1 for bucket, rows in batches):
        raise TrainingError(
            f"no batch of {config.batch} has two sessions with two clicks or more, which contrast and the"
            " rest of the session need; expected a weight above 0 for masked, which predicts hidden fields"
        )


@dataclass
class _Run:
    """Everything that changes from step to step, or is needed at each."""

    corpus: Corpus
    config: TrainConfig
    how: Execution
    encoder: Encoder
    passes: Encoder
    """The encoder, or one of the same parameters that is compiled."""
    objectives: Objectives
    optimizer: torch.optim.Optimizer
    order: torch.Generator
    """Of the order of batches; all processes have the same."""
    draws: torch.Generator
    """Of what is hidden and where sessions are cut; a process alone on a CPU draws all from one."""
    visitors: VisitorSessions | None
    """Where a visitor's sessions are contrasted."""
    initial: dict[str, Tensor]
    """Embedding tables as they were drawn, on the CPU."""
    steps: int
    facts: dict[str, Any]
    position: Position

    @classmethod
    def of(
        cls,
        corpus: Corpus,
        tokenizer: Tokenizer,
        config: TrainConfig,
        generator: torch.Generator,
        how: Execution,
    ) -> _Run:
        encoder = new_encoder(tokenizer, config, generator)
        objectives = Objectives(encoder, config, how.processes)
        objectives.initialize(generator)
        initial = {name: table.weight.detach().clone() for name, table in _tables(encoder)}
        encoder.to(how.device)
        objectives.to(how.device)
        return cls(
            corpus=corpus,
            config=config,
            how=how,
            encoder=encoder,
            passes=encoder if how.compiler is None else _compiled(encoder, how.compiler),
            objectives=objectives,
            optimizer=_optimizer(encoder, objectives, config),
            order=generator,
            draws=_own_draws(generator, how),
            visitors=VisitorSessions(corpus) if config.weight_visitor else None,
            initial=initial,
            steps=config.epochs * corpus.batch_count(config.batch),
            facts=run_facts(
                config,
                tokenizer,
                corpus,
                device=how.device.type,
                processes=how.processes.count,
                accumulate=how.accumulate,
                bfloat16=how.bfloat16,
            ),
            position=Position.start(losses_of(config), generator.get_state()),
        )

    def rest_of_epoch(self) -> list[tuple[Bucket, Tensor]]:
        """The batches that are left of the epoch; at its beginning all are put in a new order."""
        if self.position.done == 0:
            self.position.order = self.order.get_state()
            return self.corpus.batches(self.config.batch, self.order)
        again = torch.Generator()
        again.set_state(self.position.order)
        batches = self.corpus.batches(self.config.batch, again)
        if self.order is not self.draws:
            self.order.set_state(again.get_state())
        return batches[self.position.done :]

    def step(self, bucket: Bucket, rows: Tensor) -> None:
        for group in self.optimizer.param_groups:
            share = warm_then_cosine(self.position.step, self.steps, self.config.warmup_share)
            group["lr"] = self.config.learning_rate * share
        parameters = [*self.encoder.parameters(), *self.objectives.parameters()]
        self.optimizer.zero_grad(set_to_none=True)
        parts = self.how.processes.part(rows, self.how.accumulate)
        found = torch.stack([self._backward(bucket, part, len(parts)) for part in parts]).mean(0)
        values: list[float] = self.how.processes.average(parameters, found).tolist()
        losses = dict(zip(losses_of(self.config), values, strict=True))
        if not all(math.isfinite(value) for value in values):
            said = ", ".join(f"{name} {value:g}" for name, value in losses.items())
            raise TrainingError(
                f"pretraining diverged at step {self.position.step + 1} of {self.steps}: {said}; expected"
                " losses that are numbers. Lower the weights of the objectives"
            )
        nn.utils.clip_grad_norm_(parameters, 1.0)
        self.optimizer.step()
        left_out = {*OBJECTIVES} - learnt_at(self.position.step, self.config)
        self.position.add({name: value for name, value in losses.items() if name not in left_out})

    def _backward(self, bucket: Bucket, rows: Tensor, parts: int) -> Tensor:
        """[losses]: those of a part of a batch, without their graph."""
        device = self.how.device
        tokens, visitors = moved(bucket.pick(rows), device), bucket.visitors_of(rows).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.how.bfloat16):
            pairs = None if self.visitors is None else self._pairs(self.visitors, bucket.rows[rows])
            step = self.position.step
            losses = self.objectives.losses(self.passes, tokens, visitors, self.draws, pairs, step)
            total = _total(losses, self.config)
        (total / parts if parts > 1 else total).backward()  # type: ignore[no-untyped-call]
        return torch.stack([getattr(losses, name).detach().float() for name in losses_of(self.config)])

    def _pairs(self, visitors: VisitorSessions, rows: Tensor) -> VisitorPairs:
        device, others = self.how.device, visitors.others(rows, self.draws)
        tokens = [(which.to(device), moved(some, device)) for which, some in visitors.tokens(others.rows)]
        return VisitorPairs(others.which.to(device), tokens)

    def save(self, path: Path) -> None:
        draws = self.how.processes.everyones(self.draws.get_state().to(self.how.device)).cpu()
        if self.how.processes.is_first:
            state = self.optimizer.state_dict()["state"]
            write_checkpoint(
                path, Checkpoint(self.facts, self.position, self._modules.state_dict(), state, draws)
            )

    def restore(self, checkpoint: Checkpoint) -> None:
        self._modules.load_state_dict(checkpoint.weights)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": checkpoint.optimizer, "param_groups": groups})
        self.draws.set_state(checkpoint.draws[self.how.processes.rank].clone())
        self.position = checkpoint.position

    @property
    def _modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"encoder": self.encoder, "objectives": self.objectives})


def _tables(encoder: Encoder) -> Iterator[tuple[str, nn.Embedding]]:
    return ((name, each) for name, each in encoder.named_modules() if isinstance(each, nn.Embedding))


@torch.no_grad()
def _forget_unlearnt(encoder: Encoder, initial: Mapping[str, Tensor]) -> None:
    """Zeros the rows that are still as they were drawn: a value that no objective showed means nothing."""
    for name, table in _tables(encoder):
        table.weight[(table.weight == initial[name]).all(1)] = 0.0


def _compiled(encoder: Encoder, backend: str) -> Encoder:
    """One of the same parameters. What is drawn, chosen and scored isn't compiled: it depends on the data."""
    compiled = copy.copy(encoder)
    for name in ("hidden_states", "causal_states"):
        setattr(compiled, name, torch.compile(getattr(encoder, name), dynamic=True, backend=backend))
    return compiled


def _own_draws(generator: torch.Generator, how: Execution) -> torch.Generator:
    if how.processes.count == 1 and how.device.type == "cpu":
        return generator
    seed = zlib.crc32(f"{generator.initial_seed()}/{how.processes.rank}".encode())
    return torch.Generator(how.device).manual_seed(seed)


def _optimizer(encoder: Encoder, objectives: Objectives, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; only the weights of linear layers decay."""
    modules = [*encoder.modules(), *objectives.modules()]
    decaying = [m.weight for m in modules if isinstance(m, nn.Linear)]
    known = {id(p) for p in decaying}
    others = [p for p in [*encoder.parameters(), *objectives.parameters()] if id(p) not in known]
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def _total(losses: Losses, config: TrainConfig) -> torch.Tensor:
    total = (
        config.weight_masked * losses.masked
        + config.weight_rest * losses.rest
        + config.weight_contrast * losses.contrast
    )
    if config.weight_causal:
        total = total + config.weight_causal * losses.causal
    return total + config.weight_visitor * losses.visitor if config.weight_visitor else total


def losses_of(config: TrainConfig) -> tuple[str, ...]:
    """Names of the losses that are recorded."""
    more = {"causal": config.weight_causal, "visitor": config.weight_visitor}
    return (*OBJECTIVES, *(name for name, weight in more.items() if weight))


def _shown(means: Mapping[str, float], config: TrainConfig) -> str:
    words = {"masked": "hidden fields"}
    weighed = {name: mean for name, mean in means.items() if getattr(config, f"weight_{name}")}
    return ", ".join(f"{words.get(name, name)} {mean:.2f}" for name, mean in weighed.items())


def warm_then_cosine(step: int, steps: int, warmup_share: float) -> float:
    """Linear up over the first share of the steps, then half a cosine down to 0."""
    warm = max(1, int(steps * warmup_share))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Deterministic algorithms and a fixed number of threads, for the duration of the context."""
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    fill = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # Filling uninitialized memory is for debugging; here it would only cost a sixth of the time.
    settings.fill_uninitialized_memory = False
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = fill
        torch.set_num_threads(before[1])
