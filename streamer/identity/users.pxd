cimport cython
from libc.stdint cimport int64_t

from streamer.identity.packed cimport PackedSession, SessionMessage, Texts, encoded_text
from streamer.identity.user_record cimport HeldSession, held_session, user_record


@cython.final
cdef class UserStage:
    cdef readonly object progress
    cdef readonly bint has_provisional
    cdef object _rules
    cdef Texts _texts
    cdef dict _held, _changed, _states
    cdef int64_t _withdrawn

    cpdef apply(self, str user_id, change)
    cpdef record(self, str user_id)
    cdef _withdraw(self, str user_id, list sessions)
    @cython.locals(session=SessionMessage, state=bytes, replaced=list)
    cdef _attribute(self, str user_id, change)
    @cython.locals(held=list)
    cdef _hold(self, str user_id, str session_id, bytes state)
    @cython.locals(state=bytes, held=list, each=HeldSession)
    cdef _drop(self, str user_id, list sessions)
    @cython.locals(wanted=bytes, other=bytes)
    cdef list _with_ids(self, str user_id, str session_id, str other_id)
    @cython.locals(wanted=bytes)
    cdef list _of_visitor(self, str user_id, unlinked)
    cdef _go_on_until(self, int64_t closed_at)


@cython.locals(session=PackedSession)
cdef bint _is_erased(HeldSession held, int64_t until) except -1
cdef bint _is_of(PackedSession session, bytes visitor_id, int64_t until) except -1
cdef str _key(str user_id, str session_id)
