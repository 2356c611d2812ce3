"""How many dead letters are too many: a run of them, or too large a share. Pure, and per partition.

Why the defaults are as they are: one readable click ends a run, so whoever floods a topic can't stop the
worker while visitors click, and a deploy that breaks every click does stop it. A share is decided by whoever
writes most, so it is off unless asked for. The tally is kept with the state: a restart doesn't forget it.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

BLOCKS = 10
"""The window moves on by a tenth of itself, so that it costs ten numbers rather than one for each record."""


@dataclass(frozen=True)
class DeadLetterLimit:
    """`max_run` dead letters in a row are allowed (0: any number); of the last `window` records a share of
    `max_ratio` (1: any)."""

    max_run: int = 10_000
    max_ratio: float = 1.0
    window: int = 10_000


class TooManyDeadLetters(Exception):  # noqa: N818, an outcome
    """The limit is reached: the record at `offset` was not taken in, everything before it was."""

    def __init__(self, offset: int, text: str) -> None:
        super().__init__(text)
        self.offset = offset


class DeadLetterTally(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What has to be remembered of a partition's dead letters; `number` of a record counts from 1."""

    last: int = 0
    """Number of the last dead letter."""
    run: int = 0
    """Dead letters in a row up to it."""
    block_records: int = 0
    """Records of a block."""
    block: int = 0
    """Which block the last of `counts` is of."""
    counts: tuple[int, ...] = ()
    """Dead letters by block, up to BLOCKS of them."""

    def plus(self, number: int, limit: DeadLetterLimit) -> DeadLetterTally:
        """The tally with one more dead letter: record `number` of the partition."""
        size = max(1, limit.window // BLOCKS)
        block = (number - 1) // size
        if size != self.block_records or block - self.block >= BLOCKS:
            counts: tuple[int, ...] = (0,)
        else:
            counts = (*self.counts, *(0,) * (block - self.block))[-BLOCKS:]
        return DeadLetterTally(
            last=number,
            run=self.run + 1 if number == self.last + 1 else 1,
            block_records=size,
            block=block,
            counts=(*counts[:-1], counts[-1] + 1),
        )

    def excess(self, limit: DeadLetterLimit) -> str | None:
        """What of the limit is exceeded, in words; None if nothing is."""
        if limit.max_run and self.run > limit.max_run:
            return (
                f"more than {limit.max_run} records in a row are dead letters "
                f"(dead_letters.max_run = {limit.max_run})"
            )
        if limit.max_ratio < 1 and self.last >= limit.window:
            records = self.last - max(0, self.block - BLOCKS + 1) * self.block_records
            if sum(self.counts) > limit.max_ratio * records:
                return (
                    f"{sum(self.counts)} of the last {records} records are dead letters "
                    f"(dead_letters.max_ratio = {limit.max_ratio:g})"
                )
        return None
