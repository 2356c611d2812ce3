"""Sessions by Faust as its manual shows it: an agent, one event at a time, state in a Table with a changelog.

Faust's windowed tables can't hold a session, which has no fixed length, so the agent keeps each visitor's
sessions in a plain table, which is what its users do. Merging and closing are those of the yardstick, their
dict replaced by the table. Its heap of deadlines is in memory only, and delivery is at least once: both make
it cheaper than what the worker does.

Run as a program: `python -m benchmarks.plain_faust BOOTSTRAP TOPIC OUT_TOPIC GROUP`; prints what it took.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer

from benchmarks.delivery import assign
from benchmarks.spent import Spent
from benchmarks.yardstick import Part


class Visitors:
    """A Faust table where the yardstick has a dict; `save` writes what changed, as a table needs it."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def get(self, visitor: str) -> list[Any] | None:
        found: list[Any] | None = self._table.get(visitor)
        return found

    def __setitem__(self, visitor: str, sessions: list[Any]) -> None:
        self._table[visitor] = sessions

    def __delitem__(self, visitor: str) -> None:
        del self._table[visitor]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def save(self, visitor: str) -> None:
        """Note in the table that a visitor's list was changed in place."""
        sessions = self._table.get(visitor)
        if sessions is not None:
            self._table[visitor] = sessions


def create(bootstrap: str, topic: str, out: str, group: str, expected: int, done: asyncio.Event) -> faust.App:
    """The app; `done` is set after `expected` clicks."""
    app = faust.App(
        group,
        broker=f"aiokafka://{bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_partitions=4,
        datadir=tempfile.mkdtemp(),
        consumer_auto_offset_reset="earliest",
        # Its start-up otherwise waits for others; the yardstick and the worker don't either.
        stream_recovery_delay=0,
    )
    clicks = app.topic(topic, key_type=str, value_type=bytes, value_serializer="json", partitions=4)
    output = app.topic(out, key_type=str, value_serializer="json")
    table = app.Table("sessions", partitions=4)
    closed: list[tuple[str, list[Any]]] = []
    visitors = Visitors(table)
    parts = {number: _part(visitors, closed) for number in range(4)}

    @app.agent(clicks)
    async def sessionize(stream: Any) -> None:
        count = 0
        async for event in stream.events():
            part = parts[event.message.partition]
            part.add(event.value)
            visitors.save(event.value["visitor_id"])
            part.close()
            for visitor, session in closed:
                await output.send(key=visitor, value=_summary(visitor, session))
            closed.clear()
            count += 1
            if count == expected:
                await app.producer.flush()
                done.set()

    return app


def _part(visitors: Visitors, closed: list[tuple[str, list[Any]]]) -> Part:
    part = Part(lambda visitor, session: closed.append((visitor, session)))
    part.open = visitors  # type: ignore[assignment]
    return part


def _summary(visitor: str, session: list[Any]) -> dict[str, Any]:
    start, end, items = session
    return {
        "visitor_id": visitor,
        "start": start,
        "end": end,
        "n_events": len(items),
        "pages": [item[1] for item in items],
    }


async def work(bootstrap: str, topic: str, out: str, group: str) -> None:
    """Read the topic to where it ends at the start."""
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await reader.start()
    ends = await assign(reader, topic)
    await reader.stop()
    done = asyncio.Event()
    expected = sum(ends.values())
    app = create(bootstrap, topic, out, group, expected, done)
    await app.start()
    if expected:
        await done.wait()
    await app.stop()


if __name__ == "__main__":
    spent = Spent()
    asyncio.run(work(*sys.argv[1:5]))
    spent.show()
