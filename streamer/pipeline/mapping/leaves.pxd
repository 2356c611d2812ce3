cimport cython

from streamer.pipeline.mapping.path cimport walk


@cython.final
cdef class LeafReader:
    cdef list _heads
    cdef list _paths
    cdef list _objects
    cdef object _parse

    @cython.locals(leaves=list, parent=Py_ssize_t, slot=Py_ssize_t, values=tuple)
    cpdef list read(self, bytes value)
    cdef list _read_any(self, bytes value)


@cython.final
cdef class ColumnReader:
    cdef list _wanted
    cdef object _cells

    cpdef list read(self, bytes value)
