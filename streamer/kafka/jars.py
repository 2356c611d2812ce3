"""The jars of Apache Kafka, downloaded once into the user's cache.

`jars.lock` names every jar of the class path with its sha256, so a start resolves nothing and runs
only what was pinned. A jar that is missing or damaged (a download that broke off) is fetched anew.
Several processes may ask at once: one downloads, the others wait for it.
`python -m streamer.kafka.jars COORDINATE...` prints a new lock file for other versions.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.errors import StreamerError
from streamer.kafka.locks import exclusive

if TYPE_CHECKING:
    from jgo.maven import Dependency, MavenContext

_ATTEMPTS = 3
_PARALLEL_DOWNLOADS = 8
_HTTP_TIMEOUT_S = 60

Download = Callable[[str], None]
"""Fetches one coordinate; an error of any kind means: try again."""


class JarError(StreamerError):
    """A jar could not be fetched, or is not the one that was pinned."""


@dataclass(frozen=True)
class Jar:
    coordinate: str
    """group:artifact:version"""
    sha256: str

    def path(self, repository: Path) -> Path:
        """Where a Maven repository keeps it."""
        group, artifact, version = self.coordinate.split(":")
        return repository.joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")

    def is_whole(self, repository: Path) -> bool:
        path = self.path(repository)
        return path.is_file() and _sha256(path) == self.sha256


def locked_jars() -> list[Jar]:
    return parse_lock(resources.files("streamer.kafka").joinpath("jars.lock").read_text(encoding="ascii"))


def parse_lock(text: str) -> list[Jar]:
    return [Jar(*line.split()) for line in text.splitlines()]


def class_path(
    repository: Path,
    jars: list[Jar] | None = None,
    say: Callable[[str], None] = lambda _: None,
    downloader: Callable[[Path], Download] | None = None,
) -> str:
    """The class path of the jars, each of them there and whole. Downloads what is not.

    `say` gets one line when there is something to download. `downloader` makes the function that fetches
    one coordinate into a repository; none: jgo's. Raises `JarError`.
    """
    jars = locked_jars() if jars is None else jars
    repository.mkdir(parents=True, exist_ok=True)
    with exclusive(repository / ".lock"):
        missing = [jar for jar in jars if not jar.is_whole(repository)]
        if missing:
            say(f"Downloading Apache Kafka, {len(missing)} jars, into {repository} (only this once)")
            _download(missing, repository, (downloader or _jgo_download)(repository))
    return ":".join(str(jar.path(repository)) for jar in jars)


def _download(jars: list[Jar], repository: Path, download: Download) -> None:
    with ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool:
        for _ in pool.map(lambda jar: _fetch(jar, repository, download), jars):
            pass


def _fetch(jar: Jar, repository: Path, download: Download) -> None:
    reason = ""
    for _ in range(_ATTEMPTS):
        jar.path(repository).unlink(missing_ok=True)
        try:
            download(jar.coordinate)
        except Exception as error:  # requests', urllib3's and jgo's own, all meaning the same here
            reason = type(error).__name__
            continue
        if jar.is_whole(repository):
            return
        reason = "its sha256 is not the pinned one"
    jar.path(repository).unlink(missing_ok=True)
    raise JarError(
        f"could not download {jar.coordinate} in {_ATTEMPTS} attempts ({reason}): "
        "check the network and run the command again"
    )


def _jgo_download(repository: Path) -> Download:
    context = maven(repository)

    def download(coordinate: str) -> None:
        context.create_dependency(coordinate).artifact.resolve()

    return download


def maven(repository: Path) -> MavenContext:
    """jgo's client; it follows the mirrors of jgo's own configuration file, if there is one."""
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    mirrors = GlobalSettings.load().repositories
    return MavenContext(repo_cache=repository, remote_repos=mirrors or None, timeout=_HTTP_TIMEOUT_S)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _print_lock(coordinates: list[str], repository: Path) -> None:
    context = maven(repository)
    wanted = [context.create_dependency(coordinate) for coordinate in coordinates]
    named, others = context.resolver.resolve(wanted)
    for dependency in [*named, *(other for other in others if other.scope in ("compile", "runtime"))]:
        print(_lock_line(dependency))


def _lock_line(dependency: Dependency) -> str:
    coordinate = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
    return f"{coordinate} {_sha256(dependency.artifact.resolve())}"


if __name__ == "__main__":
    from streamer.kafka.places import jar_cache

    _print_lock(sys.argv[1:], jar_cache())
