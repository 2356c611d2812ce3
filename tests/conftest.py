"""What all tests share: one real broker and three, names per test, the command line as a process."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from streamer.kafka.cluster import EmbeddedCluster
from streamer.kafka.embedded import EmbeddedKafka
from streamer.schemas import build
from streamer.settings import Settings, TopicSettings, load_settings
from tests import aot_cache, forks
from tests.schema_registry import NoRegistryError, SchemaRegistry

ROOT = Path(__file__).parents[1]
RunStreamer = Callable[..., subprocess.CompletedProcess[str]]
FreshSettings = Callable[..., Settings]


# Threads of OpenMP that spin while they wait for each other take the cores from all that would end the wait:
# where more tests run than there are cores, training takes many times as long. Torch reads it when loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if aot_cache.CACHE.exists():
    os.environ.setdefault(aot_cache.JAVA_OPTIONS, aot_cache.options("AOTCache"))
hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine breaks no rule
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Refuses to test what was compiled from other sources than those that are here."""
    stale = [name for name in build.EXTENSIONS if build.IS_COMPILED and is_stale(name)]
    if stale:
        raise pytest.UsageError(
            f"changed since compiled: {', '.join(stale)}; run 'python setup.py build_ext --inplace',"
            f" or set {build.NO_EXTENSIONS}=1 to test the Python"
        )


def is_stale(name: str) -> bool:
    """Whether an extension's sources are younger than what was compiled from them."""
    compiled = build.compiled_file(name)
    module = ROOT / name.replace(".", "/")
    source = module.with_suffix(".pyx") if module.with_suffix(".pyx").exists() else module.with_suffix(".py")
    sources = [file for file in (source, module.with_suffix(".pxd")) if file.exists()]
    return compiled is not None and compiled.stat().st_mtime < max(file.stat().st_mtime for file in sources)


