cimport cython

from streamer.core.session cimport OpenSession


@cython.final
cdef class OpenWindows:
    cdef readonly dict single
    cdef readonly dict several

    @cython.locals(only=OpenSession)
    cpdef list of(self, str visitor_id)
    @cython.locals(visitor_id=str)
    cpdef int insert(self, OpenSession window) except -1
    @cython.locals(visitor_id=str)
    cpdef int remove(self, OpenSession window) except -1
