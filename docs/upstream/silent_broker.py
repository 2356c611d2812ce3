"""aiokafka: a silent broker in `bootstrap_servers` delays a start by `request_timeout_ms`

A broker that is frozen, or behind a firewall that drops packets, accepts connections and answers nothing.
To connect and to look versions up may take `request_timeout_ms` each, 40 s by default, which has to be long
for JoinGroup. Addresses are tried one after another, so that a client waits for the silent one although the
next would answer. A running client's connections to other brokers wait in the same way, one after another.
(aiokafka shuffles the addresses, hence several silent ones here.)

Expected: a timeout of its own for setting a connection up (the Java client has
`socket.connection.setup.timeout.ms`, KIP-601), and several addresses tried at once.
"""

import asyncio
import logging
import sys
import time

from aiokafka import AIOKafkaProducer

REQUEST_TIMEOUT_S, SILENT = 3, 7
logging.disable()


async def main(bootstrap):
    silent = [
        await asyncio.start_server(lambda *_: asyncio.sleep(3600), "127.0.0.1", 0) for _ in range(SILENT)
    ]
    addresses = [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in silent]
    took = {}
    for name, servers in (("alone", [bootstrap]), ("with silent ones", [*addresses, bootstrap])):
        producer = AIOKafkaProducer(bootstrap_servers=servers, request_timeout_ms=1000 * REQUEST_TIMEOUT_S)
        began = time.monotonic()
        await producer.start()
        took[name] = time.monotonic() - began
        await producer.stop()
        print(f"start, {name}: {took[name]:.1f} s")
    return took["with silent ones"] > REQUEST_TIMEOUT_S


sys.exit(not asyncio.run(main(sys.argv[1])))
