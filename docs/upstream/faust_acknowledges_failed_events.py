"""Faust: an event whose agent raised is acknowledged

An agent that raises on an event is restarted, and the event counts as processed: its offset is committed,
and a restart of the worker doesn't see it again. Where a record must not be lost, each agent has to catch
everything and stop the worker itself. The manual says that events are acknowledged so; there is no option
to choose otherwise.

Expected: an option of `app.agent` that keeps the offset of an event whose agent raised, and ends the
worker.
"""

import asyncio
import logging
import sys
import uuid

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

logging.disable()


async def main(bootstrap):
    async with AIOKafkaConsumer("upstream", bootstrap_servers=bootstrap) as consumer:
        partition = TopicPartition("upstream", 0)
        begin = (await consumer.end_offsets([partition]))[partition]
    group = f"failed-{uuid.uuid4().hex}"
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=0.5,
    )
    seen = []

    @app.agent(app.topic("upstream", value_type=bytes, value_serializer="raw"))
    async def process(events):
        async for event in events:
            seen.append(event)
            if event == b"fails":
                raise ValueError("not processed")

    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait("upstream", b"fails", partition=0)
    app.finalize()
    await app.start()
    while b"fails" not in seen:
        await asyncio.sleep(0.1)
    await asyncio.sleep(3)
    await app.stop()
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
    ) as consumer:
        consumer.assign([partition])
        committed = await consumer.committed(partition)
    print(f"the event at offset {begin} raised; the committed offset is {committed}")
    return committed is not None and committed > begin


sys.exit(not asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60)))
