cimport cython
from libc.stdint cimport int64_t

from streamer.schemas.click cimport Click
from streamer.native.brackets cimport openings
from streamer.pipeline.normalize cimport Memo, Paths, before_query, cut

cdef Py_ssize_t _SURELY_SHORT
cdef Py_ssize_t _DEEP_FROM_BYTES
cdef int _LAST_MAGIC
cdef object _MIN_INT64, _MAX_INT64
cdef object astuple


@cython.final
cdef class Arrived:
    cdef readonly str visitor_id
    cdef readonly str user_id
    cdef readonly bint crawler
    cdef readonly bint is_click
    cdef readonly Click click


cdef class ClickDecoder:
    cdef bytes _json_starts
    cdef bytes _avro_starts
    cdef Py_ssize_t _max_bytes
    cdef Py_ssize_t _max_declined_bytes
    cdef object _read_mapped
    cdef object _visitor
    cdef object _registered
    cdef object _extras
    cdef object _properties
    cdef object _parse_json
    cdef Paths _paths
    cdef Memo _queries
    cdef Memo _hosts
    cdef Memo _labels
    cdef Memo _crawlers

    @cython.locals(
        visitor_id=str, event_type=str, event_id=str, page_type=str, page_url=str, query=str, element=str,
        referrer=str, product_id=str, category=str, device=str, user_agent=str, user_id=str, at=int64_t,
        labels=Memo, event_label=str, click=Click, arrived=Arrived,
    )
    cpdef Arrived decode(self, bytes value, object arrival, str fallback_id)
    cdef Arrived _dwell(self, str visitor_id, object timestamp, object sent_at, object arrival, str page_url, object dwell_ms)
    cdef tuple _read(self, bytes value)
    cdef tuple _read_fields(self, bytes value)
    cdef tuple _read_json(self, bytes value)
    cdef tuple _read_other(self, bytes value)
    cdef tuple _read_registered(self, bytes value)
    cdef tuple _read_own(self, bytes value)
    cdef tuple _read_avro(self, bytes value)


cpdef bint is_too_deep(bytes value) except -1
cpdef Click with_event_id(Click click, str event_id)
cdef int64_t _event_time(object timestamp, object sent_at, object arrival) except? -1
cdef object _dwell_ms(object value)
cdef object _to_ms(object value, str field)
cdef int _check_size(str field, str value) except -1
