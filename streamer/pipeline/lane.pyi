from collections.abc import Callable

from schemas.click import Session
from streamer.core.sessionizer import Sessionizer
from streamer.pipeline.decode import Arrived
from streamer.pipeline.erasures import Erasures
from streamer.pipeline.partition import Record

class Lane:
    position: int
    received: int
    closed: int

    def __init__(
        self,
        sessionizer: Sessionizer,
        decode: Callable[[bytes | None, int, str], Arrived | None],
        erasures: Erasures,
        id_prefix: str,
    ) -> None: ...
    def close_due(self, limit: int) -> list[Session]: ...
    def take_in(
        self, records: list[Record], index: int, position: int, closed: list[Session], room: int
    ) -> int: ...
