"""A bundle: a folder with all that scoring needs, verified before anything in it is used.

Nothing is trusted because it is there: only known file names, regular files, bounded sizes, the hashes of
the manifest, graphs of standard operators with finite weights inside the file, parts that fit together,
and a self-test whose stored sessions must give the stored results. No pickle anywhere.
"""

from __future__ import annotations

import hashlib
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from streamer.models import calibration as calibrations
from streamer.models import prototypes as prototype_files
from streamer.models import selftest
from streamer.models import taxonomy as taxonomies
from streamer.models.calibration import Calibration
from streamer.models.drift_profile import Profile, check_profile
from streamer.models.encoded import LENGTH_BUCKETS
from streamer.models.graph_check import GraphRefused, check_graph
from streamer.models.memory import memory_bounded
from streamer.models.prototypes import Prototypes
from streamer.models.runtime import Runtime
from streamer.models.taxonomy import Taxonomy
from streamer.models.tokenizer import Tokenizer

FORMAT: Final = 1
PROTOTYPES: Final = "prototypes.json"
MANIFEST: Final = "manifest.json"
FLOAT32: Final = "float32"
INT8: Final = "int8"
MAX_BYTES: Final = {
    "tokenizer.json": 64 << 20,
    "encoder.onnx": 512 << 20,
    "classifier.onnx": 64 << 20,
    "taxonomy.json": 8 << 20,
    "calibration.json": 64 << 10,
    "selftest.json": 8 << 20,
    PROTOTYPES: 64 << 20,
}
"""The files of a bundle besides its manifest, and how large each may be."""
OPTIONAL: Final = frozenset({PROTOTYPES})
"""Older bundles don't have these."""
_MAX_MANIFEST_BYTES = 4 << 20
_MAX_BATCH = 1024
_MORE_BYTES = 2 << 30
"""Memory that a bundle may need besides copies of its files; the shipped one takes a tenth."""
_COPIES = 8
"""The files, what onnxruntime makes of them, and a margin."""
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class BundleError(Exception):
    """Why a bundle isn't used: which folder, which part, what was expected."""


class Manifest(msgspec.Struct, frozen=True):
    format: int
    name: str
    versions: dict[str, str]
    """Of the packages that made it."""
    data: dict[str, Any]
    """What it was made from."""
    config: dict[str, Any]
    """The training configuration, seed included."""
    teacher: str
    """Who labelled the sessions it was distilled from."""
    opset: int
    batch_of_length: dict[str, int]
    """Pinned batch size per length bucket."""
    embedding_dim: int
    ids: dict[str, int]
    """How many ids of each field the encoder has rows for."""
    files: dict[str, str]
    """sha256 of every other file."""
    metrics: dict[str, Any]
    precision: str = FLOAT32
    """`int8`: a session's result depends on who else is scored with it, so live = replay is not promised."""
    profile: Profile | None = None
    """The reference of drift; older bundles have none."""


@dataclass(frozen=True)
class Bundle:
    path: Path
    manifest: Manifest
    model_version: str
    """`<name>@<12 hex digits of the manifest's sha256>`"""
    embedding_space: str
    """12 hex digits of the encoder's sha256: vectors of two spaces can't be compared."""
    tokenizer: Tokenizer
    taxonomy: Taxonomy
    calibration: Calibration
    runtime: Runtime
    prototypes: Prototypes | None = None
    """None in bundles without: their records have no memberships."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def embedding_dim(self) -> int:
        return self.manifest.embedding_dim


def default_bundle() -> Path:
    """The bundle that is shipped."""
    return Path(__file__).parent / "default"


def load_bundle(path: Path) -> Bundle:
    """Raises BundleError with a clear reason; takes about a second."""
    try:
        return _load(path)
    except (ValueError, GraphRefused, OSError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, MemoryError):
            reason = f"it needs more than {_MORE_BYTES >> 30} GiB of memory beyond its files"
        raise BundleError(
            f"the model bundle {path} can't be used: {reason}; make one with `streamer model train`"
            " or name another with the setting model.bundle"
        ) from error


def embedding_space_of(encoder: bytes) -> str:
    return hashlib.sha256(encoder).hexdigest()[:12]


def read_manifest(path: Path) -> tuple[Manifest, bytes]:
    """The manifest and its bytes; the files it names aren't looked at. Raises ValueError."""
    if not path.is_dir():
        raise ValueError("there is no such folder")
    raw = _read(path / MANIFEST, _MAX_MANIFEST_BYTES)
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} can't be read: {error}") from None
    _check_manifest(manifest)
    return manifest, raw


