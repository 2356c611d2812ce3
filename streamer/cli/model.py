"""`streamer model`: simulate visitors, train a bundle step by step or at once, inspect a bundle.

Training needs the extra [train]; `inspect` needs nothing but what serving needs. Everything heavy is
imported by the command that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from streamer.cli.card import card
from streamer.cli.click_source import ClickSource
from streamer.cli.drift import drift
from streamer.cli.evaluate import evaluate
from streamer.cli.execution import (
    Accumulate,
    Batch,
    Compile,
    Device,
    Every,
    PrecisionOption,
    Resume,
    checked_device,
    execution,
    require_one_process,
)
from streamer.cli.inspect import in_one_line, inspect
from streamer.cli.lazy import new_app
from streamer.cli.local_paths import local_path, out_path
from streamer.cli.output import print_json, say
from streamer.cli.probe import probe
from streamer.cli.prototypes import prototypes
from streamer.cli.recipe_file import MOST_WEIGHT
from streamer.cli.refresh import refresh
from streamer.cli.review import review
from streamer.errors import UsageError

if TYPE_CHECKING:
    from streamer.cli.recipe import Recipe
    from streamer.models.bundle import Manifest
    from streamer.models.labelling.teacher import Teacher
    from streamer.models.llm.asking import Asker
    from streamer.models.taxonomy import Taxonomy
    from streamer.models.training.pipeline import TrainingPipeline

T = TypeVar("T")
app = new_app()


class TeacherName(StrEnum):
    """Who makes the taxonomy and labels sessions."""

    KEYLESS = "keyless"
    CLUSTERS_LLM = "clusters+llm"
    LLM = "llm"


class Readout(StrEnum):
    """`models.training.encoder.READOUTS`, which needs torch."""

    MEAN = "mean"
    MEAN_MAX_LAST = "mean+max+last"
    CAUSAL = "causal"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Clicks = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]",
        help="Clicks as JSON lines, may be gzipped; or a replay's parquet; or a folder of such files.",
    ),
]
MostSessions = Annotated[
    int | None,
    typer.Option(
        "--max-sessions",
        min=100,
        help="Held in memory for labels, whole visitors by hash; default 200,000. All are pretrained on.",
    ),
]
Work = Annotated[Path, local_path("--work", "DIR", "Where the steps leave their results.")]
Out = Annotated[Path, out_path("--out", "DIR", "The folder to write the bundle to.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed and clicks give the same bundle.")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the training sessions.")]
Name = Annotated[
    str | None,
    typer.Option(
        "--name", help="The bundle's name: a-z, 0-9, dot, dash, underscore. Default: that of its folder."
    ),
]
WeightCausal = Annotated[
    float,
    typer.Option(
        "--weight-causal",
        min=0.0,
        max=MOST_WEIGHT,
        help="Of learning what follows each beginning of a session; default: 0.",
    ),
]
WeightVisitor = Annotated[
    float,
    typer.Option(
        "--weight-visitor",
        min=0.0,
        max=MOST_WEIGHT,
        help="Of contrast between a visitor's sessions and others'; default: 0.",
    ),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="FILE",
        help="TOML: further fields of clicks to learn from, and widths of hashed tails (docs/tokenizer.md).",
    ),
]
ReadoutOption = Annotated[
    Readout,
    typer.Option(
        "--readout", help="What an embedding has of a session: the mean of its clicks, or more (wider)."
    ),
]
Visitors = Annotated[int, typer.Option("--visitors", min=2, help="People to simulate.")]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--truth",
        metavar="FILE",
        help="The simulator's sessions table. Read after training, only to measure how well labels agree.",
    ),
]
Previous = Annotated[
    Path | None, typer.Option("--previous", metavar="FILE", help="Taxonomy whose ids are carried over.")
]
TeacherOption = Annotated[
    TeacherName,
    typer.Option(
        "--teacher",
        help="keyless: clusters of sessions, named by words; clusters+llm: named by the language model of the"
        " settings; llm: the model makes the taxonomy and labels sessions.",
    ),
]
LlmBatch = Annotated[
    bool,
    typer.Option(
        "--llm-batch",
        help="Ask by the endpoint's batch API: half the price at many vendors, and each of some four batches"
        " takes up to a day (--teacher llm).",
    ),
]

WORK = Path("runs/model")
CPU = "cpu"
CHECKPOINT_EVERY = 1000
SIMULATED_VISITORS = 8_000
SIMULATED_SEED = 1


app.command("evaluate")(evaluate)


@app.callback(no_args_is_help=True)
def model() -> None:
    """Train, look at and compare model bundles."""


@app.command()
def simulate(
    out: Annotated[Path, out_path("--out", "DIR", "Folder for the tables.")],
    visitors: Visitors = SIMULATED_VISITORS,
    seed: Seed = SIMULATED_SEED,
    json: Json = False,
) -> None:
    """Simulate visitors of a bank: their clicks, and what they do in its app, as JSON lines."""
    written = _simulate(out, visitors, seed)
    if json:
        print_json({table: str(path) for table, path in written.items()})


@app.command()
def train(
    ctx: typer.Context,
    out: Out,
    file: Clicks = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="Simulate the clicks.")] = False,
    visitors: Visitors = SIMULATED_VISITORS,
    seed: Seed = 7,
    epochs: Epochs = None,
    name: Name = None,
    work: Work = WORK,
    truth: Truth = None,
    previous: Previous = None,
    teacher: TeacherOption = TeacherName.KEYLESS,
    llm_batch: LlmBatch = False,
    most: MostSessions = None,
    source: ClickSource = None,
    batch: Batch = None,
    weight_causal: WeightCausal = 0.0,
    weight_visitor: WeightVisitor = 0.0,
    readout: ReadoutOption = Readout.MEAN,
    recipe_file: RecipeFile = None,
    device: Device = CPU,
    precision: PrecisionOption = None,
    json: Json = False,
) -> None:
    """All steps at once: fit, pretrain, taxonomy, distill, export."""
    require_one_process("train")
    checked_device(device)
    from streamer.cli.recipe import Recipe, bundle_name, explained, judge_by, training_pipeline

    if simulated == (file is not None):
        raise UsageError("train: expected either a FILE of clicks or --simulated")
    _require_llm_for_batches(llm_batch, teacher)
    name = bundle_name(name, out)
    carried_over = _taxonomy(previous)
    simulator: dict[str, Any] | None = None
    if file is None:
        simulator = {"visitors": visitors, "seed": SIMULATED_SEED}
        tables = _simulate(work / "simulated", visitors, SIMULATED_SEED)
        file, truth = tables["clicks"], tables["sessions"]
    recipe = Recipe.of(
        file, seed=seed, epochs=epochs, name=name, simulated=simulator, most=most, batch=batch,
        weight_causal=weight_causal, weight_visitor=weight_visitor, readout=readout.value,
    ).with_fields(recipe_file)  # fmt: skip
    recipe.save(work)
    settings = ctx.obj.settings(clicks__source=source)
    with (
        execution(device, precision, 1, compiles=False, every=CHECKPOINT_EVERY, resume=False) as how,
        explained(),
        _teacher(teacher, settings, work, seed, batch=llm_batch) as own,
        _bars() as show,
    ):
        pipeline = training_pipeline(recipe, work, settings, show)
        manifest = pipeline.run(out, recipe.source, judge_by(truth), carried_over, own(pipeline), how)
    _warn_of_collapse(manifest.metrics)
    _report(out, manifest.metrics, json)


@app.command()
def fit(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As for train.")],
    seed: Seed = 7,
    epochs: Epochs = None,
    name: Name = None,
    work: Work = WORK,
    most: MostSessions = None,
    batch: Batch = None,
    weight_causal: WeightCausal = 0.0,
    weight_visitor: WeightVisitor = 0.0,
    readout: ReadoutOption = Readout.MEAN,
    recipe_file: RecipeFile = None,
) -> None:
    """Step 1: learn the tokenizer. The other steps take clicks and settings from here."""
    require_one_process("fit")
    from streamer.cli.recipe import Recipe

    recipe = Recipe.of(
        file, seed=seed, epochs=epochs, name=name, most=most, batch=batch,
        weight_causal=weight_causal, weight_visitor=weight_visitor, readout=readout.value,
    ).with_fields(recipe_file)  # fmt: skip
    _run(ctx, recipe, work, lambda pipeline: pipeline.fit())
    # Not before: beside the tokenizer of another recipe it would be read by the next step.
    recipe.save(work)


@app.command()
def pretrain(
    ctx: typer.Context,
    work: Work = WORK,
    device: Device = CPU,
    precision: PrecisionOption = None,
    accumulate: Accumulate = 1,
    compiles: Compile = False,
    every: Every = CHECKPOINT_EVERY,
    resume: Resume = False,
) -> None:
    """Step 2: pretrain the encoder on sessions without labels; in several processes if torchrun starts it."""
    with execution(device, precision, accumulate, compiles, every, resume) as how:

        def run(pipeline: TrainingPipeline) -> None:
            if not how.processes.is_first:
                pipeline.progress = lambda *_: None
            pipeline.pretrain(how)
            if how.processes.is_first:
                _warn_of_collapse(pipeline.folder.notes())

        _step(ctx, work, run)


@app.command()
def taxonomy(
    ctx: typer.Context,
    work: Work = WORK,
    previous: Previous = None,
    teacher: TeacherOption = TeacherName.KEYLESS,
    llm_batch: LlmBatch = False,
    use: Annotated[
        Path | None,
        typer.Option("--use", metavar="FILE", help="Label with this taxonomy as it is (--teacher llm)."),
    ] = None,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview", help="Say what the language model would cost and be sent, and send nothing."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Step 3: make the taxonomy and label sessions with it. Edit WORK/taxonomy.json before the next step."""
    from streamer.cli.recipe import Recipe

    require_one_process("taxonomy")
    if use is not None and (teacher is not TeacherName.LLM or previous is not None):
        raise UsageError("--use labels with a given taxonomy: it needs --teacher llm and no --previous")
    if preview and teacher is TeacherName.KEYLESS:
        raise UsageError("--preview is about a language model: it needs --teacher llm or clusters+llm")
    _require_llm_for_batches(llm_batch, teacher)
    carried_over, fixed = _taxonomy(previous), _taxonomy(use)
    seed, settings = Recipe.load(work).seed, ctx.obj.settings()
    with _teacher(teacher, settings, work, seed, fixed, llm_batch) as own:
        if preview:
            from streamer.cli.llm import say_preview

            say_preview(
                _step(ctx, work, lambda pipeline: pipeline.estimate(own(pipeline))), settings.llm, json
            )
            return
        _step(ctx, work, lambda pipeline: pipeline.teach(own(pipeline), carried_over))
    say(
        f"read {work / 'audit.md'}, edit {work / 'taxonomy.json'} or `streamer model review`, then `streamer"
        " model distill`"
    )


