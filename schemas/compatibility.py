"""Whether a schema can replace those that topics have: `python -m streamer.schemas.compatibility`.

Topics outlive releases. So a schema must read what every landed version wrote, and readers that know only a
landed version must read what it writes (full transitive compatibility), by the rules of schema resolution
in the Avro specification, as Apache's own library applies them. `--land` adds the current schemas to
`landed/`, each as a new version where it changed; the decoder knows those from then on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import make_avsc_object

from streamer.schemas import codec
from streamer.schemas.codec import Record


def unreadable(reader: Record, writer: Record) -> list[str]:
    """Why data written with one schema can't be read with the other; empty if it can."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(make_avsc_object(reader), make_avsc_object(writer))
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    kinds = ", ".join(kind.value for kind in result.incompatibilities)
    return [f"{kinds}: {', '.join(sorted(result.messages))} at {', '.join(sorted(result.locations))}"]


def breaks(current: Record, landed: Sequence[Record]) -> list[str]:
    """What the current schema breaks of the landed versions, oldest first; empty if it may land."""
    found = []
    for version, old in enumerate(landed, start=1):
        found += [f"can't read what version {version} wrote: {why}" for why in unreadable(current, old)]
        found += [f"version {version} can't read what it writes: {why}" for why in unreadable(old, current)]
    return found


def land(name: str, folder: Path) -> Path | None:
    """Copy `folder/<name>.avsc` to `folder/landed/` as the next version; None if it is the last already."""
    text = (folder / f"{name}.avsc").read_text(encoding="utf-8")
    versions = len(list((folder / "landed").glob(f"{name}.v*.avsc")))
    last = folder / "landed" / f"{name}.v{versions}.avsc"
    if versions and last.read_text(encoding="utf-8") == text:
        return None
    landed = last.with_name(f"{name}.v{versions + 1}.avsc")
    landed.write_text(text, encoding="utf-8")
    return landed


def main(arguments: Sequence[str] | None = None, folder: Path = codec.FOLDER) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m streamer.schemas.compatibility", description="Check the schemas."
    )
    parser.add_argument("--land", action="store_true", help="add the current schemas to landed/")
    options = parser.parse_args(arguments)
    broken = False
    for name in codec.SCHEMA_NAMES:
        problems = breaks(codec.schema(name, folder), codec.landed(name, folder))
        broken = broken or bool(problems)
        for problem in problems:
            print(f"{name}: {problem}", file=sys.stderr)
        if not problems:
            file = land(name, folder) if options.land else None
            print(f"{name}: {f'landed as {file.name}' if file else 'compatible'}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
