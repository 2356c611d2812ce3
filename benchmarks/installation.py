"""Topics and settings of a worker of its own on a broker, and what the broker spends."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.topics import create_topics, declared_topics
from streamer.settings import load_settings

PARTITIONS = 4
OUTPUTS = ("intents", "embeddings", "visitors", "late", "dlq", "erasures", "links", "users")
_TICKS = os.sysconf("SC_CLK_TCK")


def installed(
    bootstrap: str, app_id: str, clicks: str, partitions: int = PARTITIONS, **more: object
) -> dict[str, object]:
    """Settings as dotted keys, `.` written `__` in `more`; the topics are created, `clicks` too."""
    own = {f"topics.{output}": f"{app_id}.{output}" for output in OUTPUTS}
    kafka = {"kafka.bootstrap_servers": bootstrap, "topics.partitions": partitions}
    overrides = own | kafka | {"topics.clicks": clicks, "app.id": app_id, "log.level": "error"}
    overrides["identity.enabled"] = False  # what is measured is the way of a click
    overrides |= {key.replace("__", "."): value for key, value in more.items()}
    settings = load_settings(overrides=overrides, environ={})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    return overrides


def broker_cpu_s(kafka: EmbeddedKafka) -> float:
    """CPU seconds that the broker has spent so far."""
    return cpu_s(kafka.pid)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has spent so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def waited_s(pid: int) -> float:
    """Seconds in which a process's main thread was ready to run so far and another had the core."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
