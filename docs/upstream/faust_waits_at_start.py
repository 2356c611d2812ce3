"""Faust: an app without tables waits a second at start for tables

`TableManager.on_start` sleeps for a second, so that tables may still be declared, and `Recovery` starts
after it. An app that declares none waits all the same, at each start of each worker.

Expected: no wait where `app.tables` is empty after `finalize`.
"""

import asyncio
import logging
import sys
import time
import uuid

import faust

logging.disable()


async def main(bootstrap):
    app = faust.App(
        f"start-{uuid.uuid4().hex}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
    )
    waits = []

    @app.agent(app.topic("upstream", value_type=bytes, value_serializer="raw"))
    async def process(events):
        async for _ in events:
            pass

    sleep = app.tables.sleep

    async def timed(seconds):
        began = time.monotonic()
        await sleep(seconds)
        waits.append(time.monotonic() - began)

    app.tables.sleep = timed
    app.finalize()
    await app.start()
    await asyncio.sleep(2)
    await app.stop()
    print(f"{len(app.tables)} tables, waited {[f'{wait:.1f} s' for wait in waits]}")
    return not app.tables and sum(waits) > 0.5


sys.exit(not asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60)))
