"""A replay that kills itself, with SIGKILL, at the n-th moment of a kind. For the tests of resuming.

Usage: python armed_replay.py KIND:N SAVE_EVERY SOURCE OUT; KIND is `saved` (a state is on disk), `sealed`
(rows or records are, their state isn't) or `written` (sessions were handed to the sink).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from streamer.replay import sinks, topic_sink
from streamer.replay.journal import Journal
from streamer.replay.options import ReplayOptions, bundles_of
from streamer.replay.run import replay
from streamer.replay.stretch import Stretch
from streamer.settings import load_settings

MOMENTS = {
    "saved": [(Journal, "save")],
    "sealed": [(sinks.RowsSink, "_write_file"), (topic_sink.TopicSink, "_transact")],
    "written": [(sinks.RowsSink, "write"), (topic_sink.TopicSink, "write")],
}
passed = 0


def arm(owner: Any, name: str, count: int) -> None:
    done: Callable[..., Any] = getattr(owner, name)

    def pass_by() -> None:
        global passed
        passed += 1
        if passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

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
    moment, save_every, source, out = sys.argv[1:]
    kind, _, count = moment.partition(":")
    for owner, name in MOMENTS.get(kind, []):
        arm(owner, name, int(count))
    settings = load_settings()
    options = ReplayOptions(Stretch(), source, bundles_of([], settings), out, 0, 1)
    replay(settings, options, lambda _, __: None, int(save_every))


if __name__ == "__main__":
    main()
