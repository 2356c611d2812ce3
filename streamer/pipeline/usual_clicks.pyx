# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""The usual click in C: whole numbers for times, and texts that are all remembered.

Whatever else comes goes to the Python it stands beside, `ClickDecoder`, which says what every click becomes.
Nothing is looked up twice here and no text is made but those that are looked up.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from libc.math cimport isfinite
from libc.stdint cimport int64_t
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

cdef int64_t FAR = 1 << 60
"""Times nearer than this, ms, can be added up without leaving 64 bits."""


cdef class UsualClicks:
    """The tables are the decoder's own, and only read."""

    def __init__(
        self, *, wire, arrived, parse, read, finish, tables, avro_values, bytes avro_start, bytes json_starts,
        Py_ssize_t max_bytes, Py_ssize_t deep_from_bytes, Py_ssize_t max_depth, number_digits,
        Py_ssize_t max_id_bytes, Py_ssize_t max_product_bytes, int64_t max_dwell_ms,
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
        cdef object wire = self.read_usual(value), timestamp, click
        cdef int64_t arrival_ms = 0
        cdef Usual usual
        cdef PyObject* around[4]
        if not self.has_consent(wire):
            return None
        if (arrival is not None and not as_near(arrival, &arrival_ms)) or not self.look_up(
            wire, arrival is not None, arrival_ms, fallback_id, &usual
        ):
            return self.finish(wire, arrival, fallback_id)
        timestamp = usual.timestamp
        usual.click[0] = <PyObject*>timestamp
        click = PyObject_Vectorcall(Click, usual.click, CLICK_FIELDS, NULL)
        around[0], around[1], around[2], around[3] = usual.visitor_id, usual.user_id, usual.crawler, <PyObject*>click
        return PyObject_Vectorcall(self.arrived, around, 4, NULL)

    cdef bint has_consent(self, wire) noexcept:
        return <object>slot(wire, self.consent) is not False

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

    cdef bint look_up(self, wire, bint has_arrival, int64_t arrival, str fallback_id, Usual* usual) except -1:
        """The click as it arrives; False if there is more to it."""
        cdef PyObject** click = usual.click
        cdef int i
        usual.visitor_id = slot(wire, self.visitor_id)
        usual.user_id = none_if_empty(slot(wire, self.user_id))
        usual.crawler = PyDict_GetItemWithError(self.crawlers, <object>slot(wire, self.user_agent))
        click[1] = none_if_empty(slot(wire, self.event_id))
        if click[1] == <PyObject*>None:
            click[1] = <PyObject*>fallback_id
        click[2] = known(self.labels, slot(wire, self.event_type))
        click[3] = known(self.labels, slot(wire, self.page_type))
        click[4] = self.path(slot(wire, self.page_url))
        click[5] = slot(wire, self.dwell_ms)
        click[6] = known(self.queries, slot(wire, self.search_query))
        click[7] = known(self.labels, slot(wire, self.element))
        click[8] = known(self.labels, slot(wire, self.category))
        click[9] = none_if_empty(slot(wire, self.product_id))
        click[10] = slot(wire, self.price)
        click[11] = known(self.labels, slot(wire, self.device))
        click[12] = self.host(slot(wire, self.referrer))
        for i in range(1, CLICK_FIELDS):
            if click[i] == NULL:
                return False
        return (
            self.time_of(wire, has_arrival, arrival, &usual.timestamp)
            and usual.crawler != NULL
            and click[2] != <PyObject*>None
            and PyUnicode_GET_LENGTH(<object>usual.visitor_id) > 0
            and fits(usual.visitor_id, self.max_id_bytes)
            and fits(usual.user_id, self.max_id_bytes)
            and fits(click[1], self.max_id_bytes)
            and fits(click[9], self.max_product_bytes)
            and self.is_plain(click[5])
        )

    cdef bint time_of(self, wire, bint has_arrival, int64_t arrival, int64_t* time) except -1:
        """Corrected by `sent_at`; False for a time that isn't a whole number of a usual size."""
        cdef PyObject* sent_at = slot(wire, self.sent_at)
        cdef int64_t sent
        if not as_near(<object>slot(wire, self.timestamp), time):
            return False
        if sent_at != <PyObject*>None:
            if not as_near(<object>sent_at, &sent):
                return False
            if has_arrival:
                time[0] += arrival - sent
        return True

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
        cdef int64_t ms
        if dwell_ms == <PyObject*>None:
            return True
        return as_near(<object>dwell_ms, &ms) and 0 <= ms <= self.max_dwell_ms


cdef inline PyObject* known(dict table, PyObject* text) except? NULL:
    """Borrowed; NULL if the text isn't remembered. Nothing is made of no text."""
    return text if text == <PyObject*>None else PyDict_GetItemWithError(table, <object>text)


cdef inline Py_ssize_t brackets(const unsigned char* data, Py_ssize_t size) noexcept:
    """How many open, in texts as well."""
    cdef Py_ssize_t count = 0, i
    for i in range(size):
        count += data[i] == c"{" or data[i] == c"["
    return count


cdef inline bint as_near(time, int64_t* ms) except -1:
    """Whether it is a whole number, which goes to `ms`, and sums of a few such stay within 64 bits."""
    cdef int overflow = 0
    if type(time) is not int:
        return False
    ms[0] = PyLong_AsLongLongAndOverflow(time, &overflow)
    return not overflow and -FAR < ms[0] < FAR


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
