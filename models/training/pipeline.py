"""The training pipeline: its steps in order, each with its result in a folder, so that any step can be rerun.

Each step draws from generators made of the one seed and its own name: run one by one or all in a row, the
same seed gives the same bundle, byte for byte, on the same machine.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import normalized_mutual_info_score

from streamer.models.arrays import Float32
from streamer.models.bundle import PROTOTYPES, Manifest, embedding_space_of
from streamer.models.extra_fields import FieldError
from streamer.models.labelling.audit import review, write_report
from streamer.models.labelling.clusters import ClusterNamer, WordNamer
from streamer.models.labelling.teacher import Estimate, Teacher, TeacherInput
from streamer.models.runtime import Outputs
from streamer.models.taxonomy import Taxonomy
from streamer.models.training import export as exporting
from streamer.models.training.cluster_teacher import ClusterTeacher
from streamer.models.training.collapse_guards import collapse_guards
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus, by_split, embed, is_learnt_from
from streamer.models.training.distill import LabelledEmbeddings, distill, hardened, learning_curve
from streamer.models.training.errors import TrainingError
from streamer.models.training.export import TrainedParts
from streamer.models.training.novelty import surprising
from streamer.models.training.pretrain import (
    USUAL,
    Execution,
    check_parts,
    deterministic,
    new_encoder,
    new_tokenizer,
    pretrain,
)
from streamer.models.training.prototypes import learn_prototypes, served_embeddings
from streamer.models.training.session_source import HeldSessions, SessionList, SessionSource
from streamer.models.training.token_shards import LEARNT_FROM, TokenShards
from streamer.models.training.work_folder import WorkFolder
from streamer.models.visitor_splits import SplitName, split_of
from streamer.schemas.click import Session

CHECKED_SESSIONS = 100_000
"""Of token shards: the encoder is checked on so many of a split."""
LARGE_SAMPLE = 100_000
Progress = Callable[[str, int, int, str], None]
"""(step, done, total, note)"""
Judge = Callable[[Sequence[Session], Sequence[str], Sequence[str]], dict[str, Any]]
"""From test sessions, their most probable intents and those' parents to metrics; called after all fitting."""


def no_progress(_step: str, _done: int, _total: int, _note: str) -> None:
    pass


