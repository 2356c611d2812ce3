"""Is all well: each check says what it found and, if that is not well, what to do.

Checks ask in the order of dependence: without brokers nothing about topics can be known, so the rest is left
out then. Nothing is changed and nothing that a customer typed is shown.
"""

from __future__ import annotations

import os
import platform
import shutil
import sysconfig
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from streamer import __version__
from streamer.bundle_extras import not_kept
from streamer.errors import StreamerError
from streamer.kafka.acls import acls_of
from streamer.kafka.client import client_arguments, committed_reader, running
from streamer.kafka.permissions import NotPermittedError, check_permissions
from streamer.kafka.reach import check_brokers, refusals
from streamer.kafka.topics import Drift, declared_topics, find_drift
from streamer.pipeline.decode import ClickDecoder, Rejected
from streamer.pipeline.partition import LOG_APPEND_TIME
from streamer.pipeline.registered import PREFIX_SIZES
from streamer.registry.client import RegistryError, registry_client
from streamer.registry.lookup import COMMAND_PATIENCE_S, SchemaLookup
from streamer.registry.outputs import registered_outputs
from streamer.schemas.build import EXTENSIONS, NO_EXTENSIONS, WHY_PURE, not_built
from streamer.settings import Settings
from streamer.sources import click_decoder, whole_value

TAIL_RECORDS = 100_000
"""The last clicks, over all partitions, in which a visitor in two partitions is looked for."""
CLOCK_WARN_MS, CLOCK_FAIL_MS = 1000, 60_000
LAG_WARN = 100_000
_PACKAGES = ("aiokafka", "faust-streaming", "msgspec", "fastavro", "onnxruntime", "numpy")
_RANK = {"ok": 0, "warn": 1, "fail": 2}

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    check: str
    state: State
    found: str
    todo: str = ""
    """What to do about it; empty if all is well."""


def worst(findings: list[Finding]) -> State:
    """The worst of their states."""
    return max((finding.state for finding in findings), key=_RANK.__getitem__, default="ok")


async def examine(settings: Settings, now_ms: Callable[[], int]) -> list[Finding]:
    """All checks. `now_ms`: this machine's clock, ms UTC."""
    findings = [_versions(), _build(), *_configuration(settings), _bundle(settings)]
    if settings.registry.url:
        findings += await _safely("registry", lambda: _registry(settings))
    try:
        await check_brokers(settings.kafka)
    except StreamerError as error:
        return [*findings, Finding("brokers", "fail", str(error), "mend this first: the rest needs a broker")]
    for name, check in (
        ("brokers", lambda: _brokers(settings)),
        ("permissions", lambda: _permissions(settings)),
        ("topics", lambda: _topics(settings)),
        ("state", lambda: _state(settings)),
        ("clock", lambda: _clock(settings, now_ms)),
        ("keys", lambda: _keys(settings)),
        ("lag", lambda: _lag(settings)),
    ):
        findings += await _safely(name, check)
    return findings


