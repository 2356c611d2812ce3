"""Faust: a consumer sleeps for a second whenever all its buffers are full

`Consumer._wait_next_records` calls `self.sleep(1)` when every assigned partition has a full stream buffer.
The agent drains the buffer in milliseconds and then waits for the rest of the second, so that a backlog is
read in bursts.

Expected: it waits for `on_buffer_drop` to signal that a partition may be fetched again.
"""

import asyncio
import itertools
import logging
import sys
import time
import uuid

import faust
from aiokafka import AIOKafkaProducer

EVENTS, SIZE = 200, 100_000
logging.disable()


async def main(bootstrap):
    app = faust.App(
        f"buffers-{uuid.uuid4().hex}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="latest",
        stream_buffer_maxsize=8,
        consumer_max_fetch_size=SIZE,
    )
    times = []

    @app.agent(app.topic("upstream", value_type=bytes, value_serializer="raw"))
    async def process(events):
        async for _ in events:
            times.append(time.monotonic())
            await asyncio.sleep(0.01)

    app.finalize()
    await app.start()
    await asyncio.sleep(3)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1) as producer:
        for _ in range(EVENTS):
            await producer.send_and_wait("upstream", bytes(SIZE), partition=0)
    while len(times) < EVENTS:
        await asyncio.sleep(0.1)
    await app.stop()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    waits = [gap for gap in gaps if gap > 0.5]
    print(
        f"{EVENTS} events in {times[-1] - times[0]:.1f} s, of which {sum(waits):.1f} s in"
        f" {len(waits)} gaps of {max(gaps):.1f} s at most"
    )
    return bool(waits)


sys.exit(not asyncio.run(asyncio.wait_for(main(sys.argv[1]), 120)))
