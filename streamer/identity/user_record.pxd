cimport cython
from libc.stdint cimport int64_t

from streamer.schemas.binary cimport BinaryEncoder
from streamer.identity.packed cimport PackedSession, SessionMessage, Texts, encoded_text

cdef Py_ssize_t _DOUBLE_BYTES
cdef bytes _PREFIX, _LOGIN, _END


@cython.final
cdef class HeldSession:
    cdef readonly PackedSession session
    cdef readonly bint is_login
    cdef readonly double confidence
    cdef double weight
    cdef Py_ssize_t _attribution_at

    @cython.locals(data=bytes)
    cdef int write_attribution(self, BinaryEncoder encoder) except -1
    @cython.locals(data=bytes)
    cdef int write_past(self, BinaryEncoder encoder) except -1


@cython.locals(encoder=BinaryEncoder)
cpdef bytes held_session(SessionMessage message, str attribution, double confidence, Texts texts)
@cython.locals(counting=list, visitors=set, latest=HeldSession, each=HeldSession, encoder=BinaryEncoder)
cpdef user_record(str user_id, held, rules, Texts texts)
@cython.locals(oldest=int64_t, each=HeldSession, newest=HeldSession)
cdef list _within_history(list newest_first, rules)
@cython.locals(
    latest=PackedSession, of_taxonomy=list, of_space=list, each=HeldSession, age=double,
    taxonomy_total=double, space_total=double,
)
cdef int _write_profile(BinaryEncoder encoder, list sessions, double half_life, Texts texts) except -1
@cython.locals(
    packed=bytearray, numbers="int[::1]", probabilities="float[::1]", sums="double[::1]", names="int[::1]", seen=list,
    at=Py_ssize_t, each=HeldSession, count=Py_ssize_t, place=Py_ssize_t, number=Py_ssize_t, ranked=list,
    negative=double,
)
cdef int _write_intents(BinaryEncoder encoder, list sessions, double total, list known) except -1
@cython.locals(
    size=Py_ssize_t, floats="float[::1]", sums="double[::1]", at=Py_ssize_t, each=HeldSession,
    place=Py_ssize_t,
)
cdef int _write_vector(BinaryEncoder encoder, list sessions, double total) except -1
