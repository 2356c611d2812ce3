"""Watching the stages of a worker beside that of the sessions from inside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from streamer.settings import Settings
from streamer.worker.health import HealthSnapshot, Limits, not_live, not_ready
from streamer.worker.metrics import StageLevels
from streamer.worker.replaced import check_not_replaced
from streamer.worker.stages.stage_table import StageTable

LOOK_EVERY_S = 1.0


class StageWatch:
    """Looks at the tables of the stages, none if the worker has none."""

    def __init__(self, settings: Settings, tables: Sequence[StageTable]) -> None:
        self._app = settings.app
        self._limits = Limits(settings.worker.stalled_after_s, settings.worker.ready_max_lag)
        self._tables = tables

    def levels(self) -> list[StageLevels]:
        """Where each stage stands, for the metrics."""
        return [table.levels() for table in self._tables]

    def not_live(self) -> list[str]:
        """Why the process should be started again: reasons for people."""
        return self._said(not_live)

    def not_ready(self) -> list[str]:
        """Why a stage isn't ready: reasons for people."""
        return self._said(not_ready)

    def look(self) -> None:
        """See whether a stage stalls, which is seen only by looking."""
        for table in self._tables:
            table.snapshot()

    async def ask_regularly(self) -> None:
        """Keep the lags of partitions known that wait to be taken over, until cancelled."""
        await asyncio.gather(*(table.unrecovered.ask_regularly() for table in self._tables))

    async def look_regularly(self) -> None:
        """Until cancelled. Raises ReplacedError, which the client need not end for."""
        asking = asyncio.create_task(self.ask_regularly())
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                self.check_not_replaced()
                self.look()
        finally:
            asking.cancel()

    def check_not_replaced(self) -> None:
        """Raises ReplacedError if another worker has taken this one's place in a stage's group."""
        for table in self._tables:
            check_not_replaced(table.shards, table.config.group, self._app)

    def _said(self, reasons: Callable[[HealthSnapshot, Limits], list[str]]) -> list[str]:
        return [
            f"stage {table.config.name}: {reason}"
            for table in self._tables
            for reason in reasons(table.snapshot(), self._limits)
        ]
