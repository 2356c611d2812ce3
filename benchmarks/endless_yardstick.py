"""The yardstick on a topic that goes on: given an end that is far away, and polling every 20 ms.

Run as a program: `python -m benchmarks.endless_yardstick BOOTSTRAP TOPIC OUT_TOPIC GROUP`; works until it is
killed.
"""

from __future__ import annotations

import sys
from unittest.mock import patch

from confluent_kafka import Consumer, TopicPartition

from benchmarks import yardstick

POLL_S = 0.02


class Endless(Consumer):  # type: ignore[misc, unused-ignore]
    """Says of every partition that it ends where no topic does."""

    def get_watermark_offsets(self, _partition: TopicPartition) -> tuple[int, int]:
        return 0, 1 << 62


if __name__ == "__main__":
    with patch.object(yardstick, "Consumer", Endless), patch.object(yardstick, "WAIT_S", POLL_S):
        yardstick.work(*sys.argv[1:5], parts=range(yardstick.PARTITIONS))
