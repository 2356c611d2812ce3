"""The overrides that every client of a process shares."""

from __future__ import annotations


def install_overrides() -> None:
    """Make every aiokafka consumer of this process read safely. A second call changes nothing."""
    from aiokafka.consumer import fetcher
    from aiokafka.record import default_records, legacy_records
    from aiokafka.record._crecords import default_records as fast
    from aiokafka.record._crecords import legacy_records as fast_legacy

    from streamer.kafka.aiokafka_overrides.fetched import (
        FetchedBatches,
        SafeFetchResult,
        SafePartitionRecords,
    )
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
    fetcher.MemoryRecords = FetchedBatches
    fetcher.PartitionRecords = SafePartitionRecords
    fetcher.FetchResult = SafeFetchResult
