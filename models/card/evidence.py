"""Files that a card's claims rest on, read once, with the hash of what was read."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self


class EvidenceError(Exception):
    """A file that can't be used as evidence: which, and what was expected."""


@dataclass(frozen=True)
class Evidence:
    name: str
    path: str
    """As the card shows it."""
    sha256: str
    document: Mapping[str, Any]
    prefix: str = ""
    """Where the document stands in the file: keys, each with a slash after it."""

    @classmethod
    def read(cls, name: str, path: Path, roots: Sequence[Path] = ()) -> Self:
        """JSON, or TOML by its suffix. Under one of the `roots` it is shown from there. Raises
        EvidenceError."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EvidenceError(f"{path}: can't be read as {name} ({error.strerror})") from None
        parse = tomllib.loads if path.suffix == ".toml" else json.loads
        try:
            document = parse(content.decode())
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            kind = "TOML" if path.suffix == ".toml" else "one JSON object"
            raise EvidenceError(f"{path}: expected {kind} as {name}")
        return cls(name, _shown(path, roots), hashlib.sha256(content).hexdigest(), document)

    def within(self, name: str, pointer: str) -> Self | None:
        """A part of the file as evidence of its own; None if it isn't there."""
        document = self.at(pointer)
        if not isinstance(document, Mapping):
            return None
        return replace(self, name=name, document=document, prefix=f"{self.prefix}{pointer}/")

    def at(self, pointer: str) -> Any:
        """What stands at `a/b/c`; None where nothing does."""
        found: Any = self.document
        for key in pointer.split("/"):
            if not isinstance(found, Mapping) or key not in found:
                return None
            found = found[key]
        return found


def _shown(path: Path, roots: Sequence[Path]) -> str:
    whole = path.resolve()
    for root in roots:
        if whole.is_relative_to(root):
            return whole.relative_to(root).as_posix()
    return path.as_posix()
