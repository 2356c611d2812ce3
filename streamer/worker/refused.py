"""The error of state and topics that don't fit together, and the way out that is always open."""

from __future__ import annotations

from streamer.errors import StreamerError

START_OVER = "start over under another app.id ('Starting over' in docs/operations.md)"
MIGRATE = "stop all workers, then run 'streamer migrate'"
"""The way out where partitions were added, or are to be."""


class RefusedError(StreamerError):
    """State and topics don't fit together; going on would lose or double clicks or sessions."""
