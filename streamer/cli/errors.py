"""The one place that turns exceptions into messages and exit codes.

Known errors are shown as they are, in their one or two lines, and those of files as path and reason. Of any
other only its type and place are shown, for its text may hold what a customer typed. Tracebacks only with
--debug.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from streamer.errors import StreamerError
from streamer.extras import missing_package


def report(error: Exception, debug: bool) -> int:
    """Prints what went wrong to standard error; returns the exit code."""
    if debug:
        traceback.print_exception(error)
    print(f"Error: {_message(error)}", file=sys.stderr)
    return _exit_code(error)


def _message(error: Exception) -> str:
    if isinstance(error, StreamerError) or _is_bundle_error(error):
        return str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return missing_package(error.name)
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = "/".join(Path(place.filename).parts[-2:])
    return f"unexpected {type(error).__name__} in {where}, line {place.lineno}: a bug; --debug shows more"


def _exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, StreamerError) else 1


def _is_bundle_error(error: Exception) -> bool:
    """Known without importing the models, which most commands don't need."""
    bundle = sys.modules.get("streamer.models.bundle")
    return bundle is not None and isinstance(error, bundle.BundleError)
