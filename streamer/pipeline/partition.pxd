cimport cython
from libc.stdint cimport int64_t

from streamer.schemas.click cimport Click, Session
from streamer.core.watermark cimport PartitionClock
from streamer.core.sessionizer cimport Sessionizer
from streamer.native.record_fields cimport headers_of, offset_of, timestamp_of, value_of
from streamer.pipeline.counters cimport ClickCounters
from streamer.pipeline.decode cimport Arrived, with_event_id

cdef object _JOINED, _LATE, _DUPLICATE


cdef class Partition:
    cdef readonly str topic
    cdef readonly int64_t number
    cdef readonly Sessionizer sessionizer
    cdef public int64_t position
    cdef public ClickCounters counters
    cdef readonly object erasures
    cdef readonly object dead_letters
    cdef dict _erased_until
    cdef int64_t _max_forwarded_bytes
    cdef object _limit
    cdef object _refused
    cdef object _decode
    cdef bint _needs_arrival
    cdef object _whole
    cdef object _trace_context
    cdef readonly bint has_login
    cdef str _id_prefix
    cdef list _sessions
    cdef list _late
    cdef list _dead
    cdef list _erased
    cdef object _draining

    @cython.locals(clock=PartitionClock, index=Py_ssize_t, offset=int64_t, arrival=int64_t)
    cpdef Py_ssize_t process(self, object records, Py_ssize_t start=*) except -1
    @cython.locals(sessionizer=Sessionizer, now=int64_t, arrived=Arrived, click=Click)
    cdef bint _take_in(self, object record, int64_t offset) except -1
    @cython.locals(arrived=Arrived)
    cdef Arrived _with_headers(self, object record, object headers, int64_t now)
    @cython.locals(sessionizer=Sessionizer)
    cdef bint _arrive(self, int64_t timestamp) except -1
    cdef bint _move_clock(self, int64_t timestamp) except -1
    cdef int _pass_over(self, int64_t timestamp) except -1
    @cython.locals(counters=ClickCounters, sessionizer=Sessionizer, clock=PartitionClock)
    cdef int _settle(self, object record, object outcome) except -1
    cdef int _close_due(self) except -1
    @cython.locals(counters=ClickCounters, session=Session)
    cdef int _closed(self, list sessions) except -1
    @cython.locals(counters=ClickCounters, sessionizer=Sessionizer)
    cdef int _count_revised(self) except -1
    cdef bint _is_full(self) except -1
