# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""The usual click in C: whole numbers for times, and texts that are all remembered.

Whatever else comes goes to the Python it stands beside, `ClickDecoder`, which says what every click becomes.
Nothing is looked up twice here and no text is made but those that are looked up.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from libc.math cimport isfinite
from libc.string cimport memcmp

from schemas.click import Click
from schemas.slots cimport offset_of, slot

cdef extern from "Python.h":
    object PyObject_Vectorcall(object, PyObject**, size_t, PyObject*)
    long long PyLong_AsLongLongAndOverflow(object, int*) except? -1
    Py_UCS4 PyUnicode_READ_CHAR(object, Py_ssize_t)
    object PyUnicode_Substring(object, Py_ssize_t, Py_ssize_t)
    Py_ssize_t PyUnicode_FindChar(object, Py_UCS4, Py_ssize_t, Py_ssize_t, int) except -2
    Py_ssize_t PyUnicode_GET_LENGTH(object)
    bint PyUnicode_IS_ASCII(object)
    PyObject** PySequence_Fast_ITEMS(object)

cdef long long FAR = 1 << 60
"""Times nearer than this, ms, can be added up without leaving 64 bits."""


cdef class UsualClicks:
    """The tables are the decoder's own, and only read."""

    cdef object wire, arrived, parse, read, finish, avro_values
    cdef bytes avro_start
    cdef dict paths, numbered_paths, queries, hosts, labels, crawlers
    cdef Py_ssize_t max_bytes, deep_from_bytes, max_depth, max_id_bytes, max_product_bytes
    cdef Py_ssize_t fewest_digits, most_digits
    cdef long long max_dwell_ms
    cdef bint is_json[256]
    cdef Py_ssize_t visitor_id, timestamp, event_type, event_id, sent_at, page_type, page_url, search_query
    cdef Py_ssize_t element, referrer, dwell_ms, product_id, category, price, device, user_agent, user_id, consent

    def __init__(
        self, *, wire, arrived, parse, read, finish, tables, avro_values, bytes avro_start, bytes json_starts,
        Py_ssize_t max_bytes, Py_ssize_t deep_from_bytes, Py_ssize_t max_depth, number_digits,
        Py_ssize_t max_id_bytes, Py_ssize_t max_product_bytes, long long max_dwell_ms,
    ):
        """`tables`: what is known of paths, numbered paths, queries, hosts, labels and crawlers."""
        cdef unsigned char byte
        self.wire, self.arrived, self.parse, self.read, self.finish = wire, arrived, parse, read, finish
        self.paths, self.numbered_paths, self.queries, self.hosts, self.labels, self.crawlers = tables
        self.avro_values, self.avro_start = avro_values, avro_start
        self.max_bytes, self.deep_from_bytes, self.max_depth = max_bytes, deep_from_bytes, max_depth
        self.max_id_bytes, self.max_product_bytes = max_id_bytes, max_product_bytes
        self.max_dwell_ms = max_dwell_ms
        self.fewest_digits, self.most_digits = min(number_digits), max(number_digits)
        for byte in json_starts:
            self.is_json[byte] = True
        self.visitor_id = offset_of(wire, "visitor_id")
        self.timestamp = offset_of(wire, "timestamp")
        self.event_type = offset_of(wire, "event_type")
        self.event_id = offset_of(wire, "event_id")
        self.sent_at = offset_of(wire, "sent_at")
        self.page_type = offset_of(wire, "page_type")
        self.page_url = offset_of(wire, "page_url")
        self.search_query = offset_of(wire, "search_query")
        self.element = offset_of(wire, "element")
        self.referrer = offset_of(wire, "referrer")
        self.dwell_ms = offset_of(wire, "dwell_ms")
        self.product_id = offset_of(wire, "product_id")
        self.category = offset_of(wire, "category")
        self.price = offset_of(wire, "price")
        self.device = offset_of(wire, "device")
        self.user_agent = offset_of(wire, "user_agent")
        self.user_id = offset_of(wire, "user_id")
        self.consent = offset_of(wire, "consent")

    def decode(self, value, arrival, str fallback_id not None):
        """As `ClickDecoder.decode`."""
        cdef object wire = self.read_usual(value), click
        if <object>slot(wire, self.consent) is False:
            return None
        click = self.usual(wire, arrival, fallback_id)
        return self.finish(wire, arrival, fallback_id) if click is None else click

    cdef object read_usual(self, value):
        """What usually has no errors is read here; anything else, errors included, where reasons are given."""
        cdef const unsigned char* data
        cdef Py_ssize_t size
        if type(value) is bytes:
            data, size = <const unsigned char*>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
            if 0 < size <= self.max_bytes:
                try:
                    if self.is_json[data[0]]:
                        if size < self.deep_from_bytes or brackets(data, size) <= self.max_depth:
                            return self.parse(value)
                    elif self.is_avro(data, size):
                        return self.wire_of(self.avro_values(value, len(self.avro_start)))
                except Exception:
                    pass
        return self.read(value)

    cdef bint is_avro(self, const unsigned char* data, Py_ssize_t size) noexcept:
        """Whether it is a click of the current schema."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(self.avro_start)
        return 0 < length <= size and memcmp(data, PyBytes_AS_STRING(self.avro_start), length) == 0

    cdef object wire_of(self, list values):
        """Of an Avro record: its fields, all of them, in the schema's order."""
        cdef object wire = PyObject_Vectorcall(self.wire, PySequence_Fast_ITEMS(values), len(values), NULL)
        cdef object price = <object>slot(wire, self.price)
        if price is not None and not isfinite(<double>price):
            wire.price = None
        return wire

    cdef object usual(self, wire, arrival, str fallback_id):
        """The click as it arrives; None if there is more to it."""
        cdef PyObject* fields[13]
        cdef PyObject* around[4]
        cdef PyObject* user_agent = slot(wire, self.user_agent)
        cdef object timestamp = self.time_of(wire, arrival)
        cdef int i
        around[0] = slot(wire, self.visitor_id)
        around[1] = none_if_empty(slot(wire, self.user_id))
        around[2] = PyDict_GetItemWithError(self.crawlers, <object>user_agent)
        fields[0] = <PyObject*>timestamp
        fields[1] = none_if_empty(slot(wire, self.event_id))
        if fields[1] == <PyObject*>None:
            fields[1] = <PyObject*>fallback_id
        fields[2] = known(self.labels, slot(wire, self.event_type))
        fields[3] = known(self.labels, slot(wire, self.page_type))
        fields[4] = self.path(slot(wire, self.page_url))
        fields[5] = slot(wire, self.dwell_ms)
        fields[6] = known(self.queries, slot(wire, self.search_query))
        fields[7] = known(self.labels, slot(wire, self.element))
        fields[8] = known(self.labels, slot(wire, self.category))
        fields[9] = none_if_empty(slot(wire, self.product_id))
        fields[10] = slot(wire, self.price)
        fields[11] = known(self.labels, slot(wire, self.device))
        fields[12] = self.host(slot(wire, self.referrer))
        if (
            timestamp is None
            or around[2] == NULL
            or fields[2] == <PyObject*>None
            or not PyUnicode_GET_LENGTH(<object>around[0])
            or not fits(around[0], self.max_id_bytes)
            or not fits(around[1], self.max_id_bytes)
            or not fits(fields[1], self.max_id_bytes)
            or not fits(fields[9], self.max_product_bytes)
            or not self.is_plain(fields[5])
        ):
            return None
        for i in range(13):
            if fields[i] == NULL:
                return None
        cdef object click = PyObject_Vectorcall(Click, fields, 13, NULL)
        around[3] = <PyObject*>click
        return PyObject_Vectorcall(self.arrived, around, 4, NULL)

    cdef object time_of(self, wire, arrival):
        """Corrected by `sent_at`; None for a time that isn't a whole number of a usual size."""
        cdef object timestamp = <object>slot(wire, self.timestamp), sent_at = <object>slot(wire, self.sent_at)
        if not is_near(timestamp):
            return None
        if sent_at is None:
            return timestamp
        if not is_near(sent_at):
            return None
        return timestamp if arrival is None else arrival - (sent_at - timestamp)

    cdef PyObject* path(self, PyObject* url) except? NULL:
        """Borrowed; NULL if neither the address nor what is before its number is remembered."""
        cdef Py_ssize_t end, slash
        cdef PyObject* found
        if url == <PyObject*>None:
            return url
        end = before_query(<object>url)
        slash = PyUnicode_FindChar(<object>url, c"/", 0, end, -1)
        if slash >= 0 and self.is_usual_number(<object>url, slash + 1, end):
            found = PyDict_GetItemWithError(self.numbered_paths, PyUnicode_Substring(<object>url, 0, slash))
            if found != NULL and found != <PyObject*>None:
                return found
        return PyDict_GetItemWithError(self.paths, PyUnicode_Substring(<object>url, 0, end))

    cdef PyObject* host(self, PyObject* referrer) except? NULL:
        """Borrowed; NULL if it isn't remembered."""
        if referrer == <PyObject*>None:
            return referrer
        cdef object address = PyUnicode_Substring(<object>referrer, 0, before_query(<object>referrer))
        return PyDict_GetItemWithError(self.hosts, address)

    cdef bint is_usual_number(self, url, Py_ssize_t start, Py_ssize_t end) noexcept:
        cdef Py_ssize_t i
        if not self.fewest_digits <= end - start <= self.most_digits:
            return False
        for i in range(start, end):
            if not c"0" <= PyUnicode_READ_CHAR(url, i) <= c"9":
                return False
        return True

    cdef bint is_plain(self, PyObject* dwell_ms) except -1:
        """Whether a dwell is none at all or a whole number of ms that is kept."""
        if dwell_ms == <PyObject*>None:
            return True
        return is_near(<object>dwell_ms) and 0 <= <long long><object>dwell_ms <= self.max_dwell_ms


