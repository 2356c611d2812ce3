"""The optional extensions, and which of them a process runs without: the Python beside each does the same."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

EXTENSIONS = (
    "models.readings",
    "models.tokens",
    "schemas.flat_values",
    "streamer.core.ends",
    "streamer.core.kept_clicks",
    "streamer.native.batch_records",
    "streamer.native.wire",
    "streamer.pipeline.lane",
    "streamer.pipeline.record_bytes",
    "streamer.pipeline.usual_clicks",
)
"""As in setup.py."""


def not_compiled() -> dict[str, str]:
    """Those that Python stands in for: why one that was built can't be loaded, empty where none was built.

    It imports those that are there, as their users do: one may be built and refuse this processor.
    """
    missing = {}
    for name in EXTENSIONS:
        if find_spec(name) is None:
            missing[name] = ""
            continue
        try:
            import_module(name)
        except ImportError as error:
            missing[name] = str(error)
    return missing
