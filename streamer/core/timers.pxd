cimport cython
from libc.stdint cimport int64_t

from streamer.native.collector cimport untracked

cdef int64_t BUCKET_MS
cdef int64_t NEVER


@cython.final
cdef class Deadlines:
    cdef readonly int64_t first
    cdef int64_t _reach
    cdef dict _buckets
    cdef list _at_hand
    cdef int64_t _next

    @cython.locals(number=int64_t, bucket=list)
    cpdef int note(self, str visitor_id, int64_t window_end) except -1
    @cython.locals(at_hand=list, noted=set)
    cpdef set take(self, int64_t horizon)
    @cython.locals(near=int64_t)
    cdef int64_t _bucket_after(self, int64_t number) except? -1
