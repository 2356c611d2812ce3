"""What a worker checks before it joins the group: nothing is read, fenced or created if it has to refuse.

Each marker of the state names the clicks topic and the outputs that it belongs to. A topic made anew has the
same name and another id (KIP-516). An output topic that was written to, and that the state doesn't name, is
another app's: every session would be published there twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

import structlog

from streamer.kafka.client import ClientArguments, client_arguments
from streamer.kafka.topic_metadata import TopicMetadata, topic_metadata
from streamer.kafka.topics import find_topic
from streamer.rules_from_settings import session_rules
from streamer.settings import NATIVE, Settings
from streamer.sources import source_version
from streamer.worker.changelog import ChangelogError, Marker, StateTopics
from streamer.worker.log_reader import LogReader, read_group_offsets
from streamer.worker.options import WorkerOptions
from streamer.worker.refused import MIGRATE, START_OVER, RefusedError
from streamer.worker.stages.stage_marker import newest_marker

_READ_OTHERWISE = (
    "open sessions go on, with the clicks that they have as they were read before; a replay reads all clicks "
    "one way, so it gives other sessions than live around this start. If that was not intended: stop, "
    "restore the settings and start again"
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class StartedOn:
    """What a worker that was not refused works on."""

    topics: StateTopics
    partitions: int
    """Of the clicks topic, those that this worker uses: fewer than it has where a drain closes the sessions
    that were open before some were added."""
    user_partitions: int = 0
    """Of the topics by user, those that its state was made with."""
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    """Of every topic of the app, by name; empty where brokers give none."""
    unkeyed: TopicMetadata | None = None
    """The topic that clicks come from which are written by visitor first; None: `topics` names it."""


async def check_start(settings: Settings, options: WorkerOptions) -> StartedOn:
    """Raises RefusedError, MissingTopicError, TopicError, BrokerError, NotPermittedError."""
    await _check_arrival(settings)
    names = settings.topics
    others = (*settings.outputs, names.erasures, settings.changelog, *settings.of_identity)
    of_repartition = (names.clicks, settings.repartition_changelog) if settings.of_repartition else ()
    found = await topic_metadata(settings.kafka, (settings.session_source, *others, *of_repartition))
    clicks, arguments = found[settings.session_source], client_arguments(settings.kafka)
    # In this order: what a worker of this app has published meanwhile, a marker names by then.
    written = await _written(arguments, [found[name] for name in settings.outputs])
    markers = await _last_markers(settings, arguments, found[settings.changelog].partitions)
    rules_version = session_rules(settings).version
    for marker in markers.values():
        check_source(settings.app.id, marker.topics, clicks.name, clicks.topic_id)
        check_rules(settings.app.id, marker.rules_version, rules_version, options)
    partitions = partitions_to_use(settings.app.id, clicks, markers, drain=options.drain is not None)
    of_users = 0
    if settings.identity.enabled:
        of_ties, known = await _partitions_of_stages(settings, arguments)
        of_users = known or found[settings.user_changes].partitions
        partitions = with_ties(settings, partitions, of_ties, drain=options.drain is not None)
    for name in others:
        if name not in settings.by_user:
            check_has_partitions(found[name], clicks.name, partitions)
    await _check_not_forgotten(settings, arguments, set(range(partitions)) - markers.keys())
    unkeyed = found[names.clicks] if of_repartition else None
    if unkeyed is not None:
        check_has_partitions(found[settings.repartition_changelog], unkeyed.name, unkeyed.partitions)
    states = [marker.topics for marker in markers.values()]
    if not options.share_outputs:
        check_outputs(settings, written, states)
    source = source_version(settings.clicks)
    if changes := changes_of_reading(settings, source, states):
        log.warning("clicks_read_otherwise", app_id=settings.app.id, changes=changes, hint=_READ_OTHERWISE)
    outputs = all_outputs(settings, states)
    topics = StateTopics(clicks.name, clicks.topic_id, outputs, settings.clicks.arrival, source)
    ids = {name: topic.topic_id for name, topic in found.items()}
    return StartedOn(topics, partitions, of_users, ids, unkeyed)


async def _check_arrival(settings: Settings) -> None:
    clicks = settings.session_source
    if settings.clicks.arrival == "create_time":
        return
    if (await find_topic(settings.kafka, clicks)).timestamp_type == "CreateTime":
        raise RefusedError(
            f"topic {clicks} has message.timestamp.type=CreateTime, expected LogAppendTime: "
            f"{change_or_repartition(settings)}, or set clicks.arrival=create_time (idleness closes nothing "
            "then)"
        )


def change_or_repartition(settings: Settings) -> str:
    """What to do about a source of sessions that has CreateTime."""
    if not settings.clicks.keyed:
        return "change the topic"
    return (
        "change the topic, or set clicks.keyed=false ('Clicks that are not keyed by visitor' in "
        "docs/sources.md)"
    )


def check_source(app_id: str, state: StateTopics, name: str, topic_id: str) -> None:
    """Raises RefusedError if the state was made from another topic than this one."""
    if state.clicks and state.clicks != name:
        raise RefusedError(
            f"the state of app.id {app_id} was made from topic {state.clicks}, and these settings "
            f"(topics.clicks, clicks.keyed) give {name}: restore them, or give this deployment an app.id of "
            "its own"
        )
    if state.clicks_id and topic_id and state.clicks_id != topic_id:
        raise RefusedError(
            f"topic {name} was deleted and created again (its id is {topic_id}, the state of app.id {app_id} "
            f"was made from {state.clicks_id}): {START_OVER}"
        )


def changes_of_reading(settings: Settings, source: str, states: Iterable[StateTopics]) -> list[str]:
    """What is set otherwise than when the open sessions' clicks were read; nothing of states from before that
    was noted."""
    noted = [state for state in states if state.arrival]
    arrivals = sorted({state.arrival for state in noted} - {settings.clicks.arrival})
    sources = sorted({state.source for state in noted} - {source})
    return [
        *(f"clicks.arrival was {before}, is {settings.clicks.arrival}" for before in arrivals),
        *(f"clicks.source was {before or NATIVE}, is {source or NATIVE}" for before in sources),
    ]


def check_rules(app_id: str, before: str, now: str, options: WorkerOptions) -> None:
    """Raises RefusedError if the state was made under other session rules, unless they are accepted."""
    if before != now and not options.accept_rules:
        raise RefusedError(
            f"the state of app.id {app_id} was made under session rules {before}, these settings give {now} "
            "(session.*, watermark.*): restore the settings, or go on with 'streamer worker --accept-rules', "
            "where open sessions go on under the new rules"
        )


def partitions_to_use(
    app_id: str, clicks: TopicMetadata, markers: Mapping[int, Marker], *, drain: bool
) -> int:
    """Those of the clicks topic; for a drain, those of the open sessions. Raises RefusedError if sessions of
    another number of partitions are open: their visitors' next clicks may be elsewhere."""
    most = max((marker.partitions for marker in markers.values()), default=0)
    if most > clicks.partitions:
        raise RefusedError(
            f"topic {clicks.name} has {clicks.partitions} partitions, the state of app.id {app_id} was made "
            f"with {most}, so the topic was deleted and created again: {START_OVER}"
        )
    of_open = {marker.partitions for marker in markers.values() if marker.counters.open()}
    if of_open <= {clicks.partitions}:
        return clicks.partitions
    if drain:
        return max(of_open)
    raise RefusedError(
        f"topic {clicks.name} has {clicks.partitions} partitions, the state of app.id {app_id} has open "
        f"sessions of the {min(of_open)} before: run 'streamer worker --drain', then start again"
    )


