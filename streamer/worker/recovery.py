"""Reading a shard back from its changelog: groups in, state out. No I/O here."""

from __future__ import annotations

from streamer.core.store import OpenWindows
from streamer.worker.changelog import ChangelogError, Marker, SessionSnapshots, decode
from streamer.worker.changelog_groups import StateLog


class Recovery:
    """State of one shard as its changelog has it; feed it every record from the first on."""

    def __init__(self) -> None:
        self.marker: Marker | None = None
        self.state_log = StateLog()
        self.sessions = OpenWindows()
        """Every open session, and what is remembered of closed ones."""
        self._pending: list[SessionSnapshots] = []
        self._group_offset: int | None = None

    def feed(self, offset: int, value: bytes | None) -> None:
        """Take in one changelog record. Raises ChangelogError if the groups don't fit together."""
        if value is None:
            raise ChangelogError(f"the record at offset {offset} is empty")
        entry = decode(value)
        if self._group_offset is None:
            self._group_offset = offset
        if isinstance(entry, SessionSnapshots):
            self._pending.append(entry)
        else:
            self._check(entry, offset)
            self._apply(entry, self._group_offset)
            self._pending, self._group_offset = [], None

    def finish(self) -> None:
        """Say that there are no more records. Raises ChangelogError if a group has no marker."""
        if self._pending:
            raise ChangelogError(f"the group that starts at offset {self._group_offset} has no marker")

    def _check(self, marker: Marker, offset: int) -> None:
        numbers = {chunk.commit_number for chunk in self._pending}
        if len(self._pending) != marker.chunks or numbers - {marker.commit_number}:
            raise ChangelogError(
                f"the group that ends at offset {offset} is torn: it has {len(self._pending)} snapshot "
                f"chunks, expected {marker.chunks}"
            )
        last = self.marker
        if last is not None and (marker.commit_number <= last.commit_number or marker.epoch < last.epoch):
            raise ChangelogError(
                f"commit {marker.commit_number} of epoch {marker.epoch} at offset {offset} follows "
                f"commit {last.commit_number} of epoch {last.epoch}: two owners wrote"
            )

    def _apply(self, marker: Marker, offset: int) -> None:
        for visitor in marker.gone:
            self.sessions.forget(visitor)
        visitors = [visitor for chunk in self._pending for visitor in self._replace(chunk)]
        self.state_log.committed(marker.commit_number, offset, visitors, marker.gone)
        self.marker = marker

    def _replace(self, chunk: SessionSnapshots) -> list[str]:
        """Put the snapshots in place of what was there; returns their visitors.

        A visitor is named by one string however many snapshots there are: in a large state names are a tenth.
        """
        sessions, visitors = self.sessions, list[str]()
        latest = None
        for window in chunk.sessions:  # all of one visitor's next to each other
            if window.visitor_id == latest:
                sessions.insert(window)
            else:
                sessions.replace(window)
                latest = window.visitor_id
                visitors.append(latest)
        return visitors
