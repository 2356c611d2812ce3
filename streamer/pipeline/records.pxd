cimport cython

from streamer.schemas.binary cimport BinaryEncoder
from streamer.schemas.click cimport Session
from streamer.schemas.flat cimport FlatWriter


cdef class RecordWriter:
    cdef FlatWriter _shared, _vector, _labels, _reasons
    cdef str _prototypes_version
    cdef bytes _of_embedding, _of_intent, _of_visitor

    @cython.locals(encoder=BinaryEncoder, shared=Py_ssize_t, vector=Py_ssize_t)
    cpdef write(self, Session session, scored)
