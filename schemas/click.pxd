cimport cython
from libc.stdint cimport int64_t


@cython.final
cdef class Click:
    cdef readonly int64_t timestamp
    cdef readonly str event_id
    cdef readonly str event_type
    cdef readonly str page_type
    cdef readonly str path
    cdef readonly cython.py_int dwell_ms
    cdef readonly str search_query
    cdef readonly str element
    cdef readonly str category
    cdef readonly str product_id
    cdef readonly cython.py_float price
    cdef readonly str device
    cdef readonly str referrer
    cdef readonly dict extras


@cython.final
cdef class Session:
    cdef readonly str session_id
    cdef readonly str visitor_id
    cdef readonly str user_id
    cdef readonly int64_t started_at
    cdef readonly int64_t ended_at
    cdef readonly int64_t closed_at
    cdef readonly int64_t event_count
    cdef readonly str close_reason
    cdef readonly bint is_bot
    cdef readonly list clicks
    cdef readonly bint is_final
    cdef readonly int64_t revision
    cdef readonly str supersedes

    cpdef tuple row(self)
