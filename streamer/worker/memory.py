"""Memory of a process that holds a million sessions: the garbage collector, and the C library's heap."""

from __future__ import annotations

import ctypes
import gc


def settle_memory() -> None:
    """For a process whose memory is sessions; call it before there are any."""
    # Sessions are packed bytes that hold no cycles: looking for some costs more than it finds.
    gc.set_threshold(100_000, 50, 1000)


def give_back_memory() -> None:
    """Return the holes in glibc's heap to the system, for after many sessions were read at once.

    The megabytes that each fetch takes for a moment lie between sessions there, which pin them. To map such
    blocks one by one instead (M_MMAP_THRESHOLD) leaves no holes, at a quarter more CPU a click. Another C
    library has no `malloc_trim`, and no such habit.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
