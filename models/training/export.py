"""From trained parts to a bundle on disk: graphs, checks, then the manifest with the hash of every file.

Nothing of the machine, the time or a path gets into a bundle: the same parts give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamer.models import calibration as calibrations
from streamer.models import selftest
from streamer.models import taxonomy as taxonomies
from streamer.models.bundle import FLOAT32, FORMAT, INT8, MANIFEST, Manifest
from streamer.models.calibration import Calibration
from streamer.models.drift_profile import DECILES, Profile, ProfileLayout
from streamer.models.encoded import LENGTH_BUCKETS
from streamer.models.runtime import Runtime
from streamer.models.taxonomy import Taxonomy
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.config import TrainConfig
from streamer.models.training.distill import ClassifierHead
from streamer.models.training.encoder import Encoder
from streamer.models.training.onnx_graphs import OPSET, encoder_graph, head_graph
from streamer.models.training.parity import check_neighbours, int8_cost, parity_error
from streamer.models.whole_file import write_whole
from streamer.schemas.click import Session

BATCH_OF_LENGTH = dict(zip(LENGTH_BUCKETS, (8, 8, 4, 4), strict=True))
"""Measured on one core: larger batches gain less than a tenth; smaller ones are cheaper for a single
session."""
_PACKAGES = ("clicks-to-intent", "numpy", "onnx", "onnxruntime", "scikit-learn", "scipy", "torch")


@dataclass(frozen=True)
class TrainedParts:
    """Everything that training made."""

    tokenizer: Tokenizer
    encoder: Encoder
    head: ClassifierHead
    taxonomy: Taxonomy
    calibration: Calibration


@dataclass(frozen=True)
class Exported:
    """The files of a bundle except its manifest, and the runtime built from them."""

    files: dict[str, bytes]
    runtime: Runtime
    checks: dict[str, float | int]
    precision: str = FLOAT32


def build(parts: TrainedParts) -> Exported:
    """Raises ExportError if the graphs don't do what the trained model does."""
    graphs = encoder_graph(parts.encoder), head_graph(parts.head)
    runtime = Runtime(*graphs, BATCH_OF_LENGTH)
    checks = {
        "parity_max_error": float(f"{parity_error(parts.encoder, parts.head, graphs, runtime):.2g}"),
        "bit_equal_neighbour_sets": check_neighbours(parts.encoder.shape, runtime),
    }
    files = {
        "tokenizer.json": parts.tokenizer.to_json().encode(),
        "encoder.onnx": graphs[0],
        "classifier.onnx": graphs[1],
        "taxonomy.json": taxonomies.to_json(parts.taxonomy).encode(),
        "calibration.json": calibrations.to_json(parts.calibration).encode(),
        "selftest.json": selftest.make(parts.tokenizer, runtime),
    }
    return Exported(files, runtime, checks)


def build_int8(parts: TrainedParts, exact: Exported, sessions: Sequence[Session]) -> Exported:
    """The same bundle with linear layers in 8 bits; `checks` say what that costs on these sessions."""
    files = {**exact.files, "encoder.onnx": encoder_graph(parts.encoder, int8=True)}
    runtime = Runtime(files["encoder.onnx"], files["classifier.onnx"], BATCH_OF_LENGTH)
    files["selftest.json"] = selftest.make(parts.tokenizer, runtime)
    cost = int8_cost(parts.tokenizer, parts.encoder.shape, exact.runtime, runtime, sessions)
    sizes = {"encoder_bytes": len(files["encoder.onnx"]), "float32_bytes": len(exact.files["encoder.onnx"])}
    return Exported(files, runtime, {**cost, **sizes}, INT8)


def write(
    exported: Exported,
    parts: TrainedParts,
    config: TrainConfig,
    data: dict[str, Any],
    metrics: dict[str, Any],
    out: Path,
    profile: Profile,
) -> Manifest:
    """Writes the bundle into the folder `out`; the manifest comes last, so that half a bundle never loads."""
    manifest = Manifest(
        format=FORMAT,
        name=config.name,
        versions={package: version(package) for package in _PACKAGES},
        data=data,
        config=asdict(config),
        teacher=parts.taxonomy.teacher,
        opset=OPSET,
        batch_of_length={str(length): batch for length, batch in BATCH_OF_LENGTH.items()},
        embedding_dim=exported.runtime.dim,
        ids=parts.tokenizer.sizes,
        files={},
        metrics=metrics,
        precision=exported.precision,
        profile=profile,
    )
    return write_folder(exported.files, manifest, out)


def write_folder(files: Mapping[str, bytes], manifest: Manifest, out: Path) -> Manifest:
    """As `write`; gives the manifest with the hashes of the files."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = msgspec.structs.replace(manifest, files=hashes)
    (out / MANIFEST).unlink(missing_ok=True)
    for name, content in files.items():
        write_whole(out / name, content)
    document = json.dumps(msgspec.to_builtins(manifest), ensure_ascii=False, indent=2, sort_keys=True)
    write_whole(out / MANIFEST, (document + "\n").encode())
    return manifest


def reference_profile(
    runtime: Runtime, parts: TrainedParts, sessions: Sequence[Session], split: str
) -> Profile:
    """The distribution that drift is measured from: of sessions held back from training, all of `split`.

    At least one session.
    """
    encoded = parts.tokenizer.encode(sessions)
    outputs = [runtime.run(each) for each in encoded]
    novelty = np.concatenate([each.novelty for each in outputs]).astype(np.float64)
    edges = np.quantile(novelty, np.arange(1, DECILES + 1) / (DECILES + 1)).round(4)
    layout = ProfileLayout(parts.taxonomy, edges.tolist(), parts.tokenizer.first_learnt)
    total = np.zeros(layout.width)
    for tokens, found in zip(encoded, outputs, strict=True):
        probabilities = parts.calibration.probabilities(found.logits)
        of_rows = [sessions[i] for i in tokens.rows.tolist()]
        reasons = parts.calibration.reasons_to_abstain(of_rows, found.novelty, probabilities.max(1))
        total += layout.counts(tokens, probabilities.argmax(1), found.novelty, reasons).sum(0)
    return layout.profile(total, len(sessions), split)
