"""A replay shared by the members of a consumer group, on as many machines as run the same command.

The group says whose each partition is. Its member does it from the last state that was committed for it, as
a worker takes over a shard, so a member that dies costs what it did since. Whoever has the partition of the
group as a whole joins the rows at the end. Every member ends with the summary that a replay without a group
has. Nothing of the live group is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from pathlib import Path

import msgspec
from aiokafka.errors import KafkaError

from streamer.errors import UsageError
from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.replay.engine import SAVE_EVERY
from streamer.replay.job import ENDED, PLAN, Begun, Ended, JobError, read_value
from streamer.replay.job_topic import Claim, JobTopic, Values
from streamer.replay.member import Member
from streamer.replay.options import ReplayOptions
from streamer.replay.plan import Plan
from streamer.replay.planning import drafted, looked_up
from streamer.replay.run import OnProgress
from streamer.replay.scoring import Bench
from streamer.replay.share import Share
from streamer.replay.sinks import out_file
from streamer.replay.summary import Summary
from streamer.session_rules import session_rules
from streamer.settings import Settings

_LOOK_S = 0.2


def replay_in_group(
    settings: Settings, options: ReplayOptions, on_progress: OnProgress, save_every: int = SAVE_EVERY
) -> Summary:
    """Do a share of it, until all is done, by this member and by others.

    Raises StreamerError and BundleError for what the user can mend.
    """
    if out_file(options.out) is not None:
        import streamer.replay.rows  # noqa: F401, to know at once if a package is missing

    async def run() -> Summary:
        with only_ours():
            return await _replay(settings, options, on_progress, save_every)

    try:
        return asyncio.run(run())
    except KafkaError as error:
        where = settings.kafka.bootstrap_servers
        raise JobError(f"lost the brokers {where} ({type(error).__name__}): run it again to go on") from None


async def _replay(
    settings: Settings, options: ReplayOptions, on_progress: OnProgress, save_every: int
) -> Summary:
    started = time.monotonic()
    assert options.group is not None
    bench = Bench.load(options.bundles, session_rules(settings).version)
    job = await JobTopic.made(settings, options.group)
    folder = options.group_folder
    share: Share | None = None
    async with Values(job, job.whole) as values:
        if ENDED not in await values.refresh():
            async with Member(job) as member:
                begun = await _agreed(options, job, bench, member, values)
                _require_shared(folder, begun.token)
                share = Share(job, options, begun, bench, on_progress, save_every)
                await share.work(member, values)
    ended = read_value(values.found[ENDED], Ended, job)
    _require_same(options, job, bench, ended.begun.plan)
    _require_there(options, job)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    results = {number: result.as_lane() for number, result in ended.results.items()}
    # Who comes when all has ended may be here for the report that the one who joined the rows didn't come to.
    is_to_report = share is None or share.has_joined
    received = sum(result.counters.received for result in ended.results.values())
    before = received if share is None else share.before
    seconds = time.monotonic() - started
    return Summary(ended.begun.plan, bench, results, options.out, ended.rows, seconds, before, is_to_report)


async def _agreed(
    options: ReplayOptions, job: JobTopic, bench: Bench, member: Member, values: Values
) -> Begun:
    """The plan that the group follows. It is made by whoever has the group as a whole, once."""
    while (begun := _found(await values.refresh(), job)) is None:
        if job.whole in await member.mine():
            with contextlib.suppress(KafkaError):  # the group has given it to another meanwhile
                await _propose(options, job, bench, values)
        await asyncio.sleep(_LOOK_S)
    _require_same(options, job, bench, begun.plan)
    return begun


async def _propose(options: ReplayOptions, job: JobTopic, bench: Bench, values: Values) -> None:
    async with Claim(job, job.whole) as claim:
        if _found(await values.refresh(), job) is None:
            rules = session_rules(job.settings)
            draft = drafted(job.settings, options, rules, bench)
            begun = Begun(await looked_up(job.settings, options, rules, draft), secrets.token_hex(8))
            _mark(options.group_folder, begun.token)
            await claim.put({(job.whole, PLAN): msgspec.msgpack.encode(begun)})


def _found(values: dict[str, bytes], job: JobTopic) -> Begun | None:
    if ENDED in values:
        return read_value(values[ENDED], Ended, job).begun
    return read_value(values[PLAN], Begun, job) if PLAN in values else None


def _require_same(options: ReplayOptions, job: JobTopic, bench: Bench, begun: Plan) -> None:
    mine = drafted(job.settings, options, session_rules(job.settings), bench)
    mine.require_same(begun, f"topic {job.name} holds a replay", "take another --group")


def _require_there(options: ReplayOptions, job: JobTopic) -> None:
    out = out_file(options.out)
    if out is not None and not out.exists():
        raise UsageError(f"--group: {job.name} has ended, and {out} isn't there: take another --group")


def _mark(folder: Path | None, token: str) -> None:
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / token).touch()
        except OSError as error:
            raise JobError(f"{folder}: can't be written ({error.strerror})") from None


def _require_shared(folder: Path | None, token: str) -> None:
    if folder is not None and not (folder / token).exists():
        raise UsageError(
            f"{folder} isn't what the group's first member made: --out has to be a file that all members see"
        )
