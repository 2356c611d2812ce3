cimport cython

from schemas.flat cimport FlatWriter


cdef class RecordWriter:
    cdef FlatWriter _shared, _vector, _labels
    cdef bytes _of_embedding, _of_intent, _of_visitor

    @cython.locals(shared=bytes, vector=bytes, labels=bytes)
    cpdef write(self, session, scored)
