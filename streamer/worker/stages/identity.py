"""The two identity stages: how the pure ones are fed, and where what they say goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from streamer.identity import changes
from streamer.identity.attribution import AttributionStage, Progress
from streamer.identity.links import LinkError, read_link
from streamer.identity.rules import IdentityRules
from streamer.identity.users import UserProgress, UserStage
from streamer.kafka.client import ClientArguments
from streamer.kafka.partitions import by_murmur2
from streamer.pipeline.dead_letters import dead_letter_headers
from streamer.pipeline.erasures import erased_by
from streamer.registry.lookup import SchemaLookup
from streamer.registry.outputs import RegistryIds
from streamer.rules_from_settings import identity_rules
from streamer.schemas import codec
from streamer.settings import Settings
from streamer.worker.kill_points import Reach
from streamer.worker.stages.stage_shard import Output, StageConfig, StageOutputs
from streamer.worker.start_checks import StartedOn

LINK_MARGIN_MS = 3_600_000
"""How far behind the brokers' clock the links are taken to be read where their topic was read to its end:
more than clocks differ, and a fetch takes."""

log = structlog.get_logger(__name__)


def stage_configs(
    settings: Settings,
    arguments: ClientArguments,
    source: StartedOn,
    reach: Reach,
    registry: RegistryIds,
) -> tuple[StageConfig, StageConfig]:
    """Attribution and users."""
    topics, rules = settings.topics, identity_rules(settings)

    def ids(*names: str) -> dict[str, str]:
        return {name: source.topic_ids[name] for name in names if source.topic_ids.get(name)}

    attribution = StageConfig(
        name="attribution",
        source=topics.visitors,
        side_inputs=(topics.links, topics.erasures),
        changelog=settings.attribution_changelog,
        partitions=source.partitions,
        topic_ids=ids(topics.visitors, topics.links, topics.erasures),
        settings=settings,
        arguments=arguments,
        reach=reach,
        registry=registry,
        create=lambda number, progress: LiveAttribution(
            number, source.user_partitions, settings, rules, registry.lookup, progress
        ),
    )
    users = StageConfig(
        name="users",
        source=settings.user_changes,
        side_inputs=(topics.erasures,),
        changelog=settings.users_changelog,
        partitions=source.user_partitions,
        topic_ids=ids(settings.user_changes, topics.erasures),
        settings=settings,
        arguments=arguments,
        reach=reach,
        registry=registry,
        create=lambda number, progress: LiveUsers(number, settings, rules, progress),
    )
    return attribution, users


class LiveAttribution:
    """Sessions, links and erasures in; changes of users out, each to the partition of its user."""

    def __init__(
        self,
        number: int,
        user_partitions: int,
        settings: Settings,
        rules: IdentityRules,
        lookup: SchemaLookup,
        progress: bytes | None,
    ) -> None:
        known = None if progress is None else msgspec.msgpack.decode(progress, type=Progress)
        self.stage = AttributionStage(rules, known)
        self._lookup = lookup
        self._number = number
        self._user_partitions = user_partitions
        self._settings = settings
        self._rules = rules
        self._dead: list[tuple[str, Output]] = []
        """Reason and record."""
        self._links = 0
        """Taken in since the last commit."""

    @property
    def has_pending(self) -> bool:
        return self.stage.has_pending or bool(self._dead)

    @property
    def hurries(self) -> bool:
        return self.stage.has_provisional

    @property
    def size(self) -> int:
        return len(self.stage)

    @property
    def progress(self) -> Progress:
        return self.stage.progress

    @property
    def sessions(self) -> Mapping[str, int]:
        return msgspec.structs.asdict(self.stage.progress.counts)

    def process(self, record: Any) -> None:
        if record.value is None:  # of an erased visitor: the erasures say the same
            return
        try:
            self.stage.session(self._lookup.own_now(record.value))
        except codec.CodecError as error:
            _report_unreadable(self._settings.topics.visitors, self._number, record, error)

    def take_in(self, topic: str, records: list[Any], broker_ms: int) -> None:
        if topic == self._settings.topics.erasures:
            for record in records:
                _erase(self.stage, record, topic, self._number)
            return
        for record in records:
            self._link(record)
        if not records:
            self.stage.links_read_until(broker_ms - LINK_MARGIN_MS)

    def restore(self, key: str, state: bytes | None) -> None:
        self.stage.restore(key, state)

    def take(self) -> StageOutputs:
        taken = self.stage.take()
        records = []
        for user_id, change in taken.changes:
            key = user_id.encode()
            target = by_murmur2(key, self._user_partitions)
            records.append(Output(self._settings.user_changes, target, (key, changes.encode(change), [])))
        dead, self._dead = self._dead, []
        records += [record for _, record in dead]
        events = {
            "login_refused": taken.refused,
            "link_refused": len(dead),
            "link_taken": self._links,
        }
        self._links = 0
        return StageOutputs(records, taken.states, [reason for reason, _ in dead], events)

    def _link(self, record: Any) -> None:
        try:
            link = read_link(record.value, self._rules)
        except LinkError as error:
            topics = self._settings.topics
            headers = dead_letter_headers(
                topics.links, self._number, record, "link", error.reason, record.timestamp
            )
            letter = Output(topics.dlq, self._number, (record.key, record.value, headers))
            self._dead.append((error.reason, letter))
        else:
            self.stage.link(link, record.timestamp)
            self._links += 1


class LiveUsers:
    """Changes and erasures in, users' records out."""

    def __init__(self, number: int, settings: Settings, rules: IdentityRules, progress: bytes | None) -> None:
        known = None if progress is None else msgspec.msgpack.decode(progress, type=UserProgress)
        self.stage = UserStage(rules, known)
        self._number = number
        self._settings = settings

    @property
    def has_pending(self) -> bool:
        return self.stage.has_pending

    @property
    def hurries(self) -> bool:
        return self.stage.has_provisional

    @property
    def size(self) -> int:
        return len(self.stage)

    @property
    def progress(self) -> UserProgress:
        return self.stage.progress

    @property
    def sessions(self) -> Mapping[str, int]:
        return {}

    def process(self, record: Any) -> None:
        try:
            self.stage.apply(record.key.decode(), changes.decode(record.value))
        except codec.CodecError as error:
            _report_unreadable(self._settings.user_changes, self._number, record, error)

    def take_in(self, topic: str, records: list[Any], broker_ms: int) -> None:  # noqa: ARG002, no clock here
        for record in records:
            _erase(self.stage, record, topic, self._number)

    def restore(self, key: str, state: bytes | None) -> None:
        self.stage.restore(key, state)

    def take(self) -> StageOutputs:
        taken = self.stage.take()
        topic = self._settings.topics.users
        records = [Output(topic, self._number, (user.encode(), value, [])) for user, value in taken.records]
        removed = sum(value is None for _, value in taken.records)
        events = {
            "session_withdrawn": taken.withdrawn,
            "user_written": len(records) - removed,
            "user_removed": removed,
        }
        return StageOutputs(records, taken.states, [], events)


def _report_unreadable(topic: str, number: int, record: Any, error: codec.CodecError) -> None:
    log.error("session_unreadable", topic=topic, partition=number, offset=record.offset, reason=error.reason)


def _erase(stage: AttributionStage | UserStage, record: Any, topic: str, number: int) -> None:
    erased = erased_by(record.value)
    if erased is None:
        if record.value is not None:
            log.error("erasure_unreadable", topic=topic, partition=number, offset=record.offset)
    elif erased.user_id is not None:
        stage.erase_user(erased.user_id, record.timestamp)
    elif erased.visitor_id is not None:
        stage.erase_visitor(erased.visitor_id, record.timestamp)
