from libc.stdint cimport int64_t

from streamer.native.record_fields cimport headers_of, value_of
from streamer.sources.visitors cimport ClickVisitors

cdef int LOG_APPEND_TIME


cdef class LiveRepartition:
    cdef int64_t _received
    cdef object _dead_letters
    cdef int64_t _number
    cdef Py_ssize_t _targets
    cdef str _source
    cdef str _target
    cdef str _dlq
    cdef object _limit
    cdef int64_t _most_bytes
    cdef int64_t _most_headers
    cdef ClickVisitors _visitors
    cdef list _passed
    cdef list _letters
    cdef list _dead
    cdef int64_t _filtered

    cpdef object process(self, object record)
    cdef object _dead_letter(self, object record, str stage, str reason)
