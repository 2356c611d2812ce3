from collections.abc import Callable, Iterable

from streamer.core.session import OpenSession

class WindowEnds:
    first: int

    def __init__(
        self,
        ends_of: Callable[[Iterable[str]], Iterable[tuple[str, int]]],
        single: dict[str, OpenSession],
        gap_ms: int,
    ) -> None: ...
    def note(self, visitor_id: str, window_end: int) -> None: ...
    def take(self, horizon: int) -> list[str]: ...
