"""The lake's manifest: which files count, how far each partition was copied, and whom to erase.

It is replaced in one piece, so files and positions go together: what was written without it isn't there.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from streamer.output_file import output_file
from streamer.sink.lake_files import Part
from streamer.sink.store import StoreError

NAME = "manifest.json"
VERSION = 1


class LakeFile(msgspec.Struct, frozen=True):
    """A file that counts."""

    path: str
    """Below the lake's folder."""
    table: str
    day: str
    dimensions: int
    rows: int
    bytes: int

    @property
    def part(self) -> Part:
        return Part(self.table, self.day, self.dimensions)


class LakePosition(msgspec.Struct, frozen=True):
    """How far a partition was copied: fields of Position."""

    offset: int
    pass_ms: int
    until: int | None
    at_end_ms: int
    counts: dict[str, int]


class Erasure(msgspec.Struct, frozen=True):
    """Of a tombstone, or of the erasures topic; kept until no row can come any more that it takes."""

    table: str
    key: str
    partition: int | None
    """None: it takes rows of all partitions."""
    offset: int
    recorded_at: int
    """ms UTC."""
    sessions: tuple[str, ...] = ()
    """Of a visitor, those whose rows were erased: customers' records may mention them."""

    def takes(self, partition: int, offset: int, recorded_at: int) -> bool:
        """Whether it takes a row of its key that was there in the topic."""
        if self.partition is None:
            return recorded_at <= self.recorded_at
        return partition == self.partition and offset < self.offset


class Manifest(msgspec.Struct, frozen=True):
    version: int = VERSION
    files: tuple[LakeFile, ...] = ()
    positions: dict[str, dict[str, LakePosition]] = {}
    """By topic and partition."""
    erasures: tuple[Erasure, ...] = ()
    erased_at: int = 0
    """When erasures were last carried out, ms UTC."""
    replaced: tuple[str, ...] = ()
    """Files that are there for readers that began before their rows were joined to others."""


def load(folder: Path) -> Manifest:
    """The lake's, empty if there is none. Raises StoreError."""
    path = folder / NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return Manifest()
    except (OSError, msgspec.DecodeError) as error:
        raise StoreError(
            f"{path}: can't be read ({type(error).__name__}); expected a sink's manifest"
        ) from None
    if manifest.version != VERSION:
        raise StoreError(f"{path}: version {manifest.version}, expected {VERSION}")
    return manifest


def save(folder: Path, manifest: Manifest) -> None:
    """Replace it. Raises OutputError."""
    with output_file(folder / NAME) as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
