"""aiokafka: two consumers with one `group_instance_id` replace each other for ever

A broker answers FENCED_INSTANCE_ID (82) to a static member (KIP-345) whose instance id has been taken by a
newer process. The Java client treats that as fatal. `GroupCoordinator` has no branch for it: the heartbeat
fails with an unexpected error or the generation is reset, the member forgets its member id, joins again
without one, and so fences the other process in turn. The group never settles, and neither process reports
anything to its application.

Expected: FencedInstanceIdError is raised to the application, and the member doesn't join again.
"""

import asyncio
import logging
import sys
import time

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener

SECONDS = 20
logging.disable()


class Listener(ConsumerRebalanceListener):
    assigned = 0

    def on_partitions_revoked(self, _revoked):
        pass

    def on_partitions_assigned(self, _assigned):
        Listener.assigned += 1


async def poll(consumer, until):
    while time.monotonic() < until:
        try:
            await consumer.getmany(timeout_ms=500)
        except Exception as error:
            return f"ended by {error!r}"
    return "not told"


async def main(bootstrap):
    consumers = [
        AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id="fenced-instance-id",
            group_instance_id="the-same",
            heartbeat_interval_ms=500,
        )
        for _ in range(2)
    ]
    for consumer in consumers:
        consumer.subscribe(["upstream"], listener=Listener())
        await consumer.start()
    until = time.monotonic() + SECONDS
    ends = await asyncio.gather(*(poll(consumer, until) for consumer in consumers))
    for consumer in consumers:
        await consumer.stop()
    print(f"{Listener.assigned} assignments in {SECONDS} s (2 expected); the processes: {ends}")
    return Listener.assigned > 4


sys.exit(not asyncio.run(main(sys.argv[1])))
