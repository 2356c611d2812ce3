"""Faust: one commit of offsets that fails ends the worker

`AIOKafkaConsumerThread._commit` crashes the consumer on every exception but one text of CommitFailedError.
Errors that pass, such as CoordinatorNotAvailableError or a request that timed out while a broker restarts,
end the worker as well, although the next commit, some seconds later, would cover the same offsets.

Expected: errors with `retriable = True` are logged, and the next commit tries again.

The failing broker is played by a commit that raises once.
"""

import asyncio
import logging
import os
import sys
import uuid

import aiokafka
import faust
from aiokafka.errors import CoordinatorNotAvailableError

logging.disable()
commit = aiokafka.AIOKafkaConsumer.commit
failed = []


async def fail_once(consumer, offsets=None):
    if not failed:
        failed.append(offsets)
        raise CoordinatorNotAvailableError
    await commit(consumer, offsets)


async def main(bootstrap):
    aiokafka.AIOKafkaConsumer.commit = fail_once
    app = faust.App(
        f"commit-{uuid.uuid4().hex}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=0.5,
    )

    @app.agent(app.topic("upstream", value_type=bytes, value_serializer="raw"))
    async def process(events):
        async for _ in events:
            pass

    async with aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait("upstream", b"one", partition=0)
    app.finalize()
    await app.start()
    for _ in range(100):
        if failed:
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(2)
    crashed = app.consumer.crashed or app.crashed
    print(f"commits that failed: {len(failed)}; crashed: {crashed}", flush=True)
    os._exit(not (failed and crashed))  # a crashed app's stop doesn't return


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60))
