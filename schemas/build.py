"""Which build of the product runs: compiled to C or plain Python. Everything else works the same in both.

Compiled if every module of EXTENSIONS was built for this interpreter; pure Python if one of them is missing,
for modules that were compiled together only fit together, or if STREAMER_NO_EXTENSIONS is set, which
processes that are started from here inherit. A module of a package imports that package first, and each
package of the product this module: so the decision comes before any module that it is about.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Final

NO_EXTENSIONS: Final = "STREAMER_NO_EXTENSIONS"
"""Environment variable: set to anything but an empty text, everything runs as pure Python."""

EXTENSIONS: Final = (
    "streamer.core.session",
    "streamer.core.sessionizer",
    "streamer.core.store",
    "streamer.core.timers",
    "streamer.core.watermark",
    "streamer.identity.attribution",
    "streamer.identity.packed",
    "streamer.identity.ties",
    "streamer.identity.user_record",
    "streamer.identity.users",
    "streamer.models.scorer",
    "streamer.models.tokens",
    "streamer.native.batch_records",
    "streamer.native.brackets",
    "streamer.native.click_codec",
    "streamer.native.collector",
    "streamer.native.columns",
    "streamer.native.record_fields",
    "streamer.native.wire",
    "streamer.pipeline.counters",
    "streamer.pipeline.decode",
    "streamer.pipeline.mapping.leaves",
    "streamer.pipeline.mapping.path",
    "streamer.pipeline.mapping.plan",
    "streamer.pipeline.normalize",
    "streamer.pipeline.partition",
    "streamer.pipeline.records",
    "streamer.schemas.binary",
    "streamer.schemas.click",
    "streamer.schemas.flat",
    "streamer.sources.visitors",
    "streamer.worker.changelog_groups",
    "streamer.worker.stages.repartition",
)
"""Compiled from their `.py`, with C types in a `.pxd` beside it; or from a `.pyx`, instead of which the pure
build uses a library."""

PACKAGES: Final = ("schemas", "models", "streamer")

_ROOT: Final = Path(__file__).parents[2]


def not_built(root: Path = _ROOT) -> list[str]:
    """Extensions that have no compiled file for this interpreter under the folder that holds the packages."""
    return [name for name in EXTENSIONS if compiled_file(name, root) is None]


def compiled_file(name: str, root: Path = _ROOT) -> Path | None:
    """That of an extension which this interpreter would load."""
    files = (root / f"{name.replace('.', '/')}{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((file for file in files if file.exists()), None)


class SourceOnly(MetaPathFinder):
    """Finds extensions by their Python source alone; those that have none can't be imported."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if name not in EXTENSIONS:
            return None
        for folder in path or ():
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name)
            if spec is not None:
                return spec
        raise ModuleNotFoundError(f"{name} exists compiled only, and pure Python runs: {WHY_PURE}", name=name)


def _why_pure() -> str:
    if os.environ.get(NO_EXTENSIONS):
        return f"{NO_EXTENSIONS} is set"
    missing = not_built()
    return f"not compiled: {', '.join(missing)}" if missing else ""


WHY_PURE: Final = _why_pure()
"""Empty if the compiled build runs."""
IS_COMPILED: Final = not WHY_PURE

if not IS_COMPILED:
    sys.meta_path.insert(0, SourceOnly())
