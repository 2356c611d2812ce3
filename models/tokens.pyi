from collections.abc import Callable, Sequence
from typing import Any

from streamer.models.arrays import Float32, Int32, Int64
from streamer.models.encoded import Encoded
from streamer.models.extra_fields import ExtraFields
from streamer.schemas.click import Session

class Tokens:
    def __init__(
        self,
        rows: object,
        grams: object,
        device_id: Callable[[str | None], int],
        referrer_id: Callable[[str | None], int],
        extras: ExtraFields,
    ) -> None: ...
    def fill(
        self,
        sessions: Sequence[Session],
        places: list[int],
        event_ids: Int32,
        dwell_ms: Int64,
        seconds: Float32,
        query_slot: Int32,
        query_ids: Int32,
        session_ids: Int32,
        lengths: Int32,
    ) -> None: ...

def standardize(log_seconds: Float32, dwell_ms: Int64, mean: float, std: float) -> None: ...
def by_length(sessions: Sequence[Session], widths: Sequence[int]) -> list[list[int]] | None: ...
def feed(encoded: Encoded, order: Int64, start: int, end: int, width: int, size: int) -> dict[str, Any]: ...
