"""A stage's Faust app: an agent over the source topic, and the stage's table tied to Faust's rebalances."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import faust
from faust.app import BootStrategy
from faust.tables import TableManager
from faust.transport.drivers import TRANSPORTS

from streamer.kafka.client import ClientArguments
from streamer.logs import FAUST_SERVICES
from streamer.settings import Settings
from streamer.worker.failure import Failure
from streamer.worker.rebalance import Rebalance
from streamer.worker.transport import BatchSchema, RecordBatch, Table

SESSION_TIMEOUT_S = 10.0
HEARTBEAT_S = 2.0
MAX_FETCH_BYTES = 1024 * 1024
BUFFERED_BATCHES = 8

TRANSPORTS.aliases["clickbatch"] = "streamer.worker.transport:BatchTransport"


class _Boot(BootStrategy):
    """Without Faust's own producer: it has no use here, and knows nothing of passwords and certificates."""

    enable_kafka_producer = False


class _NoTables(TableManager):
    """Without the second that Faust waits at its start for tables which are still to be declared."""

    logger = FAUST_SERVICES

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class AppTable(Table, Protocol):
    """A stage's table, as a Faust app needs it: a service that the rebalances go to."""

    @property
    def rebalance(self) -> Rebalance: ...

    @property
    def failure(self) -> Failure: ...


class WorkerApp(faust.App):
    """A Faust app that knows how to reach the brokers and which table its records go to."""

    BootStrategy = _Boot
    logger = FAUST_SERVICES

    client_arguments: ClientArguments
    table: AppTable

    def _create_directories(self) -> None:
        """None: all state is in Kafka, and a worker may run where nothing can be written."""


@dataclass(frozen=True)
class Stage:
    """What one agent does."""

    name: str
    group: str
    """Consumer group, also the Faust app's id."""
    topic: str
    """Its source."""
    process: Callable[[RecordBatch], Awaitable[None]]


def create_app(
    settings: Settings,
    arguments: ClientArguments,
    table: AppTable,
    stage: Stage,
    instance_id: str | None = None,
) -> WorkerApp:
    """An app that is not started yet. `instance_id` makes its member of the group a static one (KIP-345)."""
    app = WorkerApp(
        stage.group,
        broker=f"clickbatch://{settings.kafka.bootstrap_servers.replace(',', ';')}",
        store="memory://",
        TableManager=_NoTables,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_buffer_maxsize=BUFFERED_BATCHES,
        stream_wait_empty=False,
        stream_recovery_delay=0,
        broker_commit_interval=2.0,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_max_poll_interval=300.0,
        consumer_max_fetch_size=max(MAX_FETCH_BYTES, 2 * settings.clicks.max_bytes),
        consumer_group_instance_id=instance_id,
    )
    app.client_arguments = arguments
    app.table = table
    app.add_dependency(table)  # type: ignore[arg-type]
    _connect(app, table, stage)
    return app


def _connect(app: WorkerApp, table: AppTable, stage: Stage) -> None:
    source = app.topic(stage.topic, schema=BatchSchema(), value_type=bytes, acks=False)

    @app.agent(source, name=stage.name)
    async def process(batches: Any) -> None:
        async for batch in batches:
            try:
                await stage.process(batch)
            except Exception as error:
                # Faust would log it, take the batch for done, and go on with the next one.
                table.failure.report(error)

    @app.on_rebalance_complete.connect(weak=False)
    async def on_rebalance_complete(*_: Any, **__: Any) -> None:
        await table.rebalance.on_assigned()

    @app.on_partitions_revoked.connect(weak=False)
    async def on_partitions_revoked(*_: Any, **__: Any) -> None:
        await table.rebalance.on_revoked()
