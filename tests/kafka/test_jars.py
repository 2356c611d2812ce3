"""The class path is whole or an error; a download that broke off is repaired."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streamer.kafka.jars import Download, Jar, JarError, class_path
from tests.chaos.versions import VERSIONS, jars_of

CONTENT = b"a jar"
JAR = Jar("org.example:thing_2.13:1.0", hashlib.sha256(CONTENT).hexdigest())
OTHER = Jar("org.example:other:2.0", hashlib.sha256(CONTENT).hexdigest())


class FakeRepository:
    """Serves the given contents one after the other, the last one for ever."""

    def __init__(self, *contents: bytes | Exception) -> None:
        self._contents = list(contents)
        self.asked: list[str] = []

    def __call__(self, repository: Path) -> Download:
        def download(coordinate: str) -> None:
            self.asked.append(coordinate)
            content = self._contents[0] if len(self._contents) == 1 else self._contents.pop(0)
            path = Jar(coordinate, "").path(repository)
            assert not path.exists()
            if isinstance(content, Exception):
                raise content
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

        return download


def nobody_asks(_: Path) -> Callable[[str], None]:
    raise AssertionError("nothing is to be downloaded")


def test_class_path_lists_every_jar_in_its_place(tmp_path: Path) -> None:
    path = class_path(tmp_path, [JAR, OTHER], downloader=FakeRepository(CONTENT))
    first = tmp_path / "org/example/thing_2.13/1.0/thing_2.13-1.0.jar"
    assert path == f"{first}:{tmp_path / 'org/example/other/2.0/other-2.0.jar'}"
    assert first.read_bytes() == CONTENT


def test_whole_jars_are_not_downloaded_again(tmp_path: Path) -> None:
    class_path(tmp_path, [JAR], downloader=FakeRepository(CONTENT))
    said: list[str] = []
    class_path(tmp_path, [JAR], say=said.append, downloader=nobody_asks)
    assert said == []


@pytest.mark.parametrize("damaged", [b"", CONTENT[:3], b"other"])
def test_jar_of_a_download_that_broke_off_is_fetched_anew(tmp_path: Path, damaged: bytes) -> None:
    class_path(tmp_path, [JAR, OTHER], downloader=FakeRepository(CONTENT))
    JAR.path(tmp_path).write_bytes(damaged)
    again = FakeRepository(CONTENT)
    class_path(tmp_path, [JAR, OTHER], downloader=again)
    assert again.asked == [JAR.coordinate]
    assert JAR.is_whole(tmp_path)


def test_failing_download_is_tried_again(tmp_path: Path) -> None:
    flaky = FakeRepository(ConnectionError("reset"), CONTENT[:2], CONTENT)
    class_path(tmp_path, [JAR], downloader=flaky)
    assert len(flaky.asked) == 3


@pytest.mark.parametrize(
    ("served", "reason"), [(b"malware", "sha256 is not the pinned one"), (TimeoutError(), "TimeoutError")]
)
def test_jar_that_never_comes_whole_is_an_error_and_is_not_kept(
    tmp_path: Path, served: bytes | Exception, reason: str
) -> None:
    with pytest.raises(JarError, match=f"thing_2.13:1.0 in 3 attempts .*{reason}"):
        class_path(tmp_path, [JAR], downloader=FakeRepository(served))
    assert not JAR.path(tmp_path).exists()


def test_two_who_ask_at_once_download_once(tmp_path: Path) -> None:
    server = FakeRepository(CONTENT)
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: class_path(tmp_path, [JAR], downloader=server), range(4)))
    assert len(paths) == 1
    assert server.asked == [JAR.coordinate]


@pytest.mark.parametrize("version", VERSIONS)
def test_locked_jars_are_pinned_by_sha256(version: str) -> None:
    jars = jars_of(version)
    assert f"org.apache.kafka:kafka_2.13:{version}" in {jar.coordinate for jar in jars}
    assert len({jar.coordinate for jar in jars}) == len(jars)
    assert all(len(jar.sha256) == 64 and jar.coordinate.count(":") == 2 for jar in jars)
