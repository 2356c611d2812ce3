"""aiokafka: `seek_to_beginning` loses against a reset that is in progress

After `assign`, the consumer resets its position to `auto_offset_reset` in the background.
`seek_to_beginning` (or `seek_to_end`) during that time may be overtaken by it: the awaited call returns,
and the position is the other end. `seek` with a number isn't affected.

Expected: a seek wins over every reset that began before it.
"""

import asyncio
import logging
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

ROUNDS = 60
logging.disable()


async def main(bootstrap):
    partition = TopicPartition("upstream", 0)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait("upstream", b"one", partition=0)
    overtaken = 0
    for number in range(ROUNDS):
        async with AIOKafkaConsumer(
            bootstrap_servers=bootstrap, auto_offset_reset="latest", enable_auto_commit=False
        ) as consumer:
            consumer.assign([partition])
            await asyncio.sleep(0.001 * (number % 10))
            await consumer.seek_to_beginning(partition)
            beginning = (await consumer.beginning_offsets([partition]))[partition]
            overtaken += await consumer.position(partition) != beginning
    print(f"{overtaken} of {ROUNDS} calls of seek_to_beginning left the position elsewhere")
    return overtaken > 0


sys.exit(not asyncio.run(asyncio.wait_for(main(sys.argv[1]), 120)))
