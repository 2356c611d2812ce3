from models.scorer import Scored
from schemas.click import Session

class RecordBytes:
    def __init__(
        self, versions: bytes, embedding_space: bytes, taxonomy_version: bytes, prefixes: list[bytes]
    ) -> None: ...
    def write(self, session: Session, scored: Scored) -> tuple[bytes, bytes, bytes, bytes]: ...
