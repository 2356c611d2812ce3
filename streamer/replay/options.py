"""What somebody asked a replay to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import UsageError
from streamer.kafka.start import parse_start, parse_time
from streamer.models.bundle import default_bundle
from streamer.output_file import require_local
from streamer.replay.time_range import TimeRange
from streamer.settings import Settings

FROM_TOPIC = "topic"
TO_TOPIC = "topic:"
STDOUT = "-"
_GROUP_NAME = re.compile(r"[a-zA-Z0-9._-]{1,100}")
_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@dataclass(frozen=True)
class ReplayOptions:
    """`source`: `topic` or a file. `out`: a parquet file, `topic:NAME`, `-` or None. `speed` 0: no pace."""

    time_range: TimeRange
    source: str
    bundles: tuple[Path, ...]
    out: str | None = None
    speed: float = 0
    processes: int = 1
    group: str | None = None
    """Whose members share the work, on whatever machines."""
    users: bool = True
    """Whether there are to be records of customers."""
    links: Path | None = None
    """A file of identity links, for a file of clicks."""

    def __post_init__(self) -> None:
        file = self.out_file
        require_local(self.source, "--source")
        require_local(self.out or "", "--out")
        if file is not None and file.suffix != ".parquet":
            raise UsageError(f"--out {self.out}: expected FILE.parquet, topic:NAME or - for standard output")
        name = self.out_topic
        if name is not None and _TOPIC_NAME.fullmatch(name) is None:
            raise UsageError(f"--out {self.out}: expected topic:NAME of letters, digits, dots, _ and -")
        if self.processes > 1 and self.out == STDOUT:
            raise UsageError("--processes: several can't share standard output; expected --out FILE or topic")
        if self.processes > 1 and self.speed:
            raise UsageError("--processes: expected --speed 0, for at a given pace one process is enough")
        if self.group is not None:
            self._check_group(self.group)
        if self.links is not None and (self.source == FROM_TOPIC or not self.users):
            raise UsageError("--links: expected with --source FILE, whose customers it names")

    def _check_group(self, group: str) -> None:
        if _GROUP_NAME.fullmatch(group) is None:
            raise UsageError(f"--group {group}: expected letters, digits, dots, _ and -, at most 100")
        if self.source != FROM_TOPIC:
            raise UsageError("--group: expected --source topic, for members share partitions of the clicks")
        if self.out == STDOUT or self.speed or self.processes > 1:
            raise UsageError(
                "--group: expected --out FILE.parquet or topic:NAME, --speed 0 and --processes 1 (run the "
                "command once for each process, here or elsewhere)"
            )

    @property
    def out_topic(self) -> str | None:
        """The NAME of `topic:NAME`; None for any other output."""
        return self.out.removeprefix(TO_TOPIC) if self.out and self.out.startswith(TO_TOPIC) else None

    @property
    def out_file(self) -> Path | None:
        """The file, if the output is one."""
        return Path(self.out) if self.out and self.out != STDOUT and self.out_topic is None else None

    @property
    def users_file(self) -> Path | None:
        """The file of customers' records, beside that of sessions."""
        file = self.out_file
        return None if file is None or not self.users else users_beside(file)

    @property
    def journal_folder(self) -> Path | None:
        """Where what is done is kept; None if there is nothing to resume."""
        if self.out_topic is not None:
            return Path(f"replay-{self.out_topic}.part")
        return None if self.out_file is None else self.out_file.with_name(self.out_file.name + ".part")

    @property
    def group_folder(self) -> Path | None:
        """Where the members of a group keep rows until they are joined; None if no rows are asked for."""
        file = self.out_file
        return None if file is None else file.with_name(f"{file.name}.{self.group}.part")


def users_beside(file: Path) -> Path:
    """Where the records of customers are, beside a file of sessions."""
    return file.with_suffix(".users.parquet")


def time_range_of(start: str | None, end: str | None, now_ms: int) -> TimeRange:
    """`--from` and `--to` as given. Raises UsageError."""
    begin = "earliest" if start is None else parse_start(start, now_ms)
    if begin == "latest":
        raise UsageError("--from latest: expected a time such as 2025-01-31T12:00:00Z, or earliest")
    to_ms = None if end is None else parse_time(end, "--to")
    if to_ms is not None and to_ms > now_ms:
        raise UsageError(
            f"--to {end}: lies in the future, expected a time that has passed; without it all is read"
        )
    return TimeRange(None if begin == "earliest" else begin, to_ms)


def bundles_of(given: list[Path], settings: Settings) -> tuple[Path, ...]:
    """The bundles to score with: as given, or else the live one."""
    return tuple(given) or (settings.model.bundle or default_bundle(),)
