"""Ratios of runs made in turn, A B A B, so that a busy machine slows both alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Run:
    """What reading a backlog took, start-up taken off."""

    cpu_s: float
    wall_s: float
    broker_cpu_s: float
    clicks: int

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU a click."""
        return self.cpu_s / self.clicks * 1e6

    @property
    def broker_us(self) -> float:
        return self.broker_cpu_s / self.clicks * 1e6

    def less(self, start_up: Run) -> Run:
        """Without what a run on an empty topic took; the broker, which gets faster meanwhile, as it is."""
        cpu_s, wall_s = self.cpu_s - start_up.cpu_s, self.wall_s - start_up.wall_s
        if cpu_s <= 0 or wall_s <= 0:
            raise ValueError(f"{self.clicks} clicks took no longer than none: measure more of them")
        return Run(cpu_s, wall_s, self.broker_cpu_s, self.clicks)


@dataclass(frozen=True)
class Comparison:
    """Of one program with its yardstick over all rounds: medians, and the lowest and highest CPU ratio."""

    cpu_ratio: float
    lowest: float
    highest: float
    rate_ratio: float
    """Clicks a second of wall time, relative to the yardstick's."""
    cpu_us: float
    yardstick_us: float
    broker_us: float
    yardstick_broker_us: float


def compare(pairs: Sequence[tuple[Run, Run]]) -> Comparison:
    """`pairs`: (yardstick, program) of each round. Each is its own pair: a median of ratios, no ratio of
    medians."""
    ratios = [program.cpu_us / yardstick.cpu_us for yardstick, program in pairs]
    rates = [
        yardstick.wall_s / yardstick.clicks / (program.wall_s / program.clicks)
        for yardstick, program in pairs
    ]
    return Comparison(
        cpu_ratio=median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        rate_ratio=median(rates),
        cpu_us=median(program.cpu_us for _, program in pairs),
        yardstick_us=median(yardstick.cpu_us for yardstick, _ in pairs),
        broker_us=median(program.broker_us for _, program in pairs),
        yardstick_broker_us=median(yardstick.broker_us for yardstick, _ in pairs),
    )


def table(compared: Mapping[str, Comparison]) -> str:
    """A line a program; ratios first, for they are what holds on another machine."""
    lines = [f"{'':18} {'CPU ratio':>9} {'[low, high]':>15} {'rate':>6} {'us/click':>9} {'broker':>7}"]
    for name, of in compared.items():
        spread = f"[{of.lowest:.2f}, {of.highest:.2f}]"
        numbers = f"{of.rate_ratio:6.2f} {of.cpu_us:9.2f} {of.broker_us:7.2f}"
        lines.append(f"{name:18} {of.cpu_ratio:9.2f} {spread:>15} {numbers}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Spread:
    """Of a figure over the rounds."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{short(self.median)} [{short(self.lowest)}, {short(self.highest)}]"


def spread(values: Iterable[float]) -> Spread:
    """Raises ValueError if there are none."""
    some = list(values)
    return Spread(median(some), min(some), max(some))


def ratios(pairs: Iterable[tuple[float, float]]) -> Spread:
    """Of program to yardstick; `pairs`: (yardstick, program) of each round."""
    return spread(program / yardstick for yardstick, program in pairs)


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share doesn't exceed. Raises ValueError if there are none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values to take a percentile of")
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def short(value: float) -> str:
    """Three digits that count, and no more than are before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
