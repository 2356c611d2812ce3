"""aiokafka: `send` of a fenced producer raises an error that is no KafkaError

When a second producer with the same `transactional_id` starts, the first is fenced. Its commit raises
ProducerFenced, which is right. After that, `send` raises IllegalOperation, "Can't send messages while not
in transaction", which is no subclass of KafkaError: `except KafkaError` misses it, and its text hides that
the producer was fenced.

Expected: every call of a fenced producer raises ProducerFenced.
"""

import asyncio
import logging
import sys

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

logging.disable()


async def outcome(name, call):
    try:
        await call
    except Exception as error:
        print(f"{name}: {type(error).__name__}, a KafkaError: {isinstance(error, KafkaError)}")
        return error
    print(f"{name}: no error")
    return None


async def main(bootstrap):
    options = {"bootstrap_servers": bootstrap, "transactional_id": "fenced"}
    producer = AIOKafkaProducer(**options)
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait("upstream", b"1")
    async with AIOKafkaProducer(**options):
        pass
    await outcome("commit", producer.commit_transaction())
    sent = await outcome("send after it", producer.send("upstream", b"2"))
    await producer.stop()
    return not isinstance(sent, KafkaError)


sys.exit(not asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60)))
