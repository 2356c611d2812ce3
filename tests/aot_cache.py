"""Java's AOT cache for the brokers of the tests: with it, one starts in half the CPU time.

`python -m tests.aot_cache` records a broker's start and stop; Make does so, and tests run without it too.
Java leaves a cache aside that was made by another Java, of other jars or with other flags.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from streamer.kafka.embedded import EmbeddedKafka

CACHE = Path(sys.prefix) / "kafka.aot"
JAVA_OPTIONS = "JDK_JAVA_OPTIONS"
"""Read by every `java` that is started, also by one of another version, which may not know the option."""


def options(option: str) -> str:
    return f"-XX:+IgnoreUnrecognizedVMOptions '-XX:{option}={CACHE}'"


def record() -> None:
    """Replaces the cache. Takes about 20 s of CPU time."""
    CACHE.unlink(missing_ok=True)
    recording = ("env", f"{JAVA_OPTIONS}={options('AOTCacheOutput')}")
    with tempfile.TemporaryDirectory() as folder:
        broker = EmbeddedKafka(Path(folder), launcher=recording, say=print).start(timeout_s=120)
        broker.stop(timeout_s=240)  # Java writes the cache at its end
    if not CACHE.exists():
        sys.exit(f"Java has written no {CACHE}")


if __name__ == "__main__":
    record()