@dataclass
class TrainingPipeline:
    """Where the sessions come from, and the folder where steps leave their results.

    Of more sessions than memory holds, tokenizer and encoder learn from all, by token shards; labels, head,
    calibration and checks are made of those that it holds.
    """

    source: SessionSource
    config: TrainConfig
    folder: WorkFolder
    progress: Progress = no_progress

    @classmethod
    def of(
        cls, sessions: Iterable[Session], config: TrainConfig, folder: Path, progress: Progress = no_progress
    ) -> TrainingPipeline:
        """Raises TrainingError if a split has nothing to learn from."""
        pipeline = cls(SessionList(list(sessions)), config, WorkFolder(folder), progress)
        pipeline.sessions  # noqa: B018  raises
        return pipeline

    @cached_property
    def sessions(self) -> dict[SplitName, list[Session]]:
        """Those that memory holds, by split. Raises TrainingError if a split has nothing to learn from."""
        splits = by_split(self._held.sessions)
        for split in LEARNT_FROM:
            if len(splits[split]) < 2:
                found = ", ".join(f"{name} {len(some)}" for name, some in splits.items())
                raise TrainingError(
                    f"the {split} split has too few sessions of people ({found}); expected at least 2,"
                    " and some hundred visitors to learn anything from"
                )
        return splits

    @cached_property
    def _held(self) -> HeldSessions:
        return self.source.held()

    def run(
        self,
        out: Path,
        source: dict[str, Any],
        judge: Judge | None = None,
        previous: Taxonomy | None = None,
        teacher: Teacher | None = None,
        how: Execution = USUAL,
    ) -> Manifest:
        """All steps in order."""
        self.fit()
        self.pretrain(how)
        self.teach(teacher, previous)
        self.distill()
        return self.export(out, source, judge)

    def fit(self) -> None:
        """Learns the tokenizer from the training split, and writes token shards if memory can't hold all."""
        self.progress("fit", 0, 1, "")
        train: Iterable[Session] = self.sessions["train"]
        if not self._held.are_all:
            every = self.source.every()
            train = (each for each in every if is_learnt_from(each) and split_of(each.visitor_id) == "train")
        try:
            tokenizer = new_tokenizer(train, self.config)
        except FieldError as error:
            raise TrainingError(str(error)) from None
        self.folder.put_tokenizer(tokenizer)
        self.folder.put_shards(None if self._held.are_all else self.source.every())
        self.progress("fit", 1, 1, f"{sum(tokenizer.event_sizes)} ids")

    def pretrain(self, how: Execution = USUAL) -> None:
        """Pretrains the encoder; the first of several processes checks that it hasn't collapsed."""
        check_parts(self.config, how)
        tokenizer = self.folder.tokenizer()
        shards = self.folder.shards()
        train, *checked = self._corpora() if shards is None else _mapped(shards)
        how = replace(how, checkpoint=self.folder.checkpoint)
        with deterministic(self.config.threads) if how.device.type == "cpu" else nullcontext():
            result = pretrain(
                train, tokenizer, self.config, self._generator("pretrain"),
                lambda done, total, note: self.progress("pretrain", done, total, note), how,
            )  # fmt: skip
        if not how.processes.is_first:
            return
        with deterministic(self.config.threads):
            untrained = new_encoder(tokenizer, self.config, self._generator("untrained"))
            guards = collapse_guards(result.encoder, untrained, *checked)
        self.folder.put_encoder(result.encoder)
        self.folder.note("pretraining", {"losses": result.losses, "guards": guards.as_dict()})

    def cluster_teacher(self, namer: ClusterNamer | None = None) -> ClusterTeacher:
        """Its clusters named by words, or as given."""
        return ClusterTeacher(self._cluster_config(), self._seed("taxonomy"), namer or WordNamer())

    def estimate(self, teacher: Teacher) -> Estimate:
        """What `teach` would cost and send; asks nothing."""
        return teacher.estimate(*self._taught())

    def teach(self, teacher: Teacher | None = None, previous: Taxonomy | None = None) -> None:
        """Has the teacher make the taxonomy and label sessions with it; keyless by default.

        Raises TrainingError, after everything is stored, if what it made is too poor to go on by itself.
        """
        self.progress("taxonomy", 0, 1, "")
        teacher = teacher or self.cluster_teacher()
        train, validation = self._taught()
        output = teacher.teach(train, validation, previous)
        self.folder.put_labels(output)
        if isinstance(teacher, ClusterTeacher):
            write_report(review(output, self.sessions["train"]), self.folder.path)
        poor = {"below_bounds": "; ".join(output.failures)} if output.failures else {}
        self.folder.note("taxonomy", {"teacher": teacher.name, **output.notes, **poor})
        self.progress("taxonomy", 1, 1, f"{len(output.taxonomy.intents)} intents")
        if output.failures:
            raise TrainingError(
                f"the taxonomy is kept, but too poor to go on: {'; '.join(output.failures)}. Read"
                f" {self.folder.path / 'audit.md'}; edit taxonomy.json and go on with `streamer model"
                " distill`, or change the teacher's settings and run the step 'taxonomy' again"
            )

    def _taught(self) -> tuple[TeacherInput, TeacherInput]:
        train, validation = (
            TeacherInput(self.sessions[split], self._embeddings(split)) for split in LEARNT_FROM
        )
        return train, validation

    def distill(self, hard: bool = False) -> None:
        """Distills the labels into the head and calibrates it; `hard` uses only the best intent of each
        label."""
        self.progress("distill", 0, 1, "")
        taxonomy, soft, validation_labels = self.folder.labels()
        train = LabelledEmbeddings(self._embeddings("train"), hardened(soft) if hard else soft)
        validation = LabelledEmbeddings(self._embeddings("validation"), validation_labels)
        rng = np.random.default_rng(self._seed("surprising"))
        unusual = surprising(self.sessions["train"], soft, self.embed, rng)
        # The name is part of the seed: spelt otherwise, the same seed would give another bundle.
        generator = self._generator("distil")
        with deterministic(self.config.threads):
            distilled = distill(train, validation, self.config, generator, unusual)
            curve = learning_curve(train, validation, self.config, self._generator)
        self.folder.put_distilled(distilled, taxonomy)
        facts = {"labels": "hard" if hard else "soft", "labelled": len(train.labels.rows)}
        self.folder.note("distillation", {**facts, **distilled.metrics, "learning_curve": curve})
        self.progress("distill", 1, 1, f"ECE {distilled.metrics['ece']:.3f}")

    def export(
        self, out: Path, source: dict[str, Any], judge: Judge | None = None, int8: bool = False
    ) -> Manifest:
        """Exports, checks and writes the bundle; `source` describes the sessions in the manifest."""
        self.progress("export", 0, 1, "")
        parts = self.folder.parts(self.config)
        split: SplitName = "test" if self.sessions["test"] else "validation"
        held_out = self.sessions[split]
        exported = exporting.build(parts)
        if int8:
            exported = exporting.build_int8(parts, exported, held_out)
        metrics = {**self.folder.notes(), "export": exported.checks}
        train, validation = (
            served_embeddings(parts.tokenizer, exported.runtime, self.sessions[each]) for each in LEARNT_FROM
        )
        space = embedding_space_of(exported.files["encoder.onnx"])
        learnt = learn_prototypes(space, train, validation, self._seed("prototypes"))
        if learnt is not None:
            exported = replace(exported, files={**exported.files, PROTOTYPES: learnt.content})
            metrics["prototypes"] = learnt.notes
        if self.sessions["test"]:
            outputs = exported.runtime.run_all(parts.tokenizer.encode(self.sessions["test"]))
            metrics["test"] = self._test_metrics(parts, outputs, judge)
        data = {**source, "sessions": {name: len(some) for name, some in self.sessions.items()}}
        if (shards := self.folder.shards()) is not None:
            data["pretrained_on"] = shards.count("train")
        profile = exporting.reference_profile(exported.runtime, parts, held_out, split)
        manifest = exporting.write(exported, parts, self.config, data, metrics, out, profile)
        self.progress("export", 1, 1, f"{sum(map(len, exported.files.values())) / 1e6:.1f} MB")
        return manifest

    def embed(self, sessions: Sequence[Session]) -> Float32:
        """[N, D], by the pretrained encoder."""
        with deterministic(self.config.threads):
            return embed(self.folder.encoder(self.config), Corpus.of(sessions, self.folder.tokenizer()))

    def _test_metrics(self, parts: TrainedParts, outputs: Outputs, judge: Judge | None) -> dict[str, Any]:
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

    def _corpora(self) -> tuple[Corpus, Corpus, Corpus]:
        """What pretraining learns from, then what its checks learn from and are made on."""
        tokenizer = self.folder.tokenizer()
        train, validation = (Corpus.of(self.sessions[split], tokenizer) for split in LEARNT_FROM)
        return train, train, validation

    def _cluster_config(self) -> TrainConfig:
        """A larger sample to find clusters in where there are more sessions than memory holds."""
        if self._held.are_all:
            return self.config
        return replace(self.config, taxonomy_sample=LARGE_SAMPLE)

    def _embeddings(self, split: SplitName) -> Float32:
        return self.embed(self.sessions[split])

    def _seed(self, step: str) -> int:
        return zlib.crc32(f"{self.config.seed}/{step}".encode())

    def _generator(self, step: str) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed(step))


def _mapped(shards: TokenShards) -> tuple[Corpus, Corpus, Corpus]:
    """As `_corpora`."""
    train, validation = (shards.corpus(split, CHECKED_SESSIONS) for split in LEARNT_FROM)
    return shards.corpus("train"), train, validation


def truth_agreement(labels: Sequence[str], truth: Sequence[str], seed: int = 0) -> dict[str, float]:
    """Normalized mutual information of labels and truth, and of labels and shuffled truth (chance level).

    Both sequences have the same length. Training never sees the truth.
    """
    shuffled = np.random.default_rng(seed).permutation(np.asarray(truth))
    return {
        "nmi": round(float(normalized_mutual_info_score(truth, labels)), 4),
        "nmi_chance": round(float(normalized_mutual_info_score(shuffled, labels)), 4),
        "sessions": len(labels),
    }
