cimport cython
from libc.stdint cimport int64_t


@cython.final
cdef class PartitionClock:
    cdef public int64_t now
    cdef public int64_t watermark
    cdef public int64_t raised_at
    cdef public int64_t idle_until

    cpdef int64_t idle_horizon(self, int64_t idle_after_ms) noexcept
    cpdef int64_t idle_close_at(self, int64_t window_end, int64_t idle_after_ms) noexcept
