"""The overrides that every client of a process shares."""

from __future__ import annotations


def install_overrides() -> None:
    """Make every aiokafka client of this process give brokers up in time, read safely, create no topic by
    asking for it, and log the same thing only now and then.

    A second call changes nothing.
    """
    from aiokafka import client, conn
    from aiokafka.admin import client as admin_client
    from aiokafka.consumer import fetcher
    from aiokafka.record import default_records, legacy_records
    from aiokafka.record._crecords import default_records as fast
    from aiokafka.record._crecords import legacy_records as fast_legacy

    from streamer.kafka.aiokafka_overrides.connections import (
        ObservedProtocol,
        connect_in_time,
        coordinator_lookup,
    )
    from streamer.kafka.aiokafka_overrides.fetched import (
        FetchedBatches,
        SafeFetchResult,
        SafePartitionRecords,
    )
    from streamer.kafka.aiokafka_overrides.metadata_request import MetadataRequestWithoutCreation
    from streamer.kafka.aiokafka_overrides.repeated_messages import collapse_repeated_messages
    from streamer.kafka.aiokafka_overrides.unpacking import (
        gzip_decode,
        lz4_decode,
        snappy_decode,
        zstd_decode,
    )

    for module in (default_records, legacy_records, fast, fast_legacy):
        for decode in (gzip_decode, lz4_decode, snappy_decode, zstd_decode):
            if hasattr(module, decode.__name__):
                setattr(module, decode.__name__, decode)
    conn.AIOKafkaConnection.connect = connect_in_time
    conn.AIOKafkaProtocol = ObservedProtocol
    client.AIOKafkaClient.coordinator_lookup = coordinator_lookup
    client.MetadataRequest = admin_client.MetadataRequest = MetadataRequestWithoutCreation
    fetcher.MemoryRecords = FetchedBatches
    fetcher.PartitionRecords = SafePartitionRecords
    fetcher.FetchResult = SafeFetchResult
    collapse_repeated_messages()
