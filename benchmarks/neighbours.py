"""Indexes of who is similar: how many of the ten nearest they find, how long they take, and their memory.

    python -m benchmarks.neighbours [VECTORS]

Vectors of 64 numbers, as many in each of 200 groups, and the same without groups, which is harder than what
a model makes. After a first measurement six tenths of the vectors are replaced, as by new sessions, and the
same is measured again: before the index has been built anew, and after. Times are of one thread; those of
adding are CPU time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np

from streamer.client.table import Float32
from streamer.models.explain import nearest
from streamer.serving.neighbours import SpaceIndex

DIMENSIONS, GROUPS, ASKED, NEAREST = 64, 200, 300, 10
_AT_ONCE = 16


def vectors(count: int, spread: float, dice: np.random.Generator) -> Float32:
    """[count, DIMENSIONS], around the centres of GROUPS; `spread` infinite: around none."""
    noise = dice.normal(size=(count, DIMENSIONS))
    if np.isfinite(spread):
        noise = dice.normal(size=(GROUPS, DIMENSIONS))[dice.integers(GROUPS, size=count)] + spread * noise
    return noise.astype(np.float32)


def measure(count: int, spread: float) -> Iterator[str]:
    """Lines of a report."""
    dice = np.random.default_rng(7)
    held, index = vectors(count, spread, dice), SpaceIndex(DIMENSIONS)
    began = time.process_time()
    add(index, np.arange(count), held, 0)
    spent = time.process_time() - began
    yield f"{count:,} vectors, spread {spread}: {spent / count * 1e6:.0f} µs to add one"
    yield f"  {index.memory_bytes / count:.0f} bytes a vector"
    yield f"  {found_of(index, held, dice)}"
    replaced = dice.permutation(count)[: count * 6 // 10]
    for row in replaced.tolist():
        index.remove(row)
    held[replaced] = vectors(len(replaced), spread, dice)
    add(index, replaced, held[replaced], count)
    yield f"  replaced: {found_of(index, held, dice)}"
    while index.renew():
        pass
    yield f"  built anew: {found_of(index, held, dice)}"


def add(index: SpaceIndex, rows: np.ndarray, held: Float32, first: int) -> None:
    """Labels from `first` on; as key the number of the row."""
    for at in range(0, len(rows), _AT_ONCE):
        portion = range(at, min(at + _AT_ONCE, len(rows)))
        index.add([(first + place, str(rows[place]), held[place]) for place in portion])


def found_of(index: SpaceIndex, held: Float32, dice: np.random.Generator) -> str:
    """Of ASKED vectors near to held ones."""
    asked = held[dice.integers(len(held), size=ASKED)] + 0.05 * vectors(ASKED, np.inf, dice)
    shares, of_index, of_all = [], [], []
    for vector in asked:
        began = time.perf_counter()
        found = {each.id for each in index.search(vector, NEAREST)}
        between = time.perf_counter()
        rows, _ = nearest(vector, held, NEAREST)
        of_index.append(between - began)
        of_all.append(time.perf_counter() - between)
        shares.append(len(found & {str(row) for row in rows}) / NEAREST)
    return (
        f"recall@{NEAREST} {np.mean(shares):.4f}; median {np.median(of_index) * 1e3:.2f} ms, "
        f"p99 {np.quantile(of_index, 0.99) * 1e3:.2f} ms; looking at all {np.median(of_all) * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    for each in (0.5, np.inf):
        for line in measure(size, each):
            print(line, flush=True)