app.command()(review)


@app.command()
def distill(
    ctx: typer.Context,
    work: Work = WORK,
    hard: Annotated[bool, typer.Option("--hard", help="Learn from each label's best intent only.")] = False,
) -> None:
    """Step 4: distill the labels into a small head and calibrate it."""
    require_one_process("distill")
    _step(ctx, work, lambda pipeline: pipeline.distill(hard))


@app.command()
def export(
    ctx: typer.Context,
    out: Out,
    work: Work = WORK,
    name: Name = None,
    truth: Truth = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Linear layers in 8 bits: no promise that live = replay.")
    ] = False,
    json: Json = False,
) -> None:
    """Step 5: export, check and write the bundle."""
    require_one_process("export")
    from streamer.cli.recipe import Recipe, bundle_name, judge_by

    recipe = Recipe.load(work)
    named = bundle_name(name or recipe.name, out)

    def run(pipeline: TrainingPipeline) -> Manifest:
        pipeline.config = replace(pipeline.config, name=named)
        return pipeline.export(out, recipe.source, judge_by(truth), int8)

    manifest = _step(ctx, work, run)
    _report(out, manifest.metrics, json)


app.command()(inspect)
app.command()(card)
app.command()(drift)
app.command()(probe)
app.command()(prototypes)
app.command()(refresh)


