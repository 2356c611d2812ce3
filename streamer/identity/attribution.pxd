cimport cython
from libc.stdint cimport int64_t

from streamer.identity.packed cimport SessionMessage, Texts


@cython.final
cdef class AttributionStage:
    cdef readonly object progress
    cdef readonly bint has_provisional
    cdef object _rules
    cdef Texts _texts
    cdef readonly dict _states
    cdef object _by_day
    cdef int64_t _next_day
    cdef list _changes
    cdef set _changed
    cdef int64_t _refused

    @cython.locals(session=SessionMessage)
    cpdef session(self, bytes message)
    cdef _login(self, str user_id, SessionMessage session, bytes message)
    cdef _bot(self, str user_id, SessionMessage session)
    cdef _anonymous(self, SessionMessage session)
    cdef _settle(self, str visitor_id, state)
    cdef _answer(self, session, answer)
    cdef bint _is_erased(self, str visitor_id, int64_t at) except -1
    cdef _sessions_read_until(self, int64_t closed_at)
    cdef _state(self, str visitor_id)
    @cython.locals(is_new=bint)
    cdef _keep(self, str visitor_id, state)
    @cython.locals(day=int64_t)
    cdef _schedule(self, str visitor_id, int64_t next_prune)
    cdef _forget_old(self)
