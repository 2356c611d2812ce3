"""The steps of training in order, each with its result in a folder, so that any step can be run again.

Each step draws from generators made of the one seed and its own name: run singly or all in a row, the same
seed gives the same bundle, byte for byte, on the same machine.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import calibration as calibrations
from models import taxonomy as taxonomies
from models.bundle import Manifest
from models.profile import Profile
from models.runtime import Outputs
from models.taxonomy import Taxonomy
from models.tokenizer import Tokenizer
from models.training import export as exporting
from models.training.config import TrainConfig
from models.training.corpus import Corpus, Split, by_split, embed
from models.training.curve import learning_curve
from models.training.determinism import deterministic
from models.training.distill import Head, distil, hardened
from models.training.encoder import Encoder
from models.training.guards import collapse_guards
from models.training.keyless import KeylessTeacher
from models.training.pretrain import new_encoder, pretrain, shape_of
from models.training.reference import reference_profile
from models.training.relabel import EditError, aligned
from models.training.teacher import Lesson, SoftLabels, Teacher
from models.training.weights import load_arrays, load_weights, save_weights
from schemas.click import Session

Progress = Callable[[str, int, int, str], None]
"""(step, done, of how many, what is to be said about it)"""
Judge = Callable[[Sequence[Session], Sequence[str], Sequence[str]], dict[str, Any]]
"""Test sessions, their most probable intents and those's parents to metrics. Called after all fitting."""


class TrainingError(Exception):
    """The sessions can't train a model; the text says what is missing."""


_AS_MADE = "taxonomy.made.json"
"""What the teacher made, and labelled with; `taxonomy.json` beside it is for people to edit."""
_INTENTS = "intents.json"
"""Ids in the order of the head's outputs."""


def _ids(taxonomy: Taxonomy) -> list[str]:
    return [intent.id for intent in taxonomy.intents]


@contextmanager
def _readable(path: Path, step: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError) as error:
        reason = error if isinstance(error, ValueError) else f"{path.name} can't be read: no {error}"
        raise TrainingError(f"{path.parent}: {reason}; run the step {step!r} again") from None


def silent(_step: str, _done: int, _total: int, _note: str) -> None:
    pass