async def _safely(name: str, check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """A check that can't be made is a finding too."""
    from aiokafka.errors import KafkaError

    try:
        return await check()
    except StreamerError as error:
        return [Finding(name, "fail", str(error), "see 'streamer topics check' and 'streamer acls --print'")]
    except KafkaError as error:
        return [Finding(name, "fail", f"the cluster answered {type(error).__name__}", "try once more")]


def _versions() -> Finding:
    found = [f"streamer {__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            return Finding("versions", "fail", f"{package} is not installed", "install clicks-to-intent anew")
    return Finding("versions", "ok", ", ".join(found))


def _build() -> Finding:
    """Which build runs; pure Python gives the same results, slower."""
    if not WHY_PURE:
        return Finding("extensions", "ok", f"all {len(EXTENSIONS)} compiled")
    todo = f"unset {NO_EXTENSIONS}"
    if not_built():
        todo = "install clicks-to-intent anew with 'pip install -v', which shows what fails to compile"
        if not _has_compiler():
            todo = "install a C compiler and Python's headers, then clicks-to-intent anew"
    return Finding("extensions", "warn", f"pure Python ({WHY_PURE})", f"{todo}; results are the same, slower")


def _has_compiler() -> bool:
    """Whether there is the one that an installation would call."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(command.split()[0]) is not None


def _configuration(settings: Settings) -> Iterator[Finding]:
    kafka, warned = settings.kafka, False
    local = all(part.startswith(("127.", "localhost")) for part in kafka.bootstrap_servers.split(","))
    for is_odd, found, todo in (
        (
            kafka.security_protocol in ("PLAINTEXT", "SASL_PLAINTEXT") and not local,
            f"{kafka.security_protocol} to brokers that are not on this machine",
            "set kafka.security_protocol to SASL_SSL or SSL",
        ),
        (
            kafka.ssl_endpoint_identification_algorithm == "none",
            "the broker's host name is not checked",
            "set kafka.ssl_endpoint_identification_algorithm to https",
        ),
        (
            settings.clicks.arrival == "create_time",
            "clicks.arrival is create_time: idleness closes nothing, and a replay may differ from live",
            "use LogAppendTime on the clicks topic, or clicks.keyed = false",
        ),
        (
            not settings.dead_letters.max_run and settings.dead_letters.max_ratio == 1,
            "dead letters are not limited",
            "set dead_letters.max_run again once the bad records are passed",
        ),
        (
            settings.topics.replication in (1, 2) and not local,
            f"topics.replication is {settings.topics.replication}: a broker that dies stops the worker",
            "use auto, or 3 where there are three brokers",
        ),
    ):
        if is_odd:
            warned = True
            yield Finding("configuration", "warn", found, todo)
    if not warned:
        yield Finding("configuration", "ok", f"app {settings.app.id}, rules as set")


def _bundle(settings: Settings) -> Finding:
    from streamer.models.bundle import BundleError, default_bundle, load_bundle

    try:
        bundle = load_bundle(settings.model.bundle or default_bundle())
    except BundleError as error:
        return Finding("bundle", "fail", str(error), "use another bundle, or train one")
    missing = not_kept(bundle, settings.clicks)
    if missing:
        return Finding("bundle", "warn", missing, "set clicks.keep so, or use a bundle that reads none of it")
    return Finding("bundle", "ok", f"{bundle.model_version}, {len(bundle.taxonomy.intents)} intents")


async def _registry(settings: Settings) -> list[Finding]:
    try:
        async with registry_client(settings.registry) as client:
            subjects = await client.subjects()
        outputs = await registered_outputs(settings, register=False)
    except RegistryError as error:
        todo = "a worker waits for it wherever it meets a new schema, and ends where it is refused"
        return [Finding("registry", "fail", str(error), todo)]
    found = f"{settings.registry.url}: {len(subjects):,} subjects"
    missing = [each.subject for each in outputs if each.id is None]
    if not missing:
        return [Finding("registry", "ok", f"{found}, all schemas of the outputs among them")]
    found = f"{found}, without schemas of the outputs: {', '.join(missing)}"
    if settings.registry.auto_register:
        return [Finding("registry", "ok", f"{found}; a worker registers them at its start")]
    todo = "run 'streamer topics create' with registry.auto_register, as somebody who may register them"
    return [Finding("registry", "fail", found, todo)]


async def _brokers(settings: Settings) -> list[Finding]:
    """Brokers that are down but have replicas are found with the topics."""
    silent = await refusals(settings.kafka)
    if not silent:
        return [Finding("brokers", "ok", f"{settings.kafka.bootstrap_servers}: all brokers let us in")]
    return [Finding("brokers", "fail", str(error), "start it, or take it off the list") for error in silent]


async def _permissions(settings: Settings) -> list[Finding]:
    """Those of a worker; whoever runs this may be somebody else, whom the cluster allows less."""
    try:
        await check_permissions(settings.kafka, acls_of("worker", settings))
    except NotPermittedError as error:
        return [Finding("permissions", "warn", str(error), "grant these if a worker runs as this client")]
    return [Finding("permissions", "ok", "all that a worker needs")]


async def _topics(settings: Settings) -> list[Finding]:
    wanted = declared_topics(settings)
    drift = await find_drift(settings.kafka, wanted)
    if not drift:
        return [Finding("topics", "ok", f"{len(wanted)} topics are as declared")]
    return [_of_drift(each) for each in drift]


async def _state(settings: Settings) -> list[Finding]:
    """Whether a worker would refuse to start on the state and the outputs that are there."""
    from streamer.worker.options import WorkerOptions
    from streamer.worker.refused import RefusedError
    from streamer.worker.start_checks import check_start

    try:
        started = await check_start(settings, WorkerOptions())
    except RefusedError as error:
        return [Finding("state", "fail", str(error), "no worker starts: docs/operations.md has the ways out")]
    found = f"fits {settings.session_source} with {started.partitions} partitions"
    return [Finding("state", "ok", found)]


def _of_drift(drift: Drift) -> Finding:
    """What stops the worker or loses state fails, what is merely otherwise warns."""
    return Finding("topics", "fail" if drift.consequence else "warn", str(drift), drift.todo)


async def _clock(settings: Settings, now_ms: Callable[[], int]) -> list[Finding]:
    """The broker's clock, as its newest record has it, can't be ahead of this machine's if both are right."""
    tails = await _tails(settings, settings.session_source, records=1)
    newest = max((tail.newest_ms for tail in tails), default=0)
    if not newest:
        return [Finding("clock", "ok", "no click yet to compare clocks with")]
    ahead = newest - now_ms()
    if ahead <= CLOCK_WARN_MS:
        return [
            Finding("clock", "ok", f"the newest click came {-ahead / 1000:.1f} s ago by this machine's clock")
        ]
    return [
        Finding(
            "clock",
            "fail" if ahead > CLOCK_FAIL_MS else "warn",
            f"the newest click came {ahead / 1000:.1f} s in the future of this machine's clock",
            "set the clocks of brokers and machines by NTP",
        )
    ]


@dataclass
class _Tail:
    partition: int
    records: list[Any]

    @property
    def newest_ms(self) -> int:
        """By a broker's clock."""
        known = (record.timestamp for record in self.records if record.timestamp_type == LOG_APPEND_TIME)
        return max(known, default=0)


async def _tails(settings: Settings, topic: str, records: int) -> list[_Tail]:
    """The last records of every partition of a topic: that many in all, at least one of each."""
    from aiokafka import TopicPartition

    from streamer.kafka.topics import find_topic

    partitions = (await find_topic(settings.kafka, topic)).partitions
    consumer = committed_reader(client_arguments(settings.kafka))
    tails = {number: _Tail(number, []) for number in range(partitions)}
    async with running(consumer):
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(tps)
        first, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        for tp in tps:
            consumer.seek(tp, max(first[tp], ends[tp] - max(1, records // partitions)))
        behind = {tp for tp in tps if first[tp] < ends[tp]}
        while behind:
            fetched = await consumer.getmany(*behind, timeout_ms=1000)
            for tp, found in fetched.items():
                tails[tp.partition].records += found
            behind = {tp for tp in behind if await consumer.position(tp) < ends[tp]}
            if not fetched:
                await consumer.end_offsets(list(behind))  # which fails where no broker answers
    return list(tails.values())


async def _keys(settings: Settings) -> list[Finding]:
    """A visitor's clicks have to be in one partition, or sessions fall apart, and have an arrival time."""
    from streamer.kafka.produce import visitor_key
    from streamer.sources import visitor_reader

    where: dict[bytes, int] = {}
    split: set[bytes] = set()
    without = total = by_producers = 0
    visitor_of = visitor_reader(settings.clicks, visitor_key)
    lookup = SchemaLookup(settings.registry, COMMAND_PATIENCE_S)
    whole = whole_value(settings.clicks, lookup.registered)
    decoder = click_decoder(settings.clicks, registered=lookup.registered)
    for tail in await _tails(settings, settings.topics.clicks, TAIL_RECORDS):
        for record in tail.records:
            total += 1
            without += record.key is None
            by_producers += record.timestamp_type != LOG_APPEND_TIME
            value = record.value if whole is None else whole(record.value, record.headers)
            visitor = None if lookup.registered is None else await _registered_visitor(lookup, decoder, value)
            visitor = visitor or _visitor_of(value or b"", visitor_of)
            if visitor and where.setdefault(visitor, tail.partition) != tail.partition:
                split.add(visitor)
    if not settings.clicks.keyed:
        return [_unkeyed(len(where), len(split), without, total)]
    findings = []
    if by_producers and settings.clicks.arrival == "log_append_time":
        findings.append(
            Finding(
                "arrival",
                "warn",
                f"{by_producers:,} of the last {total:,} clicks have CreateTime: no arrival time",
                "the worker makes them dead letters; once the topic has LogAppendTime, 'streamer dlq replay "
                "--reason create_time' sends them again. Or leave the topic as it is and set clicks.keyed = "
                "false",
            )
        )
    if split:
        findings.append(
            Finding(
                "keys",
                "fail",
                f"{len(split):,} of {len(where):,} visitors have clicks in several partitions",
                "key the clicks by visitor_id with one partitioner, in all producers, or set clicks.keyed = "
                "false",
            )
        )
    if without:
        findings.append(
            Finding("keys", "warn", f"{without:,} of {total:,} clicks have no key", "key them by visitor_id")
        )
    return findings or [
        Finding("keys", "ok", f"{len(where):,} visitors in the last {total:,} clicks, each in one place")
    ]


def _unkeyed(visitors: int, split: int, without: int, total: int) -> Finding:
    """Of clicks that a stage writes by visitor: whether they need it."""
    found = (
        f"{split:,} of {visitors:,} visitors in the last {total:,} clicks in several partitions, {without:,} "
        "clicks without a key: written by visitor, as clicks.keyed = false says"
    )
    if visitors and not split and not without:
        todo = "clicks.keyed = true saves a stage, if the topic has LogAppendTime; under another app.id"
        return Finding("keys", "warn", f"{found}, though each visitor is in one place already", todo)
    return Finding("keys", "ok", found)


async def _registered_visitor(
    lookup: SchemaLookup, decoder: ClickDecoder, value: bytes | None
) -> bytes | None:
    """Whose a click is that was written with a schema of a registry; None for any other record."""
    if not value or value[0] not in PREFIX_SIZES:
        return None
    try:
        arrived = await lookup.tried(lambda: decoder.decode(value, None, ""))
    except Rejected:
        return None
    return None if arrived is None else arrived.visitor_id.encode()


def _visitor_of(value: bytes, visitor_of: Callable[[bytes], bytes | None]) -> bytes | None:
    from streamer.schemas import codec

    if value[:1] == b"\0":
        try:
            return str(codec.decode(value)[1]["visitor_id"]).encode()
        except codec.CodecError:
            return None
    return visitor_of(value)


async def _lag(settings: Settings) -> list[Finding]:
    """Of each stage, as far as the worker has any."""
    from streamer.worker.log_reader import read_group_offsets

    groups = {settings.app.id: settings.session_source, **settings.stage_sources}
    offsets = await read_group_offsets(client_arguments(settings.kafka), groups)
    if not offsets[settings.app.id]:
        return [Finding("lag", "warn", f"group {settings.app.id} has read nothing yet", "start a worker")]
    findings = []
    for group, topic in groups.items():
        findings += await _lag_of(settings, group, topic, offsets[group])
    return findings


async def _lag_of(settings: Settings, group: str, topic: str, offsets: dict[int, int]) -> list[Finding]:
    from streamer.kafka.topics import find_topic
    from streamer.worker.log_reader import LogReader

    partitions = (await find_topic(settings.kafka, topic)).partitions
    async with LogReader(client_arguments(settings.kafka)) as reader:
        bounds = await reader.bounds(topic, range(partitions))
    lag = lost = 0
    for number, (first, end) in bounds.items():
        offset = offsets.get(number, first)
        lag += max(0, end - max(offset, first))
        lost += max(0, first - offset)
    text = f"group {group} is {lag:,} records behind"
    todo = "add workers, or start one"
    findings = [Finding("lag", "warn", text, todo) if lag > LAG_WARN else Finding("lag", "ok", text)]
    if lost:
        findings.append(
            Finding(
                "lag", "fail", f"{lost:,} records were deleted unread", f"lengthen the retention of {topic}"
            )
        )
    return findings
