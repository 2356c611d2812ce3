"""aiokafka: a ConsumerRecord for each record costs more than parsing it

`PartitionRecords` builds a `ConsumerRecord`, a dataclass of twelve fields, for every record that the
compiled parser returns. For small records that takes longer than the parser itself. An application that
only wants values and offsets can't avoid it.

Expected: a consumer that hands out the parser's own records, or whole batches.

Needs no broker.
"""

import sys
import time

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.structs import ConsumerRecord

RECORDS, PASSES = 5000, 20


def main():
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 24)
    for offset in range(RECORDS):
        builder.append(offset, timestamp=offset, key=b"visitor", value=b"x" * 200, headers=[])
    buffer = bytes(builder.build())

    def parsed():
        return list(DefaultRecordBatch(buffer))

    def wrapped():
        return [
            ConsumerRecord(
                topic="upstream",
                partition=0,
                offset=record.offset,
                timestamp=record.timestamp,
                timestamp_type=record.timestamp_type,
                key=record.key,
                value=record.value,
                checksum=record.checksum,
                serialized_key_size=len(record.key),
                serialized_value_size=len(record.value),
                headers=tuple(record.headers),
            )
            for record in DefaultRecordBatch(buffer)
        ]

    took = {}
    for name, read in (("parsed", parsed), ("with ConsumerRecords", wrapped)):
        times = []
        for _ in range(PASSES):
            began = time.process_time()
            read()
            times.append(time.process_time() - began)
        took[name] = 1e6 * min(times) / RECORDS
        print(f"{name}: {took[name]:.2f} µs a record")
    return took["with ConsumerRecords"] > 2 * took["parsed"]


sys.exit(not main())
