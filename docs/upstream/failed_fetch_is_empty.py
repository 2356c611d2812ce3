"""aiokafka: `getmany` returns the same when a topic is empty and when no broker answers

An application that closes windows while a partition is idle has to know whether "nothing came" was an
answer. With the broker gone, `getmany` goes on returning an empty dict and raises nothing, for ever.
`last_poll_timestamp` tells the two apart, but only per partition and only for an application that knows of
it.

Expected: a documented way to learn when each assigned partition was last answered, or an error after a time
that can be set.

The broker is taken away by refusing every connection and closing those that are open.
"""

import asyncio
import logging
import sys

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError

logging.disable()


async def refuse(_connection):
    raise KafkaConnectionError("refused")


async def main(bootstrap):
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="latest")
    consumer.assign([TopicPartition("upstream", 0)])
    await consumer.start()
    await consumer.seek_to_end()
    with_broker = await consumer.getmany(timeout_ms=2000)
    AIOKafkaConnection.connect = refuse
    for connection in list(consumer._client._conns.values()):
        connection.close()
    without = await consumer.getmany(timeout_ms=5000)
    print(f"with a broker: {with_broker}, without one: {without}")
    await consumer._client.close()
    return with_broker == without == {}


sys.exit(not asyncio.run(main(sys.argv[1])))
