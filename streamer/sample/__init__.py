"""The clicks that ship with the package, for the demo: half a thousand simulated sessions of one morning.

`path()` needs neither the simulator nor any model. README.md says how the file was made.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def path() -> Path:
    """The sample: gzipped JSON lines, in order of event time, as `streamer produce` takes them."""
    return Path(str(files("streamer.sample") / "clicks.jsonl.gz"))
