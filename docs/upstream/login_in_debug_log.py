"""aiokafka: the password is logged at DEBUG

`AIOKafkaConnection.send` logs each request at DEBUG. With SASL/PLAIN that is
`SaslAuthenticateRequest_v1(sasl_auth_bytes=b'user\\0user\\0password')`.

Expected: the bytes of SaslAuthenticateRequest and of its response are left out of the log.

No broker that asks for a login is needed: the first lines of a handshake are played to the client.
"""

import asyncio
import io
import logging
import struct
import sys

from aiokafka import AIOKafkaProducer

PASSWORD = "a-secret"
logged = io.StringIO()
logging.basicConfig(stream=logged, level=logging.DEBUG)


async def play(reader, writer):
    api_versions = [(3, 0, 1), (17, 1, 1), (18, 0, 0), (36, 0, 1)]
    answers = [
        struct.pack(">hi", 0, len(api_versions)) + b"".join(struct.pack(">hhh", *v) for v in api_versions),
        struct.pack(">hi", 0, 1) + struct.pack(">h", 5) + b"PLAIN",
    ]
    for body in answers:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        request = await reader.readexactly(size)
        answer = request[4:8] + body
        writer.write(struct.pack(">i", len(answer)) + answer)
    await reader.read(4)
    writer.close()


async def main():
    server = await asyncio.start_server(play, "127.0.0.1", 0)
    producer = AIOKafkaProducer(
        bootstrap_servers=f"127.0.0.1:{server.sockets[0].getsockname()[1]}",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_plain_username="user",
        sasl_plain_password=PASSWORD,
        request_timeout_ms=3000,
    )
    try:
        await producer.start()
    except Exception as error:
        print(f"start: {error!r}")
    await producer.client.close()
    lines = [line for line in logged.getvalue().splitlines() if PASSWORD in line]
    print("\n".join(lines) or "no line holds the password")
    return bool(lines)


sys.exit(not asyncio.run(main()))
