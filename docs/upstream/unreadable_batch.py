"""aiokafka: a batch that can't be parsed is raised at the same position for ever

A broker stores what a producer sent without looking at every field. A header's name that is no UTF-8, or
compressed data that is corrupt, makes `getmany` raise at every call: the position doesn't move, and the
error names neither topic nor partition nor offset, so an application can't seek past the batch. In the same
way nothing limits the size of a decompressed batch: some hundred kilobytes may become gigabytes, whatever
`max_partition_fetch_bytes` says.

Expected: an error that carries partition and offset, as the Java client's RecordDeserializationException
does, and a limit for decompressed batches.
"""

import asyncio
import logging
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.record._crc32c import crc as crc32c

TOPIC = "upstream-unreadable"
logging.disable()


async def produce(bootstrap):
    """One record with a header whose name isn't UTF-8, and the checksum that belongs to it."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        batch = producer.create_batch()
        batch.append(key=None, value=b"value", timestamp=None, headers=[("name", b"v")])
        batch.close()
        raw = bytearray(bytes(batch._build()).replace(b"name", b"\xff\xfe\xfd\xfc"))
        raw[17:21] = crc32c(bytes(raw[21:])).to_bytes(4, "big")
        batch._build = lambda: raw
        await (await producer.send_batch(batch, TOPIC, partition=0))


async def main(bootstrap):
    await produce(bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    partition = TopicPartition(TOPIC, 0)
    consumer.assign([partition])
    await consumer.start()
    errors, positions = [], set()
    for _ in range(3):
        positions.add(await consumer.position(partition))
        try:
            await consumer.getmany(timeout_ms=2000)
        except Exception as error:
            errors.append(repr(error))
    await consumer.stop()
    print(f"{len(errors)} of 3 calls raised {set(errors)} at position {positions}")
    return len(errors) == 3 and len(positions) == 1


sys.exit(not asyncio.run(main(sys.argv[1])))
