"""The folder where each training step leaves its result for the next.

Files are written whole or not at all. Weights are numpy archives of plain arrays; nothing is unpickled. An
error about a missing or damaged file names the step that makes it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamer.models import calibration as calibrations
from streamer.models import taxonomy as taxonomies
from streamer.models.labelling.teacher import SoftLabels, TeacherOutput
from streamer.models.taxonomy import Taxonomy
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.arrays_file import load_arrays, load_weights, save_arrays, save_weights
from streamer.models.training.config import TrainConfig
from streamer.models.training.distill import ClassifierHead, Distilled
from streamer.models.training.encoder import Encoder
from streamer.models.training.errors import TrainingError
from streamer.models.training.export import TrainedParts
from streamer.models.training.pretrain import shape_of
from streamer.models.training.relabel import Division, EditError, GivenLabels
from streamer.models.training.token_shards import TokenShards, write_shards
from streamer.models.whole_file import write_whole
from streamer.schemas.click import Session

_AS_MADE = "taxonomy.made.json"
"""The taxonomy as the teacher made it and labelled with it; `taxonomy.json` beside it is for people to
edit."""
_DIVISIONS = "divisions.npz"
"""Intents that people have split, and which sessions each part has."""
_SHARDS = "tokens"
_INTENTS = "intents.json"
"""Ids in the order of the head's outputs."""


