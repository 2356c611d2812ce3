"""Which event loop a worker runs on."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOW = """
import asyncio, sys
from streamer.settings import KafkaSettings
from streamer.worker import event_loop
async def show():
    print(type(asyncio.get_running_loop()).__module__.split(".")[0])
kafka = KafkaSettings.model_construct(security_protocol=sys.argv[1])
event_loop.run(show(), kafka)
"""


@pytest.mark.parametrize(
    ("protocol", "loop"),
    [("PLAINTEXT", "uvloop"), ("SASL_PLAINTEXT", "uvloop"), ("SSL", "asyncio"), ("SASL_SSL", "asyncio")],
)
def test_connections_over_tls_are_left_to_asyncio(protocol: str, loop: str) -> None:
    """Over uvloop a request now and then gets no answer."""
    pytest.importorskip("uvloop")
    done = subprocess.run([sys.executable, "-c", SHOW, protocol], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loop


RESET = """
import asyncio, socket, struct
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest
from streamer.settings import KafkaSettings
from streamer.worker import event_loop

async def reset(reader, writer):
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()

async def send_after_reset():
    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection("127.0.0.1", port, request_timeout_ms=5000)
    connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
    while not connection._writer.transport.is_closing():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    connection._read_task = asyncio.create_task(asyncio.sleep(60))  # it has not noticed yet
    connection._versions = {MetadataRequest.API_KEY: (0, 1)}
    try:
        await connection.send(MetadataRequest([]))
    except KafkaConnectionError:
        print("closed" if not connection.connected() else "open")

event_loop.run(send_after_reset(), KafkaSettings())
"""


def test_a_connection_that_was_reset_is_closed_and_its_request_fails_at_once() -> None:
    """So that aiokafka connects anew; uvloop's own error would end the task that has sent it."""
    pytest.importorskip("uvloop")
    done = subprocess.run(
        [sys.executable, "-c", RESET], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "closed", done.stderr
