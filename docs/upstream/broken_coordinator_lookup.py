"""aiokafka: a connection that breaks while a producer looks for its coordinator ends the producer

`Sender._find_coordinator` tries again after CoordinatorNotAvailableError, NodeNotReadyError and
RequestTimedOutError. When the broker that it asks goes away while the request is under way,
`coordinator_lookup` raises KafkaConnectionError, which falls into `except KafkaError`: the sender's task
ends, and every later call of the producer fails, although other brokers could have answered.

Expected: KafkaConnectionError is retried like NodeNotReadyError.

The break is made by closing the connection right after the first FindCoordinatorRequest was written to it.
"""

import asyncio
import logging
import sys

from aiokafka import AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.protocol.coordination import FindCoordinatorRequest

logging.disable()
send = AIOKafkaConnection.send
broken = []


def send_and_break_once(connection, request, *arguments, **options):
    answer = send(connection, request, *arguments, **options)
    if isinstance(request, FindCoordinatorRequest) and not broken:
        broken.append(connection)
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
    return answer


async def main(bootstrap):
    AIOKafkaConnection.send = send_and_break_once
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="broken-lookup")
    try:
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait("upstream", b"1")
        await producer.commit_transaction()
    except Exception as error:
        print(f"the producer ended: {error!r}")
        return True
    finally:
        await producer.client.close()
    print("the producer asked again")
    return False


sys.exit(not asyncio.run(asyncio.wait_for(main(sys.argv[1]), 30)))
