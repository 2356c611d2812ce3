from models.scorer import Scored
from schemas.click import Session
from streamer.pipeline.records import SessionRecords

class RecordBytes:
    def __init__(
        self,
        records: type[SessionRecords],
        versions: bytes,
        embedding_space: bytes,
        taxonomy_version: bytes,
        prefixes: list[bytes],
    ) -> None: ...
    def write(self, session: Session, scored: Scored) -> SessionRecords: ...
