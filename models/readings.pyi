from models.calibration import AbstainReason, Calibration
from models.scorer import Numbers, Scored, ScoredIntent
from schemas.click import Session

class Readings:
    def __init__(
        self,
        scored: type[Scored],
        intent: type[ScoredIntent],
        named: list[tuple[str, str, str]],
        calibration: Calibration,
    ) -> None: ...
    def tell(
        self, sessions: list[Session], numbers: Numbers
    ) -> tuple[list[Scored | None], list[AbstainReason | None]]: ...
