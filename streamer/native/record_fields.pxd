from libc.stdint cimport int64_t

cpdef int64_t offset_of(object record) except? -1
cpdef int64_t timestamp_of(object record) except? -1
cpdef object value_of(object record)
cpdef object headers_of(object record)