class WorkFolder:
    """Raises TrainingError wherever something is missing or can't be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def put_tokenizer(self, tokenizer: Tokenizer) -> None:
        self._write("tokenizer.json", tokenizer.to_json())

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_json(self._read("tokenizer.json", "fit"))

    def put_shards(self, sessions: Iterable[Session] | None) -> None:
        """Tokens of all sessions to learn from; None: there are none, for memory holds the sessions."""
        if sessions is None:
            shutil.rmtree(self.path / _SHARDS, ignore_errors=True)
        else:
            write_shards(sessions, self.tokenizer(), self.path / _SHARDS)

    def shards(self) -> TokenShards | None:
        """None if the step `fit` has left none. Raises ShardsError."""
        folder = self.path / _SHARDS
        return TokenShards.open(folder, self.tokenizer()) if folder.is_dir() else None

    @property
    def checkpoint(self) -> Path:
        """Where pretraining writes one."""
        return self.path / "checkpoint.npz"

    def put_encoder(self, encoder: Encoder) -> None:
        save_weights(encoder, self.path / "encoder.npz")
        self.checkpoint.unlink(missing_ok=True)

    def encoder(self, config: TrainConfig) -> Encoder:
        encoder = Encoder(shape_of(self.tokenizer(), config))
        with _readable(path := self._require("encoder.npz", "pretrain"), "pretrain"):
            load_weights(encoder, path)
        return encoder.eval()

    def put_labels(self, output: TeacherOutput) -> None:
        (self.path / _DIVISIONS).unlink(missing_ok=True)
        for name in ("taxonomy.json", _AS_MADE):
            self._write(name, taxonomies.to_json(output.taxonomy))
        save_arrays(
            self.path / "labels.npz",
            train_rows=output.train.rows,
            train=output.train.probabilities,
            validation_rows=output.validation.rows,
            validation=output.validation.probabilities,
        )

    def labels(self) -> tuple[Taxonomy, SoftLabels, SoftLabels]:
        """The taxonomy, as people may have edited it since, and the teacher's labels over its intents."""
        taxonomy, made = self.taxonomy(), self._taxonomy(_AS_MADE)
        given = self.given_labels()
        try:
            train, validation = given.over(taxonomy, self.divisions(given))
        except EditError as error:
            raise TrainingError(f"{self.path}: {error}") from None
        if taxonomy != made:
            edits = {"edits": msgspec.to_builtins(taxonomy.edits)} if taxonomy.edits else {}
            edited = {"edited": "after the teacher, by people", **edits}
            self.note("taxonomy", {**self.notes()["taxonomy"], **edited})
        return taxonomy, train, validation

    def taxonomy(self) -> Taxonomy:
        """As people may have edited it."""
        return self._taxonomy("taxonomy.json")

    def given_labels(self) -> GivenLabels:
        """The teacher's, over the intents that it made."""
        made = self._taxonomy(_AS_MADE)
        with _readable(path := self._require("labels.npz", "taxonomy"), "taxonomy"):
            stored = load_arrays(path)
            train, validation = (
                SoftLabels(stored[f"{split}_rows"], stored[split]) for split in ("train", "validation")
            )
        return GivenLabels(tuple(_ids(made)), made.version, train, validation)

    def divisions(self, given: GivenLabels) -> list[Division]:
        """Those that people have made of the given labels, oldest first."""
        path = self.path / _DIVISIONS
        if not path.is_file():
            return []
        with _readable(path, "taxonomy"):
            stored = load_arrays(path)
            rows = zip(stored["names"].tolist(), stored["train"], stored["validation"], strict=True)
            found = [Division(whole, (one, two), *places) for (whole, one, two), *places in rows]
            sizes = {(len(each.train), len(each.validation)) for each in found}
            if not sizes <= {(len(given.train.rows), len(given.validation.rows))}:
                raise ValueError(f"{path.name} is of other labels")
        return found

    def put_edited(self, taxonomy: Taxonomy, divisions: Sequence[Division]) -> None:
        """What people have edited. The taxonomy comes last, and divisions count only with it."""
        if divisions:
            save_arrays(
                self.path / _DIVISIONS,
                names=np.array([[each.whole, *each.parts] for each in divisions]),
                train=np.stack([each.train for each in divisions]),
                validation=np.stack([each.validation for each in divisions]),
            )
        self._write("taxonomy.json", taxonomies.to_json(taxonomy))

    def labels_digest(self) -> str:
        """Of the taxonomy, as it is and as it was made, and of the labels: another one, another content."""
        whole = hashlib.sha256()
        for name in ("taxonomy.json", _AS_MADE, "labels.npz"):
            whole.update(hashlib.sha256(self._require(name, "taxonomy").read_bytes()).digest())
        return whole.hexdigest()

    def put_distilled(self, distilled: Distilled, taxonomy: Taxonomy) -> None:
        save_weights(distilled.head, self.path / "head.npz")
        self._write("calibration.json", calibrations.to_json(distilled.calibration))
        self._write(_INTENTS, json.dumps(_ids(taxonomy)) + "\n")

    def parts(self, config: TrainConfig) -> TrainedParts:
        """All that export needs."""
        taxonomy = self.taxonomy()
        if json.loads(self._read(_INTENTS, "distill")) != _ids(taxonomy):
            raise TrainingError("taxonomy.json has other intents than the head: run the step 'distill' again")
        tokenizer, encoder = self.tokenizer(), self.encoder(config)
        head = ClassifierHead(encoder.shape.embedding_dim, config.head_hidden, len(taxonomy.intents))
        with _readable(path := self._require("head.npz", "distill"), "distill"):
            load_weights(head, path)
        calibration = calibrations.from_json(self._read("calibration.json", "distill"))
        return TrainedParts(tokenizer, encoder, head.eval(), taxonomy, calibration)

    def notes(self) -> dict[str, Any]:
        """What each step found out."""
        path = self.path / "notes.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def note(self, step: str, found: dict[str, Any]) -> None:
        self._write("notes.json", json.dumps({**self.notes(), step: found}, indent=2) + "\n")

    def _taxonomy(self, name: str) -> Taxonomy:
        try:
            return taxonomies.from_json(self._read(name, "taxonomy"))
        except ValueError as error:
            raise TrainingError(f"{self.path / name}: {error}") from None

    def _require(self, name: str, step: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise TrainingError(f"{path} is missing: run the step {step!r} first")
        return path

    def _read(self, name: str, step: str) -> str:
        return self._require(name, step).read_text(encoding="utf-8")

    def _write(self, name: str, text: str) -> None:
        write_whole(self.path / name, text.encode())


def _ids(taxonomy: Taxonomy) -> list[str]:
    return [intent.id for intent in taxonomy.intents]


@contextmanager
def _readable(path: Path, step: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError) as error:
        reason = error if isinstance(error, ValueError) else f"{path.name} can't be read: no {error}"
        raise TrainingError(f"{path.parent}: {reason}; run the step {step!r} again") from None
