"""aiokafka: a broker that is gone fills the log

While no broker can be reached, a consumer in a group and a producer log the same few messages several times
a second, at WARNING and ERROR. An outage of an hour writes tens of thousands of lines, and what matters is
lost among them.

Expected: a back-off that grows (`reconnect.backoff.max.ms` of the Java client), and a message once per
outage.

The brokers are taken away by refusing every connection and closing those that are open.
"""

import asyncio
import collections
import logging
import os
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError

SECONDS = 10
lines = collections.Counter()


class Count(logging.Handler):
    def emit(self, record):
        lines[record.msg] += 1


async def refuse(_connection):
    raise KafkaConnectionError("refused")


async def main(bootstrap):
    logging.basicConfig(handlers=[Count()], level=logging.WARNING)
    consumer = AIOKafkaConsumer("upstream", bootstrap_servers=bootstrap, group_id="dead-broker")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await consumer.start()
    await producer.start()
    await consumer.getmany(timeout_ms=2000)
    lines.clear()
    AIOKafkaConnection.connect = refuse
    for client in (consumer._client, producer.client):
        for connection in list(client._conns.values()):
            connection.close()
    sending = asyncio.create_task(producer.send_and_wait("upstream", b"1"))
    await asyncio.sleep(SECONDS)
    sending.cancel()
    print(
        f"{sum(lines.values())} lines in {SECONDS} s; the most frequent: {lines.most_common(2)}", flush=True
    )
    os._exit(sum(lines.values()) <= 2 * SECONDS)  # stopping clients without a broker takes minutes


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60))
