"""Runs the reproductions of docs/upstream against a broker; `make upstream`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamer.kafka.embedded import EmbeddedKafka

REPRODUCTIONS = Path(__file__).parents[1] / "docs/upstream"
TOPICS = ("upstream", "upstream-unreadable")
TIMEOUT_S = 150


async def create_topics(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1) for topic in TOPICS])
    await admin.close()


def reproduces(script: Path, bootstrap: str) -> bool:
    command = [sys.executable, str(script), bootstrap]
    return subprocess.run(command, timeout=TIMEOUT_S, check=False).returncode == 0


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        asyncio.run(create_topics(kafka.bootstrap))
        gone = []
        for script in sorted(REPRODUCTIONS.glob("*.py")):
            print(f"\n{script.name}", flush=True)
            if not reproduces(script, kafka.bootstrap):
                gone.append(script.name)
    print(f"\nno longer reproduced: {', '.join(gone) or 'none'}")
    return bool(gone)


if __name__ == "__main__":
    sys.exit(main())
