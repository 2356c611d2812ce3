"""The recipe of a training run, stored in its folder: which clicks, and how to train on them."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from streamer.cli.output import say
from streamer.cli.recipe_file import read_recipe_file
from streamer.cli.steps import Show
from streamer.errors import StreamerError, UsageError
from streamer.line_file import is_parquet
from streamer.replay.file_source import WholeFile
from streamer.replay.session_sample import MOST_SESSIONS, SessionSample
from streamer.rules_from_settings import session_rules
from streamer.schemas.click import Session
from streamer.settings import NATIVE, Settings

if TYPE_CHECKING:
    from streamer.models.training.pipeline import Judge, TrainingPipeline
    from streamer.models.training.session_source import HeldSessions
    from streamer.pipeline.counters import ClickCounters

_RECIPE = "recipe.json"
_SIMULATOR = "simulator"


class TrainingFailedError(StreamerError):
    """Training failed; the text says why."""


@dataclass(frozen=True)
class Recipe:
    """What the steps of one run have in common."""

    file: str
    source: dict[str, Any]
    """What the manifest says about the clicks; a path is private and isn't in it."""
    seed: int
    epochs: int | None
    name: str | None
    """Of the bundle; None: the name of the folder that it is exported to."""
    most: int | None = None
    """At most this many sessions are held in memory; None: as many as usual memory holds."""
    batch: int | None = None
    """Sessions of a step of pretraining; None: the default."""
    weight_causal: float = 0.0
    weight_visitor: float = 0.0
    readout: str = "mean"
    """As in `TrainConfig`, whose defaults these are."""
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Tables of a recipe file's fields, by name."""
    hashed: dict[str, int] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    rest_every: int | None = None
    events_of_pages: bool | None = None
    """Of a recipe file; None: the usual, which is another for simulated clicks."""

    @classmethod
    def of(
        cls,
        file: Path,
        *,
        seed: int,
        epochs: int | None,
        name: str | None,
        simulated: dict[str, Any] | None = None,
        most: int | None = None,
        batch: int | None = None,
        weight_causal: float = 0.0,
        weight_visitor: float = 0.0,
        readout: str = "mean",
    ) -> Self:
        """`simulated`: the simulator's settings that differ from its defaults, if it made the file."""
        if name is not None:
            _checked_name(name, f"--name {name!r}")
        if file.is_fifo():
            raise UsageError(f"{file}: is a pipe; expected a file of clicks, which several steps will read")
        if readout == "causal" and not weight_causal:
            raise UsageError("--readout causal: needs --weight-causal, which is 0; expected a weight above 0")
        source = {"source": "clicks"} if simulated is None else {"source": _SIMULATOR, **simulated}
        source |= {"sha256": sha256_of(file)}
        weights = weight_causal, weight_visitor
        return cls(str(file.absolute()), source, seed, epochs, name, most, batch, *weights, readout)

    def with_fields(self, file: Path | None) -> Self:
        """With what a recipe file has, if there is one. Raises UsageError."""
        from streamer.models.training.config import OBJECTIVES, TrainConfig

        if file is None:
            return self
        found = replace(self, **read_recipe_file(file)._asdict())
        config = TrainConfig(**found.learnt())
        if not any(getattr(config, f"weight_{name}") for name in (*OBJECTIVES, "causal", "visitor")):
            raise UsageError(
                f"{file}: weights: every objective has weight 0; expected one above 0 here, or"
                " --weight-causal or --weight-visitor"
            )
        return found

    def learnt(self) -> dict[str, Any]:
        """What pretraining learns, as settings of `TrainConfig`."""
        from streamer.models.training.config import SIMULATED_BANK

        of_file = {"rest_every": self.rest_every, "events_of_pages": self.events_of_pages}
        return {
            **(SIMULATED_BANK if self.source["source"] == _SIMULATOR else {}),
            **{f"weight_{name}": weight for name, weight in self.weights.items()},
            **{name: value for name, value in of_file.items() if value is not None},
            "weight_causal": self.weight_causal,
            "weight_visitor": self.weight_visitor,
        }

    def check_kept(self, settings: Settings) -> None:
        """Raises UsageError if it is about clicks whose fields the settings wouldn't keep."""
        from streamer.models.extra_fields import PRICE

        missing = [name for name in self.fields if name != PRICE and name not in settings.clicks.keep]
        if missing and not _are_sessions(files_of(Path(self.file))[0], settings):
            wanted = ", ".join(f'"{name}"' for name in sorted({*settings.clicks.keep, *missing}))
            raise UsageError(
                f"fields.{missing[0]}: no session would have it; expected clicks.keep = [{wanted}] in the"
                " settings, as the worker has to keep it, too"
            )

    def save(self, work: Path) -> None:
        from streamer.models.whole_file import write_whole

        write_whole(work / _RECIPE, (json.dumps(asdict(self), indent=2) + "\n").encode())

    @classmethod
    def load(cls, work: Path) -> Self:
        path = work / _RECIPE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise UsageError(f"{path}: not there or not readable; run `streamer model fit` first") from None

    def check_unchanged(self) -> None:
        """Raises UsageError if the clicks aren't those that `fit` has read: the manifest would be wrong."""
        if sha256_of(Path(self.file)) != self.source["sha256"]:
            raise UsageError(
                f"{self.file}: its content has changed since `streamer model fit`: run all steps again"
            )


