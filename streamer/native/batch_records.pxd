from libc.stdint cimport int64_t, uint8_t


cdef class BatchRecord:
    cdef readonly int64_t offset
    cdef readonly int64_t timestamp
    cdef readonly int timestamp_type
    cdef bytes _lies_in
    cdef const uint8_t* _key
    cdef const uint8_t* _value
    cdef int64_t _key_bytes
    cdef int64_t _value_bytes
    cdef list _headers

    cdef bytes copied_value(self)
    cdef object shared_headers(self)
