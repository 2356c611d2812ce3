"""Features that know when they were known, so that a leak is an error and not a good result.

Rule: whatever went into a row's features was known strictly before that row was decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.evaluation.splits import Ints

Floats = npt.NDArray[np.float64]
NEVER = np.iinfo(np.int64).min
"""`known_at` of what was known from the beginning."""


class LeakError(ValueError):
    """A feature holds something that was not known yet when its row was decided."""


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """N rows of F features. `known_at` [N]: when the last thing that went into a row happened, ms UTC."""

    name: str
    values: Floats
    known_at: Ints

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.known_at.shape != self.values.shape[:1]:
            raise ValueError(
                f"features {self.name}: values {self.values.shape} with known_at {self.known_at.shape},"
                " expected [N, F] with [N]"
            )
        if not np.isfinite(self.values).all():
            raise ValueError(
                f"features {self.name}: row {self._first_bad()} has NaN or infinity, expected numbers"
            )

    def _first_bad(self) -> int:
        return int(np.flatnonzero(~np.isfinite(self.values).all(axis=1))[0])


def require_known(table: FeatureTable, decided_at: Ints) -> None:
    """Raises LeakError if anything in the table was not known strictly before its row was decided."""
    late = np.flatnonzero(table.known_at >= decided_at)
    if len(late):
        row = int(late[0])
        raise LeakError(
            f"features {table.name}: {len(late)} of {len(decided_at)} rows know too much, first row {row}:"
            f" known at {table.known_at[row]}, decided at {decided_at[row]} ms, expected known before decided"
        )


def join_tables(tables: Sequence[FeatureTable], decided_at: Ints) -> Floats:
    """[N, F1 + F2 + ...], after every table was checked for leaks."""
    for table in tables:
        require_known(table, decided_at)
    return np.concatenate([table.values for table in tables], axis=1)


@dataclass(frozen=True, slots=True)
class Scaling:
    """To mean 0 and deviation 1 by column; constant columns become 0, far outliers are cut."""

    mean: Floats
    deviation: Floats

    @classmethod
    def fit(cls, values: Floats) -> Scaling:
        deviation = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(deviation > 1e-9, deviation, np.inf))

    def apply(self, values: Floats) -> Floats:
        scaled: Floats = np.clip((values - self.mean) / self.deviation, -8.0, 8.0)
        return scaled
