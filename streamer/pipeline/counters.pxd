cimport cython
from libc.stdint cimport int64_t


@cython.final
cdef class ClickCounters:
    cdef public int64_t received
    cdef public int64_t closed
    cdef public int64_t late
    cdef public int64_t dead_lettered
    cdef public int64_t duplicates
    cdef public int64_t filtered
    cdef public int64_t sessions
    cdef public int64_t lost
    cdef public int64_t clock_behind
    cdef public int64_t behind_at
    cdef public int64_t revised
    cdef public int64_t revised_clicks
