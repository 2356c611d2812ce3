"""What was fetched before a seek says nothing about the place that was sought."""

from __future__ import annotations

import asyncio
from typing import Any

from faust.types import TP

from streamer.worker.transport import BatchConsumer, EmptyFetch

CLICKS = TP("clicks", 0)
AT_THE_GROUPS_OFFSET = EmptyFetch(offset=247, records_end=0, sent_at=1.0)
AT_THE_END = EmptyFetch(offset=247, records_end=247, sent_at=9.0)


class Consumer(BatchConsumer):
    """Without an app and a thread: only what seeks touch."""

    def __init__(self) -> None:
        self.empty_fetches, self.out_of_range, self.records_end = {}, set(), {}
        self.open_transactions = {}
        self.ends = {CLICKS: 247}
        self._seeks, self._seek_counts, self._open = {}, {}, set()
        self.sought: list[dict[TP, int]] = []

    def assignment(self) -> Any:
        return {CLICKS}

    async def seek_wait(self, partitions: Any) -> None:
        self.empty_fetches[CLICKS] = AT_THE_GROUPS_OFFSET  # one that was under way
        assert self.empty_fetch(CLICKS) is None
        self.sought.append(dict(partitions))


def test_an_empty_fetch_counts_only_after_the_seek() -> None:
    consumer = Consumer()
    assert consumer.request_seek(CLICKS, 34) == 1
    consumer.empty_fetches[CLICKS] = AT_THE_GROUPS_OFFSET
    assert consumer.empty_fetch(CLICKS) is None
    assert consumer.lag(CLICKS, 34) == 213
    asyncio.run(consumer._apply_seeks())
    assert consumer.sought == [{CLICKS: 34}]
    assert consumer.empty_fetch(CLICKS) is None
    assert consumer.records_end == {CLICKS: 34}
    consumer.empty_fetches[CLICKS] = AT_THE_END
    assert consumer.empty_fetch(CLICKS) == AT_THE_END
    asyncio.run(consumer._apply_seeks())
    assert consumer.sought == [{CLICKS: 34}]
