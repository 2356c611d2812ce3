from collections.abc import Callable, Mapping, Sequence
from typing import Any

class UsualClicks:
    def __init__(
        self,
        *,
        wire: type,
        arrived: type,
        parse: Callable[[bytes], Any],
        read: Callable[[bytes | None], Any],
        finish: Callable[..., Any],
        tables: Sequence[Mapping[str | None, Any]],
        avro_values: Callable[[bytes, int], Sequence[Any]],
        avro_start: bytes,
        json_starts: bytes,
        max_bytes: int,
        deep_from_bytes: int,
        max_depth: int,
        number_digits: range,
        max_id_bytes: int,
        max_product_bytes: int,
        max_dwell_ms: int,
    ) -> None: ...
    def decode(self, value: bytes | None, arrival: int | None, fallback_id: str) -> Any: ...