cdef inline PyObject* known(dict table, PyObject* text) except? NULL:
    """Borrowed; NULL if the text isn't remembered. Nothing is made of no text."""
    return text if text == <PyObject*>None else PyDict_GetItemWithError(table, <object>text)


cdef inline Py_ssize_t brackets(const unsigned char* data, Py_ssize_t size) noexcept:
    """How many open, in texts as well."""
    cdef Py_ssize_t count = 0, i
    for i in range(size):
        count += data[i] == c"{" or data[i] == c"["
    return count


cdef inline bint is_near(time) except -1:
    """Whether it is a whole number, and sums of a few such stay within 64 bits."""
    cdef int overflow = 0
    cdef long long ms
    if type(time) is not int:
        return False
    ms = PyLong_AsLongLongAndOverflow(time, &overflow)
    return not overflow and -FAR < ms < FAR


cdef inline PyObject* none_if_empty(PyObject* text) noexcept:
    if text != <PyObject*>None and not PyUnicode_GET_LENGTH(<object>text):
        return <PyObject*>None
    return text


cdef inline bint fits(PyObject* text, Py_ssize_t max_bytes) noexcept:
    """Whether a text surely takes no more bytes than that; no text does."""
    if text == <PyObject*>None or PyUnicode_GET_LENGTH(<object>text) * 4 <= max_bytes:
        return True
    return PyUnicode_IS_ASCII(<object>text) and PyUnicode_GET_LENGTH(<object>text) <= max_bytes


cdef inline Py_ssize_t before_query(str url) except -2:
    """How many characters of an address are kept: up to its question mark."""
    cdef Py_ssize_t mark = PyUnicode_FindChar(url, c"?", 0, PyUnicode_GET_LENGTH(url), 1)
    return PyUnicode_GET_LENGTH(url) if mark == -1 else mark
