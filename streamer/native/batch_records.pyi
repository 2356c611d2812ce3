"""Types of the extension module; see batch_records.pyx."""

from collections.abc import Sequence

from streamer.pipeline.dead_letters import Header

class CorruptRecordException(Exception): ...  # noqa: N818, the name is aiokafka's

class BatchRecord:
    offset: int
    timestamp: int
    timestamp_type: int
    checksum: None
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[Header]: ...

class BatchRecords:
    def __init__(self, fetched: bytes, start: int, unpacked: bytes | None = None) -> None: ...
    def __iter__(self) -> BatchRecords: ...
    def __next__(self) -> BatchRecord: ...