def _check_manifest(manifest: Manifest) -> None:
    if manifest.format != FORMAT:
        raise ValueError(f"{MANIFEST} has format {manifest.format}, expected {FORMAT}")
    if not NAME.fullmatch(manifest.name):
        raise ValueError(f"{MANIFEST}: name must be 1 to 64 of a-z, 0-9, dot, dash and underscore")
    if manifest.precision not in (FLOAT32, INT8):
        raise ValueError(f"{MANIFEST}: precision must be {FLOAT32} or {INT8}")
    if set(manifest.files) | OPTIONAL != set(MAX_BYTES):
        needed, optional = (", ".join(sorted(names)) for names in (MAX_BYTES.keys() - OPTIONAL, OPTIONAL))
        raise ValueError(f"{MANIFEST} must name exactly the files {needed}, and {optional} if there is one")
    if set(manifest.batch_of_length) != {str(length) for length in LENGTH_BUCKETS}:
        raise ValueError(f"{MANIFEST}: batch_of_length must be for {', '.join(map(str, LENGTH_BUCKETS))}")
    if not all(1 <= batch <= _MAX_BATCH for batch in manifest.batch_of_length.values()):
        raise ValueError(f"{MANIFEST}: batch_of_length must be between 1 and {_MAX_BATCH}")


def _load(path: Path) -> Bundle:
    manifest, raw = read_manifest(path)
    files = {name: _verified(path / name, sha256, MAX_BYTES[name]) for name, sha256 in manifest.files.items()}
    for name in ("encoder.onnx", "classifier.onnx"):
        try:
            check_graph(files[name], manifest.opset, int8=manifest.precision == INT8)
        except GraphRefused as error:
            raise ValueError(f"{name}: {error}") from None
    with memory_bounded(_MORE_BYTES + _COPIES * sum(map(len, files.values()))):
        return _tried(path, manifest, raw, files)


def _tried(path: Path, manifest: Manifest, raw: bytes, files: dict[str, bytes]) -> Bundle:
    """The bundle, after its parts were put together and its self-test was run."""
    batches = {int(length): batch for length, batch in manifest.batch_of_length.items()}
    runtime = Runtime(files["encoder.onnx"], files["classifier.onnx"], batches)
    bundle = Bundle(
        path=path,
        manifest=manifest,
        model_version=f"{manifest.name}@{hashlib.sha256(raw).hexdigest()[:12]}",
        embedding_space=embedding_space_of(files["encoder.onnx"]),
        tokenizer=Tokenizer.from_json(files["tokenizer.json"]),
        taxonomy=taxonomies.from_json(files["taxonomy.json"]),
        calibration=calibrations.from_json(files["calibration.json"]),
        runtime=runtime,
        prototypes=prototype_files.from_json(files[PROTOTYPES]) if PROTOTYPES in files else None,
    )
    _check_fit(bundle)
    selftest.check(files["selftest.json"], bundle.tokenizer, runtime)
    return bundle


def _check_fit(bundle: Bundle) -> None:
    dim, intents = bundle.runtime.dim, bundle.runtime.intents
    if bundle.embedding_dim != dim:
        raise ValueError(f"the encoder gives {dim} numbers, the manifest says {bundle.embedding_dim}")
    if len(bundle.tokenizer.event_columns) != bundle.runtime.columns:
        raise ValueError(
            f"the encoder reads {bundle.runtime.columns} ids of a click, the tokenizer gives"
            f" {len(bundle.tokenizer.event_columns)}"
        )
    if bundle.tokenizer.sizes != bundle.manifest.ids:
        raise ValueError("the tokenizer's fields have other numbers of ids than the encoder was made for")
    if len(bundle.taxonomy.intents) != intents:
        raise ValueError(f"the classifier has {intents} intents, the taxonomy {len(bundle.taxonomy.intents)}")
    if bundle.prototypes:
        _check_prototypes(bundle.prototypes, bundle)
    if bundle.manifest.profile:
        check_profile(bundle.manifest.profile, bundle.taxonomy)


def _check_prototypes(prototypes: Prototypes, bundle: Bundle) -> None:
    width = prototypes.directions.shape[1]
    if width != bundle.embedding_dim:
        raise ValueError(f"prototypes have {width} numbers, the encoder gives {bundle.embedding_dim}")
    if prototypes.embedding_space != bundle.embedding_space:
        raise ValueError(
            f"prototypes are of the embedding space {prototypes.embedding_space}, the encoder's is"
            f" {bundle.embedding_space}"
        )


def _verified(path: Path, sha256: str, most: int) -> bytes:
    data = _read(path, most)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(f"{path.name} has sha256 {found[:12]}..., the manifest says {sha256[:12]}...")
    return data


def _read(path: Path, most: int) -> bytes:
    try:
        status = path.lstat()
    except OSError:
        raise ValueError(f"{path.name} is missing") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path.name} is not a regular file")
    if status.st_size > most:
        raise ValueError(f"{path.name} has {status.st_size} bytes, expected at most {most}")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path.name} grew beyond {most} bytes")
    return data
