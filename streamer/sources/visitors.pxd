from streamer.pipeline.decode cimport ClickDecoder, is_too_deep

cdef int _LAST_MAGIC
cdef bytes _SENT_AT
cdef Py_ssize_t MAX_ID_BYTES


cdef class ClickVisitors:
    cdef ClickDecoder _decoder
    cdef object _whole
    cdef Py_ssize_t _max_bytes
    cdef object _whose
    cdef object _may_have_sent_at

    cpdef bytes of(self, bytes value, object headers)
    cpdef bint may_have_sent_at(self, bytes value) except -1
