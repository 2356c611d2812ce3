"""Memory of a process that holds a million sessions: the garbage collector, and the C library's heap."""

from __future__ import annotations

import ctypes
import gc

_M_MMAP_THRESHOLD = -3
"""From glibc's malloc.h."""
LARGE_BYTES = 128 * 1024
"""What a fetch, a batch or a chunk of images takes is beyond it, what a session takes below."""


def settle_memory() -> None:
    """For a process whose memory is sessions; call it before there are any."""
    # Sessions are packed bytes that hold no cycles: looking for some costs more than it finds.
    gc.set_threshold(100_000, 50, 1000)
    _map_large_blocks()


def _map_large_blocks() -> None:
    """Map blocks of LARGE_BYTES and more; glibc's own limit soon rises, and megabytes come from the heap too.

    There the sessions between two of them pin the holes that they leave: 400 bytes a session. Another C
    library has no `mallopt`, and no such habit.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