def with_ties(settings: Settings, partitions: int, of_ties: int | None, *, drain: bool) -> int:
    """The partitions to use where visitors' ties are in `of_ties`; None: nowhere. Raises RefusedError."""
    if of_ties is None or of_ties == partitions:
        return partitions
    if drain and of_ties < partitions:
        return of_ties
    raise RefusedError(
        f"topic {settings.session_source} has {partitions} partitions, the ties of its visitors are in "
        f"{of_ties}: {MIGRATE}"
    )


def check_has_partitions(topic: TopicMetadata, clicks: str, partitions: int) -> None:
    """Raises RefusedError if a topic has fewer partitions than the clicks."""
    if topic.partitions < partitions:
        raise RefusedError(
            f"topic {topic.name} has {topic.partitions} partitions and {clicks} has {partitions}: every "
            "topic needs as many as the clicks. 'streamer topics grow' adds them"
        )


def check_outputs(settings: Settings, written: Collection[str], states: Iterable[StateTopics]) -> None:
    """Raises RefusedError if an output topic is another app's. States from before topics were named pass."""
    named = [state.outputs for state in states]
    own = {topic for outputs in named for topic in outputs}
    foreign = [topic for topic in settings.outputs if topic in written and topic not in own]
    if foreign and (own or not named):
        raise RefusedError(
            f"topic {foreign[0]} is an output of another app, not of app.id {settings.app.id}: two apps "
            "publish every session twice. Set topics of its own or the other's app.id, or allow it with "
            "--share-outputs"
        )