def bundle_name(asked: str | None, out: Path) -> str:
    """The name asked for, else that of the bundle's folder. Raises UsageError."""
    if asked is not None:
        return _checked_name(asked, f"--name {asked!r}")
    # Normalized without following links: the folder's name is the one that was given.
    folder = os.path.basename(os.path.abspath(out))  # noqa: PTH100, PTH119
    return _checked_name(folder, f"--out {out}: without --name the folder's name is the bundle's")


def _checked_name(name: str, what: str) -> str:
    from streamer.models.bundle import NAME

    if not NAME.fullmatch(name):
        raise UsageError(f"{what}: expected 1 to 64 of a-z, 0-9, dot, dash and underscore")
    return name


def sha256_of(file: Path) -> str:
    """Of the file, or of a folder's files and their names."""
    if file.is_dir():
        whole = hashlib.sha256()
        for each in files_of(file):
            whole.update(f"{each.relative_to(file).as_posix()} {sha256_of(each)}\n".encode())
        return whole.hexdigest()
    try:
        with file.open("rb") as clicks:
            return hashlib.file_digest(clicks, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}); expected a file of clicks") from None


def training_pipeline(recipe: Recipe, work: Path, settings: Settings, show: Show) -> TrainingPipeline:
    """The recipe's sessions, cut by the settings' rules, ready to train on."""
    from streamer.models.extra_fields import FieldSpec
    from streamer.models.training.config import UNNAMED, TrainConfig
    from streamer.models.training.pipeline import TrainingPipeline
    from streamer.models.training.work_folder import WorkFolder

    config = TrainConfig(
        name=recipe.name or UNNAMED,
        seed=recipe.seed,
        readout=recipe.readout,
        fields=tuple(FieldSpec.of(name, table) for name, table in recipe.fields.items()),
        hashed=recipe.hashed,
        **recipe.learnt(),
    )
    recipe.check_kept(settings)
    if recipe.epochs is not None:
        config = replace(config, epochs=recipe.epochs)
    if recipe.batch is not None:
        config = replace(config, batch=recipe.batch)
    source = Clickstream(Path(recipe.file), recipe.most or MOST_SESSIONS, settings)
    return TrainingPipeline(source, config, WorkFolder(work), show)


