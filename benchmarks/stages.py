"""The worker with parts of it left out, so that each part's cost shows.

All stages run the product's own `run_worker`, exactly once, with transport, session table, dedup, changelog
and transactions. Left out, by stand-ins for what `run_worker` is built from:

- `core`: scoring; metrics. Instead of three records a session gets one, the yardstick's summary.
- `sessionize`: scoring, with that one record.
- `with_model`: nothing.

Run as a program: `python -m benchmarks.stages STAGE SETTINGS [PROCESSES]`, settings as a JSON object of
dotted keys.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import orjson

from benchmarks.spent import Spent
from streamer.logs import configure_logging
from streamer.pipeline.partition import PendingOutputs
from streamer.schemas.click import Session
from streamer.settings import Settings, load_settings
from streamer.worker import event_loop, run, takeover
from streamer.worker.app import create_app
from streamer.worker.metrics import Metrics
from streamer.worker.options import DrainOptions, WorkerOptions
from streamer.worker.shard import Shard


class UnscoredShard(Shard):
    """Publishes one summary a session, as JSON, in the same transaction."""

    async def _send_outputs(self, taken: PendingOutputs, *_: Any) -> list[Any]:
        topics = self._config.settings.topics
        summaries = ((session.visitor_id.encode(), _summary(session), []) for session in taken.sessions)
        return [
            *await self._send(topics.intents, summaries),
            *await self._send(topics.late, taken.late),
            *await self._send(topics.dlq, taken.dead),
        ]


def _summary(session: Session) -> bytes:
    return orjson.dumps(
        {
            "visitor_id": session.visitor_id,
            "start": session.started_at,
            "end": session.ended_at,
            "n_events": session.event_count,
            "pages": [click.page_type for click in session.clicks],
        }
    )


class NoScorer:
    """Stands where the scorer stands; the bundle is loaded and not asked."""

    def __init__(self, bundle: Any, _seen: Any = None, **_: Any) -> None:
        self.bundle = bundle

    def score(self, sessions: Sequence[Session]) -> list[None]:
        return [None] * len(sessions)


class NoMetrics(Metrics):
    """Counts no commits."""

    def committed(self, _committed: Any) -> None:
        """Nothing."""


_NO_MODEL = [(run, "Scorer", NoScorer), (takeover, "Shard", UnscoredShard)]
STAGES: dict[str, list[tuple[Any, str, type]]] = {
    "core": [*_NO_MODEL, (run, "Metrics", NoMetrics)],
    "sessionize": _NO_MODEL,
    "with_model": [],
}


def work(stage: str, settings: Settings) -> None:
    """Drain the clicks topic; prints what it took from when the bundle was loaded."""
    spent = Spent()

    def begin(*arguments: Any) -> Any:
        spent.begin()
        return create_app(*arguments)

    with ExitStack() as stack:
        for module, name, stand_in in [*STAGES[stage], (run, "create_app", begin)]:
            stack.enter_context(patch.object(module, name, stand_in))
        event_loop.run(run.run_worker(settings, options=WorkerOptions(drain=DrainOptions())), settings.kafka)
    spent.show()


def _in_processes(count: int) -> None:
    spent = Spent()
    command = [sys.executable, "-m", "benchmarks.stages", *sys.argv[1:3]]
    workers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(count)]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        sys.exit(1)
    spent.show()


def main() -> None:
    """Parse the arguments, work; in as many processes as asked for, start-up included then."""
    if len(sys.argv) > 3:
        _in_processes(int(sys.argv[3]))
        return
    settings = load_settings(overrides=orjson.loads(sys.argv[2]), environ={})
    configure_logging(settings.log)
    work(sys.argv[1], settings)


if __name__ == "__main__":
    main()
