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
