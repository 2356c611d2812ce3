cimport cython
from libc.stdint cimport int64_t

from streamer.core.session cimport OpenSession
from streamer.native.collector cimport untracked


@cython.final
cdef class StateLog:
    cdef object _groups
    cdef dict _latest
    cdef Py_ssize_t _snapshots

    cpdef int committed(self, object commit_number, object offset, list visitors, list gone) except -1
    @cython.locals(visitors=list, last=list, excess=Py_ssize_t, room=Py_ssize_t)
    cpdef list stale(self, Py_ssize_t changed)
    @cython.locals(visitors=list)
    cdef object _drop_empty(self)


@cython.locals(chunks=list, start=Py_ssize_t, size=Py_ssize_t, end=Py_ssize_t, window=OpenSession)
cpdef list in_chunks(list windows)
@cython.locals(window=OpenSession)
cpdef list rows_of(list windows)
