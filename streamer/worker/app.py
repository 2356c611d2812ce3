"""The Faust app: an agent over the clicks topic, and the session table tied to Faust's rebalances."""

from __future__ import annotations

from typing import Any

import faust
from faust.app import BootStrategy
from faust.tables import TableManager
from faust.transport.drivers import TRANSPORTS

from streamer.kafka.client import ClientArguments
from streamer.settings import Settings
from streamer.worker.table import SessionTable
from streamer.worker.transport import BatchSchema

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

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class WorkerApp(faust.App):
    """A Faust app that knows how to reach the brokers and which table its clicks go to."""

    BootStrategy = _Boot

    client_arguments: ClientArguments
    session_table: SessionTable

    def _create_directories(self) -> None:
        """None: all state is in Kafka, and a worker may run where nothing can be written."""


def create_app(
    settings: Settings, arguments: ClientArguments, table: SessionTable, instance_id: str | None = None
) -> WorkerApp:
    """An app that is not started yet. `instance_id` makes its member of the group a static one (KIP-345)."""
    app = WorkerApp(
        settings.app.id,
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
    app.session_table = table
    app.add_dependency(table)
    _connect(app, table, settings)
    return app


def _connect(app: WorkerApp, table: SessionTable, settings: Settings) -> None:
    clicks = app.topic(settings.topics.clicks, schema=BatchSchema(), value_type=bytes, acks=False)

    @app.agent(clicks, name="sessionize")
    async def sessionize(batches: Any) -> None:
        async for batch in batches:
            try:
                await table.processing.process(batch)
            except Exception as error:
                # Faust would log it, take the batch for done, and go on with the next one.
                table.failure.report(error)

    @app.on_rebalance_complete.connect(weak=False)
    async def on_rebalance_complete(*_: Any, **__: Any) -> None:
        await table.rebalance.on_assigned()

    @app.on_partitions_revoked.connect(weak=False)
    async def on_partitions_revoked(*_: Any, **__: Any) -> None:
        await table.rebalance.on_revoked()
