"""Where things are kept on this machine: the user's cache and state directories.

`STREAMER_CACHE_DIR` and `STREAMER_STATE_DIR` override them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_cache_path, user_state_path

_NAME = "clicks-to-intent"


def jar_cache(environ: Mapping[str, str] = os.environ) -> Path:
    chosen = environ.get("STREAMER_CACHE_DIR")
    return (Path(chosen) if chosen else user_cache_path(_NAME)) / "jars"


def broker_data(environ: Mapping[str, str] = os.environ) -> Path:
    """Data directory of the broker that `streamer kafka start` runs."""
    chosen = environ.get("STREAMER_STATE_DIR")
    return (Path(chosen) if chosen else user_state_path(_NAME)) / "kafka"
