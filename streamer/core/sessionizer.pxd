cimport cython
from libc.stdint cimport int64_t

from streamer.schemas.click cimport Click, Session
from streamer.core.watermark cimport PartitionClock
from streamer.core.session cimport OpenSession, event_hash, open_session
from streamer.core.store cimport OpenWindows
from streamer.core.timers cimport Deadlines

cdef object _JOINED, _LATE, _DUPLICATE, _TOO_NEW, _TOO_OLD


@cython.final
cdef class Sessionizer:
    cdef readonly object rules
    cdef readonly PartitionClock clock
    cdef public int64_t merged_duplicates
    cdef public int64_t revised
    cdef public int64_t revised_clicks
    cdef readonly bint has_due
    cdef dict _changed
    cdef int64_t _period
    cdef str _rules_version
    cdef int64_t _gap_ms
    cdef int64_t _max_duration_ms
    cdef int64_t _max_events
    cdef frozenset _end_events
    cdef int64_t _out_of_orderness_ms
    cdef int64_t _max_future_ms
    cdef int64_t _min_timestamp_ms
    cdef int64_t _idle_after_ms
    cdef int64_t _early_every_ms
    cdef bint _at_login
    cdef public list logins
    cdef OpenWindows _open
    cdef dict _single
    cdef dict _several
    cdef object _closed
    cdef dict _closed_of
    cdef Deadlines _closed_ends
    cdef int64_t _revise_within_ms
    cdef object _held
    cdef dict _held_of
    cdef Deadlines _held_ends
    cdef object _closes_again
    cdef Deadlines _deadlines
    cdef Deadlines _early
    cdef list _closing
    cdef list _due
    cdef str _due_reason

    @cython.locals(
        windows=list, single=dict, several=dict, closed_of=dict, held_of=dict, visitor_id=str, known=OpenSession,
        only=OpenSession, closed=OpenSession,
    )
    cpdef list sessions_of(self, dict visitors)
    @cython.locals(changed=dict, single=dict, several=dict, closed_of=dict, gone=list)
    cpdef tuple take_changed(self)
    @cython.locals(clock=PartitionClock)
    cpdef int64_t arrive(self, int64_t arrival_ms) except? -1
    @cython.locals(timestamp=int64_t, window=OpenSession, is_login=bint)
    cpdef add(self, str visitor_id, Click click, int64_t offset, str user_id=*, bint crawler=*)
    @cython.locals(at=int64_t, window=OpenSession)
    cpdef int tell_dwell(self, str visitor_id, Click told) except -1
    cpdef int64_t next_early(self) noexcept
    cpdef int pass_over(self, int64_t timestamp) except -1
    @cython.locals(window=OpenSession, due=OpenSession)
    cpdef list close_due(self, Py_ssize_t limit)

    @cython.locals(now=int64_t)
    cdef object _refusal(self, int64_t timestamp)
    @cython.locals(timestamp=int64_t, earlier=OpenSession, window=OpenSession, foreign=OpenSession, each=OpenSession, cap=str, union_cap=str)
    cdef object _place(self, str visitor_id, Click click, bytes id_hash, int64_t offset, str user_id)
    @cython.locals(visitor_id=str, is_alone=bint)
    cdef int _note_change(self, OpenSession window) except -1
    cdef bint _is_duplicate(self, str visitor_id, bytes id_hash, OpenSession earlier, OpenSession window) except -1
    @cython.locals(closed=OpenSession)
    cdef bint _has_closed(self, str visitor_id, bytes id_hash) except -1
    @cython.locals(before=OpenSession, after=OpenSession, each=OpenSession)
    cdef tuple _neighbours(self, str visitor_id, int64_t timestamp, str user_id)
    cdef int _open_again(self, OpenSession window) except -1
    cdef int _let_go(self, OpenSession window) except -1
    cdef int _count_revised(self, OpenSession window, int64_t records) except -1
    cdef bint _touches(self, OpenSession window, int64_t timestamp) noexcept
    @cython.locals(window=OpenSession)
    cdef OpenSession _start(self, str visitor_id, Click click, bytes id_hash, int64_t offset)
    cdef int _merge(self, OpenSession earlier, OpenSession later) except -1
    @cython.locals(events=Py_ssize_t)
    cdef str _cap_hit(self, OpenSession earlier, OpenSession later, int64_t timestamp)
    cdef int _close_now(self, OpenSession window, str reason) except -1
    @cython.locals(other=OpenSession)
    cdef int _remember(self, OpenSession window) except -1
    @cython.locals(clock=PartitionClock, risen=int64_t)
    cdef int _advance(self, int64_t timestamp) except -1
    cdef int _find_due(self) except -1
    cdef int _leave_due(self, list windows, str reason) except -1
    @cython.locals(ending=list, visitor_id=str, window=OpenSession, window_end=int64_t)
    cdef list _ending_by(self, int64_t horizon)
    @cython.locals(closes_at=int64_t)
    cdef int64_t _closing_time(self, OpenSession window) except? -1
    cdef list _in_closing_order(self, list windows)
    cdef str _tie_breaker(self, OpenSession window)
    cdef list _close(self, OpenSession window)
    @cython.locals(records=list, other=OpenSession, latest=OpenSession)
    cdef list _records(self, OpenSession window, str reason, int64_t closed_at)
    @cython.locals(each=OpenSession, latest=OpenSession)
    cdef OpenSession _latest_after(self, OpenSession window)
    cdef list _again(self, OpenSession latest, int64_t now)
    cdef int _detach(self, OpenSession window) except -1


cdef bint _differ(str a, str b) except -1
cdef int64_t _end(OpenSession window) noexcept
