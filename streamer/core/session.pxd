cimport cython
from libc.stdint cimport int64_t

from streamer.schemas.click cimport Click, Session
from streamer.native.click_codec cimport PackedClicks, pack_click, pack_entry

cdef Py_ssize_t COMPACT_AT, BOT_CLICKS
cdef Py_ssize_t HEAD_CLICKS, TAIL_CLICKS, KEPT_CLICKS
cdef object xxh3_64_digest


@cython.final
cdef class OpenSession(PackedClicks):
    cdef public str visitor_id
    cdef public int64_t started_at
    cdef public int64_t ended_at
    cdef public int64_t opened_at
    cdef public str user_id
    cdef public int64_t early_at
    cdef public str published
    cdef public int dropped
    cdef public int revision
    cdef public bint crawler
    cdef public bint beside_closed
    cdef public str closed_by
    cdef public int64_t late_at
    cdef public int64_t changed_in

    cpdef tuple to_row(self)
    cpdef list clicks(self)
    @cython.locals(timestamp=int64_t)
    cpdef int add(self, Click click, bytes id_hash, int64_t offset) except -1
    @cython.locals(clicks=list, click=Click, read=Click, fits=bint)
    cpdef bint tell_dwell(self, Click told) except -1
    cpdef bint clicks_at_bot_speed(self) except -1
    cpdef str session_id(self, str rules_version)
    cpdef int64_t schedule_early(self, int64_t now, int64_t every_ms) except -1
    cpdef Session provisional(self, str rules_version)
    cpdef list finals(self, str reason, int64_t closed_at, str rules_version)
    cdef int _note_published(self, Session session) except -1
    @cython.locals(clicks=list, own_id=str)
    cpdef Session close(self, str reason, int64_t closed_at, str rules_version, bint is_final=*)
    cdef int _retain(self, list clicks) except -1


cpdef bytes event_hash(str event_id)
@cython.locals(window=OpenSession)
cpdef OpenSession open_session(str visitor_id, Click click, bytes id_hash, int64_t offset, int64_t opened_at)
@cython.locals(event_id=str, named=str)
cpdef str session_id(str visitor_id, Click first, str rules_version)
@cython.locals(before=Click, click=Click)
cdef int _put_in_order(list clicks) except -1
