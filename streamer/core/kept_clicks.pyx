# cython: language_level=3, boundscheck=False, wraparound=False
"""`kept.decode_clicks`, compiled: of texts that come again and again there is one object.

Clicks of all visitors are of few pages, types and places: to make these texts anew for each click that closes,
and to throw them away again, would take a quarter of the time of reading it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from schemas.click import Click
from streamer.core.click_codec import decode_clicks as decode_in_python

cdef extern from "Python.h":
    PyObject* PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors) except NULL
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    PyObject* PyLong_FromUnsignedLongLong(uint64_t value) except NULL
    PyObject* PyFloat_FromDouble(double value) except NULL
    object PyObject_Vectorcall(object, PyObject**, size_t, PyObject*)

cdef enum:
    FIELDS = 13
    EVENT_ID = 1
    UUID_BYTES = 16
    UUID_TEXT = 36
    PLACES = 4096
    LONGEST = 64  # bytes of a text that is worth to be remembered

cdef enum Kind:
    NIL = 1
    NUMBER = 2
    REAL = 4
    TEXT = 8

cdef int KINDS[FIELDS]
"""That a field may have."""
for _number, _field in enumerate(Click.__annotations__.values()):
    KINDS[_number] = sum(
        kind
        for kind, name in ((NIL, "None"), (NUMBER, "int"), (REAL, "float"), (TEXT, "str"))
        if name in _field.split(" | ")
    )
if len(Click.__struct_fields__) != FIELDS:
    raise ImportError("a click has other fields than when this was compiled")

cdef const char* DIGITS = "0123456789abcdef"
cdef PyObject* remembered[PLACES]
"""Texts by a hash of their bytes; the latest has the place."""


cpdef list decode_clicks(Py_ssize_t count, bytes kept):
    cdef const uint8_t* at = <const uint8_t*> PyBytes_AS_STRING(kept)
    cdef const uint8_t* end = at + PyBytes_GET_SIZE(kept)
    cdef list clicks = []
    while at != end:
        click = decode_click(&at, end)
        if click is None:
            break
        clicks.append(click)
    return clicks if at == end and len(clicks) == count else decode_in_python(count, kept)


cdef object decode_click(const uint8_t** start, const uint8_t* end):
    """None for one that Python has to have a look at."""
    cdef PyObject* fields[FIELDS]
    cdef const uint8_t* at = start[0]
    cdef int number, count = at[0] & 0x0f
    cdef bint is_usual = at[0] & 0xf0 == 0x90 and count <= FIELDS
    cdef object click = None
    at += 1
    for number in range(FIELDS):
        fields[number] = NULL
    try:
        if is_usual:
            for number in range(FIELDS):
                if number < count:
                    fields[number] = value(&at, end, number)
                elif KINDS[number] & NIL:
                    fields[number] = <PyObject*> None
                    Py_INCREF(None)
                if fields[number] == NULL:
                    break
            else:
                click = PyObject_Vectorcall(Click, fields, FIELDS, NULL)
                start[0] = at
    finally:
        for number in range(FIELDS):
            if fields[number] != NULL:
                Py_DECREF(<object> fields[number])
    return click


cdef PyObject* value(const uint8_t** start, const uint8_t* end, int field) except? NULL:
    """A new reference; NULL, and no error, for what isn't all there or isn't as `encode_click` writes it."""
    cdef const uint8_t* at = start[0]
    cdef Py_ssize_t size = 0, left = end - at - 1
    cdef int kind
    cdef uint8_t first
    if left < 0:
        return NULL
    first = at[0]
    at += 1
    if first < 0x80:
        kind = NUMBER
    elif 0xa0 <= first < 0xc0:
        kind, size = TEXT, first & 0x1f
    elif first == 0xc0:
        kind = NIL
    elif 0xcc <= first <= 0xcf:
        kind, size = NUMBER, 1 << (first - 0xcc)
    elif first == 0xcb:
        kind, size = REAL, 8
    elif first == 0xd9 and left > 1:
        kind, size = TEXT, at[0]
        at += 1
        left -= 1
    elif first == 0xda and left > 2:
        kind, size = TEXT, at[0] << 8 | at[1]
        at += 2
        left -= 2
    elif first == 0xc4 and field == EVENT_ID and left > UUID_BYTES and at[0] == UUID_BYTES:
        start[0] = at + 1 + UUID_BYTES
        return uuid(at + 1)
    else:
        return NULL
    if size > left or not kind & KINDS[field]:
        return NULL
    start[0] = at + size
    if kind == TEXT:
        if field == EVENT_ID or size > LONGEST:
            return PyUnicode_DecodeUTF8(<const char*> at, size, NULL)
        return text(at, size)
    if kind == NIL:
        Py_INCREF(None)
        return <PyObject*> None
    if kind == REAL:
        return real(big_endian(at, 8))
    return PyLong_FromUnsignedLongLong(big_endian(at, size) if size else first)


cdef inline uint64_t big_endian(const uint8_t* at, Py_ssize_t size) noexcept:
    cdef uint64_t number = 0
    cdef Py_ssize_t each
    for each in range(size):
        number = number << 8 | at[each]
    return number


cdef inline PyObject* real(uint64_t bits) except NULL:
    cdef double number
    memcpy(&number, &bits, 8)
    return PyFloat_FromDouble(number)


cdef inline PyObject* text(const uint8_t* at, Py_ssize_t size) except NULL:
    """One that is remembered, or will be."""
    cdef uint32_t place = 2166136261
    cdef const char* known
    cdef Py_ssize_t each, known_size
    cdef PyObject* found
    for each in range(size):
        place = (place ^ at[each]) * 16777619
    place = (place ^ place >> 16) % PLACES
    found = remembered[place]
    if found != NULL:
        known = PyUnicode_AsUTF8AndSize(<object> found, &known_size)
        if known_size == size and memcmp(known, at, size) == 0:
            Py_INCREF(<object> found)
            return found
        Py_DECREF(<object> found)
        remembered[place] = NULL
    found = PyUnicode_DecodeUTF8(<const char*> at, size, NULL)
    Py_INCREF(<object> found)
    remembered[place] = found
    return found


cdef inline PyObject* uuid(const uint8_t* packed) except NULL:
    cdef char written[UUID_TEXT]
    cdef char* to = written
    cdef int each
    for each in range(UUID_BYTES):
        if each == 4 or each == 6 or each == 8 or each == 10:
            to[0] = b"-"
            to += 1
        to[0] = DIGITS[packed[each] >> 4]
        to[1] = DIGITS[packed[each] & 0x0f]
        to += 2
    return PyUnicode_DecodeUTF8(written, UUID_TEXT, NULL)