@dataclass
class Workshop:
    """Sessions by split, and the folder where steps leave their results."""

    sessions: dict[Split, list[Session]]
    config: TrainConfig
    folder: Path
    progress: Progress = silent

    @classmethod
    def of(
        cls, sessions: Iterable[Session], config: TrainConfig, folder: Path, progress: Progress = silent
    ) -> Workshop:
        """Raises TrainingError if a split has nothing to learn from."""
        splits = by_split(sessions)
        for split in ("train", "validation"):
            if len(splits[split]) < 2:
                found = {name: len(some) for name, some in splits.items()}
                raise TrainingError(
                    f"the {split} split has too few sessions of people: {found}; expected at least 2,"
                    " and some hundred visitors to learn anything from"
                )
        folder.mkdir(parents=True, exist_ok=True)
        return cls(splits, config, folder, progress)

    def fit(self) -> None:
        """Learns the tokenizer from the training split."""
        self.progress("fit", 0, 1, "")
        tokenizer = Tokenizer.fit(self.sessions["train"], self.config.min_count, self.config.max_vocabulary)
        (self.folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
        self.progress("fit", 1, 1, f"{sum(tokenizer.event_sizes)} ids")

    def pretrain(self) -> None:
        """Pretrains the encoder and checks that it hasn't collapsed."""
        tokenizer = self.tokenizer()
        train, validation = self._corpus("train"), self._corpus("validation")
        with deterministic(self.config.threads):
            result = pretrain(
                train, tokenizer, self.config, self._generator("pretrain"),
                lambda done, total, note: self.progress("pretrain", done, total, note),
            )  # fmt: skip
            untrained = new_encoder(tokenizer, self.config, self._generator("untrained"))
            guards = collapse_guards(result.encoder, untrained, train, validation)
        save_weights(result.encoder, self.folder / "encoder.npz")
        self._note("pretraining", {"losses": result.losses, "guards": guards.as_dict()})

    def teach(self, teacher: Teacher | None = None, previous: Taxonomy | None = None) -> None:
        """Has the teacher make the taxonomy and label sessions with it; keyless by default."""
        self.progress("taxonomy", 0, 1, "")
        teacher = teacher or KeylessTeacher(self.config, self._seed("taxonomy"))
        train, validation = (
            Lesson(self.sessions[split], self._embeddings(split)) for split in ("train", "validation")
        )
        taught = teacher.teach(train, validation, previous)
        for name in ("taxonomy.json", _AS_MADE):
            (self.folder / name).write_text(taxonomies.to_json(taught.taxonomy), encoding="utf-8")
        with (self.folder / "labels.npz").open("wb") as file:
            np.savez(
                file,
                train_rows=taught.train.rows,
                train=taught.train.probabilities,
                validation_rows=taught.validation.rows,
                validation=taught.validation.probabilities,
            )
        self._note("taxonomy", {"teacher": teacher.name, **taught.notes})
        self.progress("taxonomy", 1, 1, f"{len(taught.taxonomy.intents)} intents")

    def distil(self, hard: bool = False) -> None:
        """Distils the labels into the head and calibrates it; `hard` keeps only the best intent of each."""
        self.progress("distil", 0, 1, "")
        taxonomy, soft, validation = self._labels()
        train = hardened(soft) if hard else soft
        embedded = self._embeddings("train"), self._embeddings("validation")
        with deterministic(self.config.threads):
            distilled = distil(
                embedded[0], train, embedded[1], validation, self.config, self._generator("distil")
            )
            curve = learning_curve(embedded[0], train, embedded[1], validation, self.config, self._generator)
        save_weights(distilled.head, self.folder / "head.npz")
        (self.folder / "calibration.json").write_text(
            calibrations.to_json(distilled.calibration), encoding="utf-8"
        )
        (self.folder / _INTENTS).write_text(json.dumps(_ids(taxonomy)) + "\n", encoding="utf-8")
        facts = {"labels": "hard" if hard else "soft", "labelled": len(train.rows)}
        self._note("distillation", {**facts, **distilled.metrics, "learning_curve": curve})
        self.progress("distil", 1, 1, f"ECE {distilled.metrics['ece']:.3f}")

    def export(
        self, out: Path, source: dict[str, Any], judge: Judge | None = None, int8: bool = False
    ) -> Manifest:
        """Exports, checks and writes the bundle; `source` says what the sessions are."""
        self.progress("export", 0, 1, "")
        parts = self._parts()
        exported = exporting.build(parts)
        if int8:
            exported = exporting.build_int8(parts, exported, self._held_out()[1])
        metrics = {**self._notes(), "export": exported.checks}
        if self.sessions["test"]:
            outputs = self._test_outputs(exported)
            metrics["test"] = self._test_metrics(parts, outputs, judge)
        data = {**source, "sessions": {split: len(some) for split, some in self.sessions.items()}}
        manifest = exporting.write(
            exported, parts, self.config, data, metrics, out, self._profile(exported, parts)
        )
        self.progress("export", 1, 1, f"{sum(map(len, exported.files.values())) / 1e6:.1f} MB")
        return manifest

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_json(self._read("tokenizer.json", "fit"))

    def encoder(self) -> Encoder:
        encoder = Encoder(shape_of(self.tokenizer(), self.config))
        with _readable(path := self._require("encoder.npz", "pretrain"), "pretrain"):
            load_weights(encoder, path)
        return encoder.eval()

    def _parts(self) -> exporting.Parts:
        taxonomy = self._taxonomy("taxonomy.json")
        if json.loads(self._read(_INTENTS, "distill")) != _ids(taxonomy):
            raise TrainingError("taxonomy.json has other intents than the head: run the step 'distill' again")
        head = Head(self.config.dim, self.config.head_hidden, len(taxonomy.intents))
        with _readable(path := self._require("head.npz", "distill"), "distill"):
            load_weights(head, path)
        calibration = calibrations.from_json(self._read("calibration.json", "distill"))
        return exporting.Parts(self.tokenizer(), self.encoder(), head.eval(), taxonomy, calibration)

    def _labels(self) -> tuple[Taxonomy, SoftLabels, SoftLabels]:
        """The taxonomy, as people may have edited it since, and the teacher's labels over its intents."""
        taxonomy = self._taxonomy("taxonomy.json")
        made = self._taxonomy(_AS_MADE)
        if taxonomy != made:
            self._note("taxonomy", {**self._notes()["taxonomy"], "edited": "after the teacher, by people"})
        path = self._require("labels.npz", "taxonomy")
        with _readable(path, "taxonomy"):
            stored = load_arrays(path)
            train, validation = (
                SoftLabels(stored[f"{split}_rows"], stored[split]) for split in ("train", "validation")
            )
        try:
            return (
                taxonomy,
                aligned(train, _ids(made), taxonomy, made.version),
                aligned(validation, _ids(made), taxonomy, made.version),
            )
        except EditError as error:
            raise TrainingError(f"{self.folder}: {error}") from None

    def _taxonomy(self, name: str) -> Taxonomy:
        try:
            return taxonomies.from_json(self._read(name, "taxonomy"))
        except ValueError as error:
            raise TrainingError(f"{self.folder / name}: {error}") from None

    def _profile(self, exported: exporting.Exported, parts: exporting.Parts) -> Profile:
        split, sessions = self._held_out()
        return reference_profile(
            parts.tokenizer, exported.runtime, parts.calibration, parts.taxonomy, sessions, split
        )

    def _held_out(self) -> tuple[Split, list[Session]]:
        split: Split = "test" if self.sessions["test"] else "validation"
        return split, self.sessions[split]

    def _test_outputs(self, exported: exporting.Exported) -> Outputs:
        """Of the test sessions in their order, by the runtime that will serve."""
        encoded = self.tokenizer().encode(self.sessions["test"])
        parts = [exported.runtime.run(each) for each in encoded]
        order = np.argsort(np.concatenate([each.rows for each in encoded]))
        return Outputs(*(np.concatenate(arrays)[order] for arrays in zip(*parts, strict=True)))

    def _test_metrics(self, parts: exporting.Parts, outputs: Outputs, judge: Judge | None) -> dict[str, Any]:
        probabilities = parts.calibration.probabilities(outputs.logits)
        best = probabilities.argmax(1).tolist()
        ids = [intent.id for intent in parts.taxonomy.intents]
        labels = [ids[k] for k in best]
        parents = [parts.taxonomy.intents[k].parent for k in best]
        limits = parts.calibration
        metrics: dict[str, Any] = {
            "label_shares": {i: round(labels.count(i) / len(labels), 4) for i in ids},
            "novel_share": round(float((outputs.novelty > limits.max_novelty).mean()), 4),
            "ambiguous_share": round(float((probabilities.max(1) < limits.min_probability).mean()), 4),
        }
        return {**metrics, **(judge(self.sessions["test"], labels, parents) if judge else {})}

    def _corpus(self, split: Split) -> Corpus:
        return Corpus.of(self.sessions[split], self.tokenizer())

    def _embeddings(self, split: Split) -> np.ndarray[Any, np.dtype[np.float32]]:
        with deterministic(self.config.threads):
            return embed(self.encoder(), self._corpus(split))

    def _seed(self, step: str) -> int:
        return zlib.crc32(f"{self.config.seed}/{step}".encode())

    def _generator(self, step: str) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed(step))

    def _require(self, name: str, step: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise TrainingError(f"{path} is missing: run the step {step!r} first")
        return path

    def _read(self, name: str, step: str) -> str:
        return self._require(name, step).read_text(encoding="utf-8")

    def _notes(self) -> dict[str, Any]:
        path = self.folder / "notes.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _note(self, step: str, found: dict[str, Any]) -> None:
        notes = {**self._notes(), step: found}
        (self.folder / "notes.json").write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def train(
    workshop: Workshop,
    out: Path,
    source: dict[str, Any],
    judge: Judge | None = None,
    previous: Taxonomy | None = None,
    teacher: Teacher | None = None,
) -> Manifest:
    """All steps in order."""
    workshop.fit()
    workshop.pretrain()
    workshop.teach(teacher, previous)
    workshop.distil()
    return workshop.export(out, source, judge)
