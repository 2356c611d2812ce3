from libc.stdint cimport int64_t


cdef class WindowEnds:
    cdef readonly int64_t first
    cdef int64_t _reach, _gap_ms
    cdef dict _single, _buckets
    cdef list _at_hand, _numbers
    cdef object _ends_of

    cpdef note(self, str visitor_id, int64_t window_end)
    cpdef list take(self, int64_t horizon)