def _simulate(out: Path, visitors: int, seed: int) -> dict[str, Path]:
    from streamer.models.simulator import SimulatorConfig, write
    from streamer.models.simulator import simulate as run

    simulated = run(SimulatorConfig(visitors=visitors, seed=seed))
    written = write(simulated, out)
    say(f"simulated {len(simulated.raw_clicks):,} clicks in {len(simulated.outlines):,} sessions to {out}")
    return written


def _step(ctx: typer.Context, work: Path, do: Callable[[TrainingPipeline], T]) -> T:
    from streamer.cli.recipe import Recipe

    recipe = Recipe.load(work)
    recipe.check_unchanged()
    return _run(ctx, recipe, work, do)


def _run(ctx: typer.Context, recipe: Recipe, work: Path, do: Callable[[TrainingPipeline], T]) -> T:
    from streamer.cli.recipe import explained, training_pipeline

    with explained(), _bars() as show:
        return do(training_pipeline(recipe, work, ctx.obj.settings(), show))


def _taxonomy(path: Path | None) -> Any:
    from streamer.models.taxonomy import from_json

    if path is None:
        return None
    try:
        return from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no taxonomy to carry over or use: {error}") from None


def _require_llm_for_batches(llm_batch: bool, teacher: TeacherName) -> None:
    if llm_batch and teacher is not TeacherName.LLM:
        raise UsageError(
            "--llm-batch needs --teacher llm: the other teachers ask too little to wait hours for it"
        )