def all_outputs(settings: Settings, states: Iterable[StateTopics]) -> tuple[str, ...]:
    """The outputs, and those of earlier settings: a topic may come back, as a shadow bundle's do."""
    return tuple(dict.fromkeys((*settings.outputs, *chain.from_iterable(state.outputs for state in states))))


def check_not_forgotten(settings: Settings, without_state: Iterable[int], group: Mapping[int, int]) -> None:
    """Raises RefusedError for a partition that the group has read and whose state is gone."""
    for number in sorted(without_state):
        if number in group:
            raise RefusedError(
                f"{settings.changelog} has no state of partition {number}, but group {settings.app.id} has "
                f"read {settings.session_source} up to offset {group[number]}, so its open sessions are "
                f"gone: {START_OVER}"
            )


def unreadable(error: ChangelogError) -> RefusedError:
    """The refusal of a changelog that can't be read; the error's text begins with the partition."""
    return RefusedError(
        f"can't restore open sessions from {error}. Use the version of the worker that wrote it, or "
        f"{START_OVER}"
    )


async def _partitions_of_stages(settings: Settings, arguments: ClientArguments) -> list[int | None]:
    """The number that the state of each identity stage was made with; None: it has none yet."""
    changelogs = (settings.attribution_changelog, settings.users_changelog)
    async with LogReader(arguments) as reader:
        reader.assign({changelog: [0] for changelog in changelogs})
        markers = [(await reader.newest(changelog, [0], newest_marker))[0] for changelog in changelogs]
    return [None if marker is None else marker.partitions for marker in markers]


async def _written(arguments: ClientArguments, topics: Iterable[TopicMetadata]) -> set[str]:
    """Topics that were ever written to, whatever of it is left."""
    written = set()
    async with LogReader(arguments) as reader:
        for topic in topics:
            bounds = await reader.bounds(topic.name, range(topic.partitions))
            if any(end for _, end in bounds.values()):
                written.add(topic.name)
    return written


async def _last_markers(settings: Settings, arguments: ClientArguments, partitions: int) -> dict[int, Marker]:
    """The newest marker of each partition that has one."""
    async with LogReader(arguments) as reader:
        try:
            found = await reader.last_markers(settings.changelog, range(partitions))
        except ChangelogError as error:
            raise unreadable(error) from None
    return {number: marker for number, marker in found.items() if marker is not None}


async def _check_not_forgotten(
    settings: Settings, arguments: ClientArguments, without_state: Collection[int]
) -> None:
    if not without_state:
        return
    group = settings.app.id
    offsets = await read_group_offsets(arguments, {group: settings.session_source})
    check_not_forgotten(settings, without_state, offsets[group])
