"""`python -m tests.fuzz CASES [SEED] [TARGET...]`: so many cases of every parser, or of those named."""

from __future__ import annotations

import collections
import itertools
import sys
import time

from tests.fuzz.mutations import variants
from tests.fuzz.targets import TARGETS


def main(arguments: list[str]) -> None:
    """Prints a table: cases, crashed (it ends at the first), the slowest in ms, where the cases ended."""
    count, seed = int(arguments[0]), int(arguments[1]) if arguments[1:] else 0
    for name in arguments[2:] or TARGETS:
        target = TARGETS[name]
        ends, slowest = collections.Counter[str](), 0.0
        for value in itertools.islice(variants(target.seeds, seed), count):
            started = time.process_time()
            try:
                ends[target.run(value)] += 1
            except BaseException:
                print(f"{name} crashed: {value!r}")
                raise
            slowest = max(slowest, time.process_time() - started)
        told = ", ".join(f"{end} {times}" for end, times in ends.most_common(6))
        print(f"{name:14} {count:9,} cases  0 crashed  slowest {slowest * 1000:6.1f} ms  {told}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