@contextmanager
def _teacher(
    name: TeacherName,
    settings: Any,
    work: Path,
    seed: int,
    fixed: Taxonomy | None = None,
    batch: bool = False,
) -> Iterator[Callable[[TrainingPipeline], Teacher]]:
    if name is TeacherName.KEYLESS:
        yield lambda pipeline: pipeline.cluster_teacher()
        return
    from streamer.cli.llm import llm_namer, llm_teacher

    if name is TeacherName.LLM:
        with llm_teacher(settings.llm, work, seed, fixed, batch) as teacher:
            yield lambda pipeline: _followed(pipeline, teacher.asker, teacher)
        return
    with llm_namer(settings.llm, work, seed) as namer:
        yield lambda pipeline: _followed(pipeline, namer.asker, pipeline.cluster_teacher(namer))


def _followed(pipeline: TrainingPipeline, asker: Asker, teacher: Teacher) -> Teacher:
    """The teacher, whose answers the pipeline's progress follows."""

    def show(note: str) -> None:
        pipeline.progress("taxonomy", asker.answers, max(asker.expected, asker.answers + 1), note)

    asker.on_answer = lambda asker: show(f"{asker.tokens:,} tokens")
    if asker.batches is not None:
        asker.batches.on_wait = lambda state, requests: show(
            f"batch {state.id} {state.status}, {state.completed:,} of {requests:,}"
        )
    return teacher


def _bars() -> Any:
    from streamer.cli.steps import step_bars

    return step_bars()


def _warn_of_collapse(notes: dict[str, Any]) -> None:
    if not notes["pretraining"]["guards"]["passed"]:
        say(
            "warning: the encoder hasn't learnt more than an untrained one, or its embeddings have collapsed:"
            " expected more sessions or more --epochs; see pretraining.guards in the bundle's metrics"
        )


def _report(out: Path, metrics: dict[str, Any], json: bool) -> None:
    if json:
        print_json({"bundle": str(out), "metrics": metrics})
        return
    say(f"bundle written to {out}")
    for step, found in metrics.items():
        say(f"{step:<13} {in_one_line(found)}")