@dataclass(frozen=True)
class Clickstream:
    """The sessions of a file or of a folder's files: cut by the settings' rules, or as a replay has written
    them."""

    path: Path
    most: int
    settings: Settings

    def held(self) -> HeldSessions:
        from streamer.models.training.session_source import HeldSessions

        sample = SessionSample.from_all(self._read(say_clicks), self.most)
        if sample.taken < sample.of:
            say(
                f"{self.path}: {sample.taken:,} of {sample.of:,} sessions are held in memory for labels, all"
                f" of visitors chosen by a hash, {self.most:,} at most; tokenizer and encoder learn from all"
            )
        return HeldSessions(sample.sessions(), are_all=sample.taken == sample.of)

    def every(self) -> Iterator[Session]:
        return self._read(lambda _: None)

    def _read(self, report: Callable[[ClickCounters], None]) -> Iterator[Session]:
        from streamer.replay.rows import require_rows, sessions_of_rows

        files = files_of(self.path)
        if _are_sessions(files[0], self.settings):
            for file in files:
                require_rows(file)
            for file in files:
                yield from sessions_of_rows(file)
            return
        whole = WholeFile(files, session_rules(self.settings), self.settings.clicks)
        for _, session in whole.sessions():
            yield session
        report(whole.counters)
        whole.require_a_click()


def _are_sessions(file: Path, settings: Settings) -> bool:
    """Whether a replay has written the file; otherwise it has clicks, which may be rows of parquet too."""
    from streamer.replay.rows import has_rows

    return is_parquet(file) and (settings.clicks.source == NATIVE or has_rows(file))


def files_of(path: Path) -> list[Path]:
    """The file, or all files below a folder in the order of their paths, without those that are hidden or
    begin with an underscore. Raises UsageError if the folder has none."""
    if not path.is_dir():
        return [path]
    found = [each for each in path.rglob("*") if each.is_file() and not _is_hidden(each.relative_to(path))]
    if not found:
        raise UsageError(f"{path}: a folder without files; expected clicks, or what `streamer replay` writes")
    return sorted(found)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def sessions_to_learn_from(file: Path, most: int = MOST_SESSIONS) -> list[Session]:
    """Sessions of people in a replay's file; reports if it has more than are taken."""
    from streamer.replay.rows import sessions_of_rows

    sample = SessionSample.from_all(sessions_of_rows(file), most)
    if sample.taken < sample.of:
        say(
            f"{file}: {sample.taken:,} of {sample.of:,} sessions are taken, all of visitors chosen by a hash;"
            f" {most:,} at most, for they are held in memory"
        )
    return sample.sessions()


def say_clicks(counters: ClickCounters) -> None:
    say(
        f"{counters.received:,} clicks: {counters.closed:,} in {counters.sessions:,} sessions,"
        f" {counters.late:,} late, {counters.dead_lettered:,} refused,"
        f" {counters.duplicates:,} duplicates, {counters.filtered:,} filtered"
    )


@contextmanager
def explained() -> Iterator[None]:
    """Turns failures of training into errors that the command line shows."""
    from streamer.models.llm.errors import LlmError
    from streamer.models.training.errors import TrainingError
    from streamer.models.training.parity import ExportError

    try:
        yield
    except (TrainingError, ExportError, LlmError) as error:
        raise TrainingFailedError(str(error)) from error


def judge_by(truth: Path | None) -> Judge | None:
    """Agreement of labels with the first intents in a simulator's session table."""
    if truth is None:
        return None
    from streamer.models.simulator.files import read_table
    from streamer.models.training.pipeline import truth_agreement

    try:
        first = {
            (row["visitor_id"], row["start"]): (row["intents"][0], row["parents"][0])
            for row in read_table(truth)
            if row["intents"]
        }
    except (KeyError, TypeError, ValueError, EOFError, OSError, zlib.error):
        raise UsageError(f"--truth {truth}: expected the simulator's sessions, sessions.jsonl.gz") from None

    def judge(sessions: Sequence[Session], labels: Sequence[str], parents: Sequence[str]) -> dict[str, Any]:
        known = [i for i, s in enumerate(sessions) if (s.visitor_id, s.started_at) in first]
        latent = [first[sessions[i].visitor_id, sessions[i].started_at] for i in known]
        return {
            "intents_against_truth": truth_agreement(
                [labels[i] for i in known], [name for name, _ in latent]
            ),
            "parents_against_truth": truth_agreement(
                [parents[i] for i in known], [name for _, name in latent]
            ),
        }

    return judge
