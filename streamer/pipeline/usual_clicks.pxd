from cpython.object cimport PyObject
from libc.stdint cimport int64_t

cdef enum:
    CLICK_FIELDS = 13

cdef struct Usual:
    # What a click becomes, before it is an object; borrowed from what it was decoded from.
    int64_t timestamp
    PyObject* visitor_id
    PyObject* user_id
    PyObject* crawler
    PyObject* click[CLICK_FIELDS]  # its fields in order, but the timestamp


cdef class UsualClicks:
    cdef object wire, arrived, parse, read, finish, avro_values
    cdef bytes avro_start
    cdef dict paths, numbered_paths, queries, hosts, labels, crawlers
    cdef Py_ssize_t max_bytes, deep_from_bytes, max_depth, max_id_bytes, max_product_bytes
    cdef Py_ssize_t fewest_digits, most_digits
    cdef int64_t max_dwell_ms
    cdef bint is_json[256]
    cdef Py_ssize_t visitor_id, timestamp, event_type, event_id, sent_at, page_type, page_url, search_query
    cdef Py_ssize_t element, referrer, dwell_ms, product_id, category, price, device, user_agent, user_id, consent

    cdef object read_usual(self, value)
    cdef bint has_consent(self, wire) noexcept
    cdef bint look_up(self, wire, bint has_arrival, int64_t arrival, str fallback_id, Usual* usual) except -1
    cdef bint is_avro(self, const unsigned char* data, Py_ssize_t size) noexcept
    cdef object wire_of(self, list values)
    cdef bint time_of(self, wire, bint has_arrival, int64_t arrival, int64_t* time) except -1
    cdef PyObject* path(self, PyObject* url) except? NULL
    cdef PyObject* host(self, PyObject* referrer) except? NULL
    cdef bint is_usual_number(self, url, Py_ssize_t start, Py_ssize_t end) noexcept
    cdef bint is_plain(self, PyObject* dwell_ms) except -1
