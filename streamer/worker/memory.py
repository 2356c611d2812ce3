"""Memory of a process that holds a million sessions: the garbage collector, and the C library's heap."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h. Another C library has no `mallopt` that knows them, and no such habits."""
_MAPPED_FROM_BYTES = 8 * 1024 * 1024
"""Above a fetch of several partitions, a megabyte each: mapped, it would be memory touched for the first time
again and again, a fifth of delivery's CPU."""
_KEPT_AT_THE_TOP_BYTES = 64 * 1024 * 1024


def settle_memory() -> None:
    """For a process whose memory is sessions, a worker or a replay; call it before there are any.

    What take-overs and commits take for a moment, megabytes, would lie between sessions in glibc's heap,
    which pin the holes that it leaves: such blocks are mapped one by one instead. To set that alone would
    also make glibc return the heap's end to the system again and again, for a quarter more CPU a click.
    """
    # Sessions are packed bytes that hold no cycles: looking for some costs more than it finds.
    gc.set_threshold(30_000, 50, 1000)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_AT_THE_TOP_BYTES)


def give_back_memory() -> None:
    """Return the holes in glibc's heap to the system, for after many sessions were read at once."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
