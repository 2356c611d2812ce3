"""A bound on memory while something untrusted is loaded and tried for the first time.

A small graph can ask for any amount of memory: a tensor concatenated with itself thirty times is a thousand
million times as large. Under the bound this is an error and doesn't exhaust the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import resource
except ImportError:  # not a Unix
    resource = None  # type: ignore[assignment]

_STATM = Path("/proc/self/statm")


@contextmanager
def memory_bounded(more_bytes: int) -> Iterator[None]:
    """The process may take `more_bytes` of address space beyond what it has; Linux only, elsewhere no bound.

    What then fails inside raises MemoryError, or what a library makes of it.
    """
    if resource is None or not _STATM.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = int(_STATM.read_text().split()[0]) * resource.getpagesize() + more_bytes
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([bound, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
