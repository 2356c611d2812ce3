"""Named moments at which a worker may die. In a worker they do nothing; the fault suite arms them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class KillPoint(StrEnum):
    """Moments between which a crash must lose nothing and double nothing.

    The commits of sessions and those of the stages beside them have points of their own: where both run, a
    worker is to die in each.
    """

    AFTER_FENCING = "after_fencing"
    DURING_RECOVERY = "during_recovery"
    BEFORE_SEEK = "before_seek"
    BEFORE_OUTPUTS = "before_outputs"
    BETWEEN_OUTPUTS_AND_MARKER = "between_outputs_and_marker"
    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"
    WHILE_TRIMMING = "while_trimming"
    STAGE_BEFORE_OUTPUTS = "stage_before_outputs"
    STAGE_BETWEEN_OUTPUTS_AND_MARKER = "stage_between_outputs_and_marker"
    STAGE_BEFORE_COMMIT = "stage_before_commit"
    STAGE_AFTER_COMMIT = "stage_after_commit"


Reach = Callable[[KillPoint], None]


def pass_by(point: KillPoint) -> None:
    """What a worker in production does at a kill point."""
