"""A replay that kills itself, or stops, at the n-th moment of a kind. For the tests of resuming.

Usage: python armed_replay.py KIND:N:SIGNAL SAVE_EVERY SOURCE OUT [GROUP]; KIND is `saved` (a state is kept),
`sealed` (rows or records are, their state isn't) or `written` (sessions were handed to the sink). Without a
SIGNAL it is KILL. As a member of a group it ends with its bundles' digests on standard output.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import orjson

from streamer.logs import configure_logging
from streamer.replay import group_topic, sinks
from streamer.replay.group import replay_in_group
from streamer.replay.journal import Journal
from streamer.replay.options import ReplayOptions, bundles_of
from streamer.replay.run import replay
from streamer.replay.time_range import TimeRange
from streamer.settings import load_settings

MOMENTS = {
    "saved": [(Journal, "save"), (group_topic.GroupCheckpointStore, "save")],
    "sealed": [(sinks.RowsSink, "_write_file"), (sinks.TopicSink, "_transact")],
    "written": [(sinks.RowsSink, "write"), (sinks.TopicSink, "write")],
}
passed = 0


def arm(owner: Any, name: str, count: int, number: signal.Signals) -> None:
    done: Callable[..., Any] = getattr(owner, name)

    def pass_by() -> None:
        global passed
        passed += 1
        if passed == count:
            os.kill(os.getpid(), number)

    def armed(*arguments: Any) -> Any:
        result = done(*arguments)
        pass_by()
        return result

    async def armed_async(*arguments: Any) -> Any:
        result = await done(*arguments)
        pass_by()
        return result

    is_async = done.__code__.co_flags & 0x80
    setattr(owner, name, armed_async if is_async else armed)


def main() -> None:
    moment, save_every, source, out, *group = sys.argv[1:]
    kind, count, *fate = moment.split(":")
    for owner, name in MOMENTS.get(kind, []):
        arm(owner, name, int(count), signal.Signals[f"SIG{fate[0] if fate else 'KILL'}"])
    group_topic.SESSION_TIMEOUT_MS = 6_000  # the least that a broker takes
    settings = load_settings()
    configure_logging(settings.log)
    options = ReplayOptions(TimeRange(), source, bundles_of([], settings), out, 0, 1, *group)
    run = replay_in_group if group else replay
    summary = run(settings, options, lambda _, __: None, int(save_every)).as_dict()
    sys.stdout.buffer.write(orjson.dumps(summary))


if __name__ == "__main__":
    main()
