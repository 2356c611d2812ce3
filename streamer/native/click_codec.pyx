# cython: language_level=3, boundscheck=False, wraparound=False
"""`click_codec.py` in C. Of texts that come again and again it makes one object.

Clicks of all visitors are of few pages, types and places: to make these texts anew for each click that is
decoded, and to throw them away again, would take a quarter of the time of decoding it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from streamer.schemas.click cimport Click

import struct

import msgspec

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    str PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef enum:
    ENTRY = 24
    HASH = 8
    FIELDS = 14
    MOST_EXTRAS = 15  # as schemas.extras has it: more would not be a small map
    UUID_BYTES = 16
    UUID_TEXT = 36
    NUMBER = 9  # the most bytes that a number takes
    BEFORE_TEXT = 5  # the most bytes of its size
    USUAL_ROOM = 2048
    PLACES = 4096
    LONGEST = 64  # bytes of a text that is worth to be remembered
    SPARE = 112  # bytes of a block, at least, for clicks to come

ENTRY_BYTES = ENTRY
cdef Py_ssize_t MOST_ROOM = (1 << 31) - 1
entries = struct.Struct("<8sqq").iter_unpack


cdef class PackedClicks:
    """In one block: retained clicks from its beginning on, entries of the log from its end backwards."""

    def __dealloc__(self):
        PyMem_Free(self._block)

    cpdef int put(self, bytes log, bytes retained) except -1:
        cdef Py_ssize_t log_bytes = PyBytes_GET_SIZE(log), retained_bytes = PyBytes_GET_SIZE(retained)
        cdef const char* entry = PyBytes_AS_STRING(log)
        cdef uint8_t* block = new_block(retained_bytes + log_bytes)
        cdef uint8_t* to = block + retained_bytes + log_bytes
        if log_bytes % ENTRY:
            PyMem_Free(block)
            raise msgspec.ValidationError(f"a log of {log_bytes} bytes, expected entries of {ENTRY} bytes")
        memcpy(block, PyBytes_AS_STRING(retained), retained_bytes)
        while to > block + retained_bytes:
            to -= ENTRY
            memcpy(to, entry, ENTRY)
            entry += ENTRY
        PyMem_Free(self._block)
        self._block = block
        self._room = <uint32_t> (retained_bytes + log_bytes)
        self._retained_bytes = <uint32_t> retained_bytes
        self.event_count = <int> (log_bytes // ENTRY)
        return 0

    @property
    def log(self):
        cdef bytes log = PyBytes_FromStringAndSize(NULL, ENTRY * <Py_ssize_t> self.event_count)
        cdef char* to = PyBytes_AS_STRING(log)
        cdef const uint8_t* at = self._block + self._room
        cdef int each
        for each in range(self.event_count):
            at -= ENTRY
            memcpy(to, at, ENTRY)
            to += ENTRY
        return log

    @property
    def retained(self):
        return PyBytes_FromStringAndSize(<const char*> self._block, self._retained_bytes)

    cpdef Py_ssize_t size(self) noexcept:
        return ENTRY * <Py_ssize_t> self.event_count + self._retained_bytes

    cpdef int append(self, Click click, bytes id_hash, int64_t offset) except -1:
        cdef uint8_t usual[USUAL_ROOM]
        cdef uint8_t* packed = usual
        cdef Py_ssize_t room = room_for(click), size
        check_hash(id_hash)
        if room > USUAL_ROOM:
            packed = <uint8_t*> PyMem_Malloc(room)
            if packed == NULL:
                raise MemoryError
        try:
            size = pack(click, packed)
            self._make_room(ENTRY + size)
            memcpy(self._block + self._retained_bytes, packed, size)
        finally:
            if packed != usual:
                PyMem_Free(packed)
        self._retained_bytes += <uint32_t> size
        self.event_count += 1
        put_entry(
            self._block + self._room - ENTRY * <Py_ssize_t> self.event_count, id_hash, click.timestamp, offset
        )
        return 0

    cpdef bint holds(self, bytes id_hash) except -1:
        cdef const uint8_t* end = self._block + self._room
        cdef const uint8_t* at = end - ENTRY * <Py_ssize_t> self.event_count
        cdef uint64_t wanted, found
        check_hash(id_hash)
        memcpy(&wanted, PyBytes_AS_STRING(id_hash), HASH)
        while at < end:
            memcpy(&found, at, HASH)
            if found == wanted:
                return True
            at += ENTRY
        return False

    cpdef list unpacked(self, Py_ssize_t count):
        return read_clicks(count, self._block, self._retained_bytes)

    cdef int _make_room(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t log_bytes = ENTRY * <Py_ssize_t> self.event_count
        cdef Py_ssize_t needed = self._retained_bytes + log_bytes + more, room
        cdef uint8_t* block
        if needed <= self._room:
            return 0
        room = needed + max(needed >> 3, SPARE)
        block = new_block(room)
        memcpy(block, self._block, self._retained_bytes)
        memcpy(block + room - log_bytes, self._block + self._room - log_bytes, log_bytes)
        PyMem_Free(self._block)
        self._block = block
        self._room = <uint32_t> room
        return 0


cdef uint8_t* new_block(Py_ssize_t room) except NULL:
    cdef uint8_t* block
    if room > MOST_ROOM:
        raise OverflowError(f"clicks of one session in {room} bytes")
    block = <uint8_t*> PyMem_Malloc(room)
    if block == NULL:
        raise MemoryError
    return block


# -- the log

cpdef bytes pack_entry(bytes id_hash, int64_t timestamp, int64_t offset):
    cdef bytes entry = PyBytes_FromStringAndSize(NULL, ENTRY)
    check_hash(id_hash)
    put_entry(<uint8_t*> PyBytes_AS_STRING(entry), id_hash, timestamp, offset)
    return entry


cdef inline int check_hash(bytes id_hash) except -1:
    if PyBytes_GET_SIZE(id_hash) != HASH:
        raise ValueError(f"an event_id hash has {len(id_hash)} bytes, expected {HASH}")
    return 0


cdef inline void put_entry(uint8_t* to, bytes id_hash, int64_t timestamp, int64_t offset) noexcept:
    memcpy(to, PyBytes_AS_STRING(id_hash), HASH)
    put_little_endian(to + HASH, timestamp)
    put_little_endian(to + HASH + 8, offset)


cdef inline void put_little_endian(uint8_t* to, int64_t value) noexcept:
    cdef int each
    for each in range(8):
        to[each] = <uint8_t> (<uint64_t> value >> 8 * each)


# -- writing retained clicks

cpdef bytes pack_click(Click click):
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, room_for(click))
    cdef Py_ssize_t size = pack(click, <uint8_t*> PyBytes_AS_STRING(packed))
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(packed), size)


cdef Py_ssize_t room_for(Click click) except -1:
    """Bytes that it surely fits in."""
    return (
        1
        + 3 * NUMBER
        + room_of(click.event_id)
        + room_of(click.event_type)
        + room_of(click.page_type)
        + room_of(click.path)
        + room_of(click.search_query)
        + room_of(click.element)
        + room_of(click.category)
        + room_of(click.product_id)
        + room_of(click.device)
        + room_of(click.referrer)
        + room_of_extras(click.extras)
    )


cdef Py_ssize_t room_of_extras(dict extras) except -1:
    cdef Py_ssize_t room = 1
    cdef str name, value
    if extras is not None:
        for name, value in extras.items():
            room += room_of(name) + room_of(value)
    return room


cdef inline Py_ssize_t room_of(str text) noexcept:
    return BEFORE_TEXT if text is None else BEFORE_TEXT + 4 * PyUnicode_GET_LENGTH(text)


cdef Py_ssize_t pack(Click click, uint8_t* into) except -1:
    """Returns how many bytes that took."""
    cdef uint8_t* to = put_number(into + 1, click.timestamp)
    cdef uint8_t* end  # behind the last field that is not nil
    cdef int count = 3
    to = put_id(to, click.event_id)
    end = to = put_text(to, click.event_type)
    to = put_text(to, click.page_type)
    if click.page_type is not None:
        count, end = 4, to
    to = put_text(to, click.path)
    if click.path is not None:
        count, end = 5, to
    to = put_nil(to) if click.dwell_ms is None else put_number(to, click.dwell_ms)
    if click.dwell_ms is not None:
        count, end = 6, to
    to = put_text(to, click.search_query)
    if click.search_query is not None:
        count, end = 7, to
    to = put_text(to, click.element)
    if click.element is not None:
        count, end = 8, to
    to = put_text(to, click.category)
    if click.category is not None:
        count, end = 9, to
    to = put_text(to, click.product_id)
    if click.product_id is not None:
        count, end = 10, to
    to = put_nil(to) if click.price is None else put_real(to, click.price)
    if click.price is not None:
        count, end = 11, to
    to = put_text(to, click.device)
    if click.device is not None:
        count, end = 12, to
    to = put_text(to, click.referrer)
    if click.referrer is not None:
        count, end = 13, to
    if click.extras is not None:
        count, end = 14, put_extras(to, click.extras)
    into[0] = <uint8_t> (0x90 | count)
    return end - into


cdef inline uint8_t* put_big_endian(uint8_t* to, uint64_t value, int size) noexcept:
    while size:
        size -= 1
        to[0] = <uint8_t> (value >> 8 * size)
        to += 1
    return to


cdef inline uint8_t* put_nil(uint8_t* to) noexcept:
    to[0] = 0xc0
    return to + 1


cdef inline uint8_t* put_number(uint8_t* to, int64_t value) noexcept:
    cdef int power = 0
    if -0x20 <= value < 0x80:
        to[0] = <uint8_t> value
        return to + 1
    if value >= 0:
        while power < 3 and <uint64_t> value >> (8 << power):
            power += 1
        to[0] = <uint8_t> (0xcc + power)
    else:
        while power < 3 and -value - 1 >> ((8 << power) - 1):
            power += 1
        to[0] = <uint8_t> (0xd0 + power)
    return put_big_endian(to + 1, <uint64_t> value, 1 << power)


cdef inline uint8_t* put_real(uint8_t* to, double value) noexcept:
    cdef uint64_t bits
    memcpy(&bits, &value, 8)
    to[0] = 0xcb
    return put_big_endian(to + 1, bits, 8)


cdef inline uint8_t* put_text(uint8_t* to, str text) except NULL:
    cdef Py_ssize_t size
    cdef const char* encoded
    if text is None:
        return put_nil(to)
    encoded = PyUnicode_AsUTF8AndSize(text, &size)
    return put_bytes(to, encoded, size)


cdef uint8_t* put_extras(uint8_t* to, dict extras) except NULL:
    cdef str name, value
    if len(extras) > MOST_EXTRAS:
        raise ValueError(f"a click has {len(extras)} extras, expected at most {MOST_EXTRAS}")
    to[0] = <uint8_t> (0x80 | len(extras))
    to += 1
    for name, value in extras.items():
        to = put_text(to, name)
        to = put_text(to, value)
    return to


cdef inline uint8_t* put_id(uint8_t* to, str text) except NULL:
    cdef Py_ssize_t size
    cdef const char* encoded = PyUnicode_AsUTF8AndSize(text, &size)
    if size == UUID_TEXT and read_uuid(encoded, to + 2):
        to[0] = 0xc4
        to[1] = UUID_BYTES
        return to + 2 + UUID_BYTES
    return put_bytes(to, encoded, size)


cdef inline uint8_t* put_bytes(uint8_t* to, const char* encoded, Py_ssize_t size) noexcept:
    if size < 32:
        to[0] = <uint8_t> (0xa0 | size)
        to += 1
    elif size < 0x100:
        to[0] = 0xd9
        to = put_big_endian(to + 1, size, 1)
    elif size < 0x10000:
        to[0] = 0xda
        to = put_big_endian(to + 1, size, 2)
    else:
        to[0] = 0xdb
        to = put_big_endian(to + 1, size, 4)
    memcpy(to, encoded, size)
    return to + size


cdef uint8_t NO_DIGIT = 0xff
cdef uint8_t[256] DIGITS
for _byte in range(256):
    DIGITS[_byte] = int(chr(_byte), 16) if chr(_byte) in "0123456789abcdef" else NO_DIGIT


cdef inline bint read_uuid(const char* text, uint8_t* into) noexcept:
    """16 bytes of the 36 characters, if they are a UUID as it is usually written."""
    cdef const uint8_t* at = <const uint8_t*> text
    cdef uint8_t all_digits = 0, high, low
    cdef int each
    if at[8] != b"-" or at[13] != b"-" or at[18] != b"-" or at[23] != b"-":
        return False
    for each in range(UUID_BYTES):
        if each == 4 or each == 6 or each == 8 or each == 10:
            at += 1
        high, low = DIGITS[at[0]], DIGITS[at[1]]
        all_digits |= high | low
        into[each] = <uint8_t> (high << 4 | low)
        at += 2
    return all_digits < 16


# -- reading retained clicks

cdef struct Reader:
    const uint8_t* at
    const uint8_t* end
    int fields  # of the click that are still to come


cpdef list decode_clicks(Py_ssize_t count, bytes retained):
    return read_clicks(count, <const uint8_t*> PyBytes_AS_STRING(retained), PyBytes_GET_SIZE(retained))


cdef list read_clicks(Py_ssize_t count, const uint8_t* retained, Py_ssize_t size):
    cdef Reader reader
    cdef list clicks = []
    cdef Py_ssize_t each
    reader.at = retained
    reader.end = retained + size
    for each in range(count):
        clicks.append(read_click(&reader))
    if reader.at != reader.end:
        raise msgspec.DecodeError(f"{reader.end - reader.at} bytes behind {count} retained clicks")
    return clicks


cdef Click read_click(Reader* reader):
    cdef Click click = Click.__new__(Click)
    cdef uint8_t first = next_byte(reader)
    if first & 0xf0 != 0x90 or first & 0x0f > FIELDS:
        raise wrong()
    reader.fields = first & 0x0f
    click.timestamp = read_number(reader)
    click.event_id = read_id(reader)
    click.event_type = read_text(reader)
    if click.event_type is None:
        raise wrong()
    click.page_type = read_text(reader)
    click.path = read_text(reader)
    if not is_nil(reader):
        click.dwell_ms = read_number(reader)
    click.search_query = read_text(reader)
    click.element = read_text(reader)
    click.category = read_text(reader)
    click.product_id = read_text(reader)
    if not is_nil(reader):
        click.price = read_real(reader)
    click.device = read_text(reader)
    click.referrer = read_text(reader)
    if not is_nil(reader):
        click.extras = read_extras(reader)
    return click


cdef dict read_extras(Reader* reader):
    cdef dict extras = {}
    cdef str name, value
    cdef uint8_t first = next_byte(reader)
    cdef int each
    if first & 0xf0 != 0x80:
        raise wrong()
    reader.fields -= 1
    for each in range(first & 0x0f):
        reader.fields += 2  # each text takes one
        name = read_text(reader)
        value = read_text(reader)
        if name is None or value is None:
            raise wrong()
        extras[name] = value
    return extras


cdef object wrong():
    return msgspec.DecodeError("bytes that are no retained click")


cdef inline bint is_nil(Reader* reader) except -1:
    """Whether the next field is nil, and if it is, pass over it."""
    if reader.fields == 0:
        return True
    if reader.at == reader.end:
        raise wrong()
    if reader.at[0] != 0xc0:
        return False
    reader.at += 1
    reader.fields -= 1
    return True


cdef inline int next_byte(Reader* reader) except -1:
    if reader.at == reader.end:
        raise wrong()
    reader.at += 1
    return (reader.at - 1)[0]


cdef inline const uint8_t* take(Reader* reader, uint64_t size) except NULL:
    if size > <uint64_t> (reader.end - reader.at):
        raise wrong()
    reader.at += size
    return reader.at - size


cdef inline uint64_t read_big_endian(Reader* reader, int size) except? 0:
    cdef uint64_t number = 0
    cdef const uint8_t* at = take(reader, size)
    cdef int each
    for each in range(size):
        number = number << 8 | at[each]
    return number


cdef inline int64_t read_number(Reader* reader) except? -1:
    cdef uint8_t first
    cdef int size
    cdef uint64_t bits
    reader.fields -= 1
    first = next_byte(reader)
    if first < 0x80 or first >= 0xe0:
        return <signed char> first
    if not 0xcc <= first <= 0xd3:
        raise wrong()
    size = 1 << (first & 3)
    bits = read_big_endian(reader, size)
    if first < 0xd0:
        if bits >> 63:
            raise wrong()
        return <int64_t> bits
    return <int64_t> (bits << (64 - 8 * size)) >> (64 - 8 * size)


cdef inline double read_real(Reader* reader) except? -1:
    cdef uint64_t bits
    cdef double number
    if reader.at[0] != 0xcb:
        return read_number(reader)
    reader.fields -= 1
    reader.at += 1
    bits = read_big_endian(reader, 8)
    memcpy(&number, &bits, 8)
    return number


cdef inline str read_id(Reader* reader):
    if reader.end - reader.at > 1 and reader.at[0] == 0xc4 and reader.at[1] == UUID_BYTES:
        reader.fields -= 1
        reader.at += 2
        return written_uuid(take(reader, UUID_BYTES))
    if is_nil(reader):
        raise wrong()
    return read_new_text(reader)


cdef inline Py_ssize_t read_size(Reader* reader) except -1:
    """Of a text, in bytes."""
    cdef uint8_t first = next_byte(reader)
    reader.fields -= 1
    if 0xa0 <= first < 0xc0:
        return first & 0x1f
    if not 0xd9 <= first <= 0xdb:
        raise wrong()
    return read_big_endian(reader, 1 << (first - 0xd9))


cdef inline str read_new_text(Reader* reader):
    cdef Py_ssize_t size = read_size(reader)
    return PyUnicode_DecodeUTF8(<const char*> take(reader, size), size, NULL)


cdef list remembered = [None] * PLACES
"""Texts by a hash of their bytes; the latest has the place."""


cdef inline str read_text(Reader* reader):
    """One that is remembered, or will be; None for nil."""
    cdef uint32_t place = 2166136261
    cdef const char* known_bytes
    cdef const uint8_t* at
    cdef Py_ssize_t size, known_size, each
    cdef str known
    if is_nil(reader):
        return None
    size = read_size(reader)
    at = take(reader, size)
    if size > LONGEST:
        return PyUnicode_DecodeUTF8(<const char*> at, size, NULL)
    for each in range(size):
        place = (place ^ at[each]) * 16777619
    place = (place ^ place >> 16) % PLACES
    known = <str> remembered[place]
    if known is not None:
        known_bytes = PyUnicode_AsUTF8AndSize(known, &known_size)
        if known_size == size and memcmp(known_bytes, at, size) == 0:
            return known
    known = PyUnicode_DecodeUTF8(<const char*> at, size, NULL)
    remembered[place] = known
    return known


cdef inline str written_uuid(const uint8_t* packed):
    cdef const char* digits = "0123456789abcdef"
    cdef char written[UUID_TEXT]
    cdef char* to = written
    cdef int each
    for each in range(UUID_BYTES):
        if each == 4 or each == 6 or each == 8 or each == 10:
            to[0] = b"-"
            to += 1
        to[0] = digits[packed[each] >> 4]
        to[1] = digits[packed[each] & 0x0f]
        to += 2
    return PyUnicode_DecodeUTF8(written, UUID_TEXT, NULL)
