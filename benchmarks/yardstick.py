"""The yardstick: what a careful person gets out of confluent-kafka, orjson and dicts, by hand.

One watermark per partition (highest event time - 2 min); a heap holds one deadline per open session, pushed
again when it pops too early. No durable state: after a crash open sessions come back only by replay. Its
logic stays as it is, faster or slower: ratios to it would mean nothing else over time.

Run as a program: `python -m benchmarks.yardstick BOOTSTRAP TOPIC OUT_TOPIC GROUP [PROCESSES]`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.spent import Spent

GAP, BOUND, PARTITIONS = 1_800_000, 120_000, 4
BATCH, WAIT_S = 10_000, 0.2


class Part:
    """One partition: its open sessions, their deadlines, its watermark."""

    __slots__ = ("emit", "heap", "late", "open", "wm")

    def __init__(self, emit: Callable[[str, list[Any]], None]) -> None:
        self.open: dict[str, list[list[Any]]] = {}
        self.heap: list[tuple[int, str]] = []
        self.wm, self.late, self.emit = -1 << 62, 0, emit

    def add(self, e: dict[str, Any]) -> None:
        v, t = e["visitor_id"], e["timestamp"]
        item = (t, e["page_type"])
        ss = self.open.get(v)
        if ss is None:
            if t + GAP <= self.wm:
                self.late += 1
                return
            self.open[v] = [[t, t, [item]]]
            heappush(self.heap, (t + GAP, v))
        else:
            s = ss[-1]
            if len(ss) == 1 and s[0] - GAP <= t <= s[1] + GAP:  # the usual case
                if t > s[1]:
                    s[1] = t
                elif t < s[0]:
                    s[0] = t
                s[2].append(item)
            else:
                self.merge(v, ss, t, item)
        if t - BOUND > self.wm:
            self.wm = t - BOUND

    def merge(self, v: str, ss: list[list[Any]], t: int, item: tuple[int, str]) -> None:
        hit = [s for s in ss if s[0] - GAP <= t <= s[1] + GAP]
        if not hit:
            if t + GAP <= self.wm:
                self.late += 1
                return
            ss.append([t, t, [item]])
            heappush(self.heap, (t + GAP, v))
            return
        s = hit[0]
        s[0], s[1] = min(s[0], t), max(s[1], t)
        s[2].append(item)
        for o in hit[1:]:
            s[0], s[1] = min(s[0], o[0]), max(s[1], o[1])
            s[2] += o[2]
            ss.remove(o)

    def close(self) -> None:
        h, wm = self.heap, self.wm
        while h and h[0][0] <= wm:
            _, v = heappop(h)
            ss = self.open.get(v)
            if not ss:
                continue
            for s in ss[:]:
                if s[1] + GAP <= wm:
                    ss.remove(s)
                    s[2].sort()
                    self.emit(v, s)
                else:
                    heappush(h, (s[1] + GAP, v))
            if not ss:
                del self.open[v]


# One function, as it was taken over: to cut it up would change what is measured.
def work(boot: str, tin: str, out: str, group: str, parts: Iterable[int]) -> None:
    """Read the partitions to where they end at the start."""
    c = Consumer(
        {
            "bootstrap.servers": boot,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            "queued.min.messages": 200000,
        }
    )
    pr = Producer(
        {
            "bootstrap.servers": boot,
            "linger.ms": 5,
            "enable.idempotence": True,
            "queue.buffering.max.messages": 500000,
        }
    )
    c.assign([TopicPartition(tin, p, 0) for p in parts])
    hi = {p: c.get_watermark_offsets(TopicPartition(tin, p))[1] for p in parts}
    left = {p for p in parts if hi[p]}
    produce, dumps, loads = pr.produce, orjson.dumps, orjson.loads

    def emit(v: str, s: list[Any]) -> None:
        while True:
            try:
                return produce(
                    out,
                    dumps(
                        {
                            "visitor_id": v,
                            "start": s[0],
                            "end": s[1],
                            "n_events": len(s[2]),
                            "pages": [x[1] for x in s[2]],
                        }
                    ),
                    v,
                )
            except BufferError:
                pr.poll(0.05)

    st = {p: Part(emit) for p in parts}
    since = time.time()
    while left:
        ms = c.consume(BATCH, WAIT_S)
        pos = {}
        for m in ms:
            if m.error():
                raise RuntimeError(m.error())
            p = m.partition()
            st[p].add(loads(m.value()))
            pos[p] = m.offset()
        for p, o in pos.items():
            st[p].close()
            if o >= hi[p] - 1:
                left.discard(p)
        pr.poll(0)
        if time.time() - since > 5 and pos:
            pr.flush()
            since = time.time()
            c.commit(offsets=[TopicPartition(tin, p, o + 1) for p, o in pos.items()], asynchronous=True)
    pr.flush()
    c.close()
    late, still_open = sum(s.late for s in st.values()), sum(len(s.open) for s in st.values())
    print(f"late {late}, open {still_open}", file=sys.stderr)


def main() -> None:
    """Work in as many processes as asked for, the partitions split evenly; print what it took."""
    boot, tin, out, group, *more = sys.argv[1:]
    n = int(more[0]) if more else 1
    spent = Spent()
    if n == 1:
        work(boot, tin, out, group, range(PARTITIONS))
    else:
        pids = []
        for i in range(n):
            pid = os.fork()
            if pid == 0:
                work(boot, tin, out, group, range(i * PARTITIONS // n, (i + 1) * PARTITIONS // n))
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
    spent.show()


if __name__ == "__main__":
    main()