BROKERS = ("EmbeddedKafka", "EmbeddedCluster", "secured_broker")
TRAINING = (
    *(ROOT / "tests/models" / name for name in ("card", "evaluation", "llm", "training")),
    *(
        ROOT / "tests" / name
        for name in (
            "cli/test_cli_card.py",
            "cli/test_cli_evaluate.py",
            "cli/test_cli_probe.py",
            "examples/test_notebooks.py",
            "models/test_model_commands.py",
            "review",
        )
    ),
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files that `-m "not training"` leaves out aren't imported: torch and its kind take seconds to load."""
    left_out = "not training" in config.option.markexpr and " or " not in config.option.markexpr
    return True if left_out and any(map(collection_path.is_relative_to, TRAINING)) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by what they use, so that nobody has to remember it. Files that need brokers come first:
    they take longest, and the quick ones fill what is left of several processes."""
    for item in items:
        fixtures, module = getattr(item, "fixturenames", ()), getattr(item, "module", None)
        starts_brokers = any(hasattr(module, name) for name in BROKERS) or "chaos" in item.path.parts
        if starts_brokers or {"kafka", "cluster"} & set(fixtures):
            item.add_marker(pytest.mark.kafka)
        if "small_bundle_path" in fixtures or any(map(item.path.is_relative_to, TRAINING)):
            item.add_marker(pytest.mark.training)
        if item.get_closest_marker("compiled") and not build.IS_COMPILED:
            item.add_marker(pytest.mark.skip(reason=build.WHY_PURE))
        for fixture in IN_ONE_PROCESS.keys() & set(fixtures):
            if place_of(item.nodeid) != fixture:
                raise pytest.UsageError(f"{item.nodeid} uses {fixture} and isn't named in IN_ONE_PROCESS")
    slow = {item.path for item in items if item.get_closest_marker("kafka")}
    items.sort(key=lambda item: item.path not in slow)


IN_ONE_PROCESS = {
    "cluster": (
        "tests/chaos/test_chaos.py::test_promises_hold_on_three_brokers",
        "tests/kafka/test_cluster.py",
        "tests/kafka/test_replication.py",
    ),
    "schema_registry": ("tests/registry/test_with_a_registry.py",),
    "small_bundle_path": (
        "tests/models/evaluation/test_taxonomy_preview.py",
        "tests/models/llm/test_llm_teacher.py",
        "tests/models/test_bundle.py",
        "tests/models/test_drift.py",
        "tests/models/test_refresh.py",
        "tests/models/test_runtime.py",
        "tests/models/test_scorer.py",
        "tests/models/training/test_edited_taxonomy.py",
        "tests/models/training/test_odd_training_data.py",
        "tests/models/training/test_training_run.py",
    ),
    "labelled_work": ("tests/review/",),
}
"""Which tests use a fixture that is worth sharing between files."""
ANYWHERE = ("tests/chaos/", "tests/worker/")
"""Tests that are long, and share nothing but the broker."""


def place_of(test: str) -> str:
    """Tests with the same place run in one process of `pytest --numprocesses`."""
    for fixture, users in IN_ONE_PROCESS.items():
        if test.startswith(users):
            return fixture
    return test if test.startswith(ANYWHERE) else test.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Only where tests run in several processes."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return place_of(nodeid)

    return ByPlace(config, log)


@pytest.fixture(scope="session", autouse=True)
def _fork_server() -> Iterator[None]:
    with forks.fork_server():
        yield


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A real broker for the whole run, on a free port, its data in a temporary directory."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), say=print) as broker:
        yield broker


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """Three brokers that tests may mistreat, if all run again at their end."""
    with EmbeddedCluster(tmp_path_factory.mktemp("cluster"), brokers=3, say=print) as brokers:
        yield brokers


@pytest.fixture(scope="session")
def schema_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchemaRegistry]:
    """A real schema registry, which tests may kill if it runs again at their end."""
    try:
        with SchemaRegistry(tmp_path_factory.mktemp("registry")) as registry:
            yield registry
    except NoRegistryError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def bootstrap(kafka: EmbeddedKafka) -> str:
    return kafka.bootstrap


def names_of_its_own() -> dict[str, str]:
    """Overrides with an app.id and topics that nobody else has."""
    suffix = uuid.uuid4().hex[:8]
    topics = [key for key in TopicSettings.model_fields if key not in ("partitions", "replication")]
    return {"app.id": f"app-{suffix}", **{f"topics.{topic}": f"{topic}-{suffix}" for topic in topics}}


def dotted(overrides: Mapping[str, object]) -> dict[str, object]:
    """Keys written as section__key, as section.key."""
    return {name.replace("__", "."): value for name, value in overrides.items()}


@pytest.fixture
def own_names() -> dict[str, str]:
    """Overrides that give a test an app.id and topics which no other test has."""
    return names_of_its_own()


@pytest.fixture
def fresh_settings(bootstrap: str, own_names: dict[str, str]) -> FreshSettings:
    """Settings for the real broker with names of the test's own; takes further dotted overrides."""

    def fresh(overrides: Mapping[str, object] | None = None) -> Settings:
        # The identity stages have tests of their own; elsewhere they would only take time.
        own = {"kafka.bootstrap_servers": bootstrap, "identity.enabled": False, **own_names}
        return load_settings(overrides=own | dict(overrides or {}), environ={})

    return fresh


def without_settings() -> dict[str, str]:
    """The environment of a process that is to have no settings but those it is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
    if build.NO_EXTENSIONS in os.environ:
        kept[build.NO_EXTENSIONS] = os.environ[build.NO_EXTENSIONS]
    return kept


def as_environment(settings: Settings) -> dict[str, str]:
    """The settings that differ from the defaults, as environment variables."""
    changed = settings.model_dump(exclude_defaults=True, mode="json")
    sinks = ("iceberg", "parquet", "redis")
    inner = {f"sink__{name}": changed.get("sink", {}).pop(name, {}) for name in sinks}
    return {
        f"STREAMER_{section}__{key}".upper(): value if isinstance(value, str) else json.dumps(value)
        for section, keys in (changed | inner).items()
        for key, value in keys.items()
    }


@pytest.fixture
def run_streamer(tmp_path: Path) -> RunStreamer:
    """Runs `streamer ...` as a process of its own: no configuration but the settings and variables given."""

    def run(
        *arguments: str,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        given = (as_environment(settings) if settings else {}) | dict(environ or {})
        return forks.run(
            ["-c", forks.MAIN, *arguments], without_settings() | given, tmp_path, stdin, timeout_s
        )

    return run
