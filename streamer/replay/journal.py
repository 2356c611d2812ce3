"""The folder in which a replay keeps what is done, so that it can be killed at any moment and go on.

`plan.json` says what was begun, `partition-N.state` is the checkpoint of partition N, `partition-N-K.parquet`
are its rows so far, `partition-N-K.sessions` its sessions for the records of customers. A checkpoint names
the files that count; each file is written beside its place and renamed into it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from streamer.core.stored_state import encode_state, state_decoder
from streamer.errors import StreamerError
from streamer.output_file import cannot_write, output_file
from streamer.replay.partition_replay import ReplaySnapshot
from streamer.replay.plan import ReplayPlan

STATE_VERSION = 7


class JournalError(StreamerError):
    """The folder of a replay can't be used."""


class DurableOutput(msgspec.Struct, frozen=True):
    """What of a partition's output is durable."""

    records: int = 0
    """In the output topic."""
    files: tuple[str, ...] = ()
    """Names of row files, in order."""
    spooled: tuple[str, ...] = ()
    """Names of files of sessions, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        return self.files + self.spooled


class PartitionCheckpoint(msgspec.Struct):
    """Where the replay of one partition is. Everything in it belongs to the same moment."""

    version: int
    snapshot: ReplaySnapshot
    done: bool
    output: DurableOutput
    digests: list[dict[str, Any]]
    """By bundle, as `OutputDigests.as_dict` gives them."""


class CheckpointStore(Protocol):
    """Where checkpoints are kept."""

    async def save(self, number: int, checkpoint: PartitionCheckpoint) -> None:
        """Keep it in the last one's place. It holds what changes with the partition's next record."""


class Journal:
    """The folder; `exclusively` holds it against a second replay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Make the folder and keep others out of it. Raises JournalError, and OutputError."""
        import fcntl

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("a")
        except OSError as error:
            raise cannot_write(self.folder, error) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JournalError(f"{self.folder}: another replay is at work in it") from None
            try:
                yield
            finally:
                if self.folder.exists() and self.begun() is None:
                    self.remove()  # nothing was begun: the call was wrong

    def begun(self) -> ReplayPlan | None:
        """The plan that was begun here; None if there is none."""
        path = self.folder / "plan.json"
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=ReplayPlan)
        except (OSError, msgspec.MsgspecError):
            raise JournalError(f"{path}: not the plan of a replay; delete the folder to start over") from None

    def begin(self, plan: ReplayPlan) -> None:
        with output_file(self.folder / "plan.json") as file:
            file.write(msgspec.json.encode(plan))

    def checkpoint(self, number: int) -> PartitionCheckpoint | None:
        """Where this partition is; None if nothing of it is done."""
        path = self._path_of(number)
        if not path.exists():
            return None
        try:
            state = state_decoder(PartitionCheckpoint).decode(path.read_bytes())
        except (OSError, msgspec.MsgspecError):
            state = None
        if state is None or state.version != STATE_VERSION:
            raise JournalError(
                f"{path}: not this version's state of a replay; delete the folder to start over"
            )
        return state

    def received(self, numbers: Iterable[int]) -> int:
        """Records of these partitions that are done."""
        found = map(self.checkpoint, numbers)
        return sum(each.snapshot.counters.received for each in found if each is not None)

    async def save(self, number: int, checkpoint: PartitionCheckpoint) -> None:
        with output_file(self._path_of(number)) as file:
            file.write(encode_state(checkpoint))

    def drop_files_but(self, number: int, files: Collection[str]) -> None:
        """Delete files that no state names: what was written after the last one was saved."""
        for path in self.folder.glob(f"partition-{number}-*"):
            if path.name not in files:
                path.unlink()

    def remove(self) -> None:
        """Delete everything: the replay is done."""
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()

    def _path_of(self, number: int) -> Path:
        return self.folder / f"partition-{number}.state"
