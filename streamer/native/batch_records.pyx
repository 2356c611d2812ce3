# cython: language_level=3, boundscheck=False, wraparound=False
"""Records of a batch (magic 2) as it lies on the wire: numbers in C, for the lane, and bytes when asked for.

aiokafka's parser makes objects of every field, of which the usual way of a click reads three. What is
damaged is found where that finds it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    LENGTH_AT = 8
    AFTER_LENGTH = 12
    ATTRIBUTES_AT = 22  # the lower byte of them
    FIRST_TIMESTAMP_AT = 27
    MAX_TIMESTAMP_AT = 35
    COUNT_AT = 57
    HEADER_BYTES = 61
    LOG_APPEND_TIME = 8
    MOST_SHIFT = 63


class CorruptRecordException(Exception):
    """As aiokafka's, whose name is reported for a batch that can't be read."""


cdef inline uint32_t number_at(const uint8_t* at) noexcept:
    return <uint32_t> at[0] << 24 | <uint32_t> at[1] << 16 | <uint32_t> at[2] << 8 | at[3]


cdef inline int64_t long_at(const uint8_t* at) noexcept:
    return <int64_t> (<uint64_t> number_at(at) << 32 | number_at(at + 4))


# What reads returns where the next thing is, NULL behind the end or if it is damaged, and NULL of NULL.

cdef inline const uint8_t* varint(const uint8_t* at, const uint8_t* end, int64_t* value) noexcept:
    cdef uint64_t zigzag = 0
    cdef int shift = 0
    if at == NULL:
        return NULL
    while at < end and shift <= MOST_SHIFT:
        zigzag |= <uint64_t> (at[0] & 0x7f) << shift
        if at[0] < 0x80:
            value[0] = <int64_t> (zigzag >> 1) ^ -<int64_t> (zigzag & 1)
            return at + 1
        at += 1
        shift += 7
    return NULL


cdef inline const uint8_t* field(
    const uint8_t* at, const uint8_t* end, const uint8_t** start, int64_t* size
) noexcept:
    """Bytes behind their size, which is negative for none."""
    at = varint(at, end, size)
    if at == NULL or size[0] > end - at:
        return NULL
    start[0] = at
    return at + size[0] if size[0] > 0 else at


cdef inline object bytes_or_none(const uint8_t* start, int64_t size):
    return PyBytes_FromStringAndSize(<const char*> start, size) if size >= 0 else None


@cython.final
@cython.no_gc  # nothing in it can hold it
@cython.freelist(2000)
cdef class BatchRecord:
    """A record; what it lies in stays as long as it does.

    `timestamp` is -1 if it has none. Key and value are copies, which may be kept.
    """

    checksum = None

    @property
    def key(self):
        return bytes_or_none(self._key, self._key_bytes)

    @property
    def value(self):
        return self.copied_value()

    @property
    def headers(self):
        return self.shared_headers()

    cdef bytes copied_value(self):
        return bytes_or_none(self._value, self._value_bytes)

    cdef object shared_headers(self):
        return () if self._headers is None else self._headers


@cython.final
cdef class BatchRecords:
    """The records of the batch that starts at a byte of what was fetched.

    `unpacked` is what they lie in if the batch is compressed. Raises CorruptRecordException, or
    UnicodeDecodeError at the name of a header.
    """

    cdef bytes _lies_in
    cdef const uint8_t* _at
    cdef const uint8_t* _end
    cdef int64_t _base_offset, _first_timestamp, _max_timestamp
    cdef int32_t _left
    cdef bint _is_append_time

    def __init__(self, bytes fetched not None, Py_ssize_t start, bytes unpacked=None):
        cdef const uint8_t* batch
        cdef Py_ssize_t size
        if not 0 <= start <= PyBytes_GET_SIZE(fetched) - HEADER_BYTES:
            raise CorruptRecordException(f"no batch starts at byte {start}")
        batch = <const uint8_t*> PyBytes_AS_STRING(fetched) + start
        size = AFTER_LENGTH + <int32_t> number_at(batch + LENGTH_AT)
        if not HEADER_BYTES <= size <= PyBytes_GET_SIZE(fetched) - start:
            raise CorruptRecordException(f"the batch at byte {start} can't have {size} bytes")
        self._base_offset = long_at(batch)
        self._is_append_time = batch[ATTRIBUTES_AT] & LOG_APPEND_TIME != 0
        self._first_timestamp = long_at(batch + FIRST_TIMESTAMP_AT)
        self._max_timestamp = long_at(batch + MAX_TIMESTAMP_AT)
        self._left = <int32_t> number_at(batch + COUNT_AT)
        if unpacked is None:
            self._lies_in = fetched
            self._at = batch + HEADER_BYTES
            self._end = batch + size
        else:
            self._lies_in = unpacked
            self._at = <const uint8_t*> PyBytes_AS_STRING(unpacked)
            self._end = self._at + PyBytes_GET_SIZE(unpacked)

    def __iter__(self):
        return self

    def __next__(self):
        cdef BatchRecord record
        cdef const uint8_t* at
        cdef const uint8_t* start
        cdef int64_t size, attributes, since_first, number, headers
        if self._left <= 0:
            if self._at != self._end:
                raise CorruptRecordException(f"{self._end - self._at} bytes behind the last record")
            raise StopIteration
        record = BatchRecord.__new__(BatchRecord)
        start = varint(self._at, self._end, &size)
        at = varint(start, self._end, &attributes)
        at = varint(at, self._end, &since_first)
        at = varint(at, self._end, &number)
        at = field(at, self._end, &record._key, &record._key_bytes)
        at = field(at, self._end, &record._value, &record._value_bytes)
        at = varint(at, self._end, &headers)
        if at != NULL and headers > 0:
            record._headers = []
            at = self._read_headers(at, headers, record._headers)
        if at == NULL or headers < 0 or at - start != size:
            raise CorruptRecordException("a record that isn't what its sizes say")
        record._lies_in = self._lies_in
        record.offset = self._base_offset + number
        record.timestamp = self._max_timestamp if self._is_append_time else self._first_timestamp + since_first
        record.timestamp_type = self._is_append_time
        self._at = at
        self._left -= 1
        return record

    cdef const uint8_t* _read_headers(self, const uint8_t* at, int64_t count, list into) except? NULL:
        cdef const uint8_t* name
        cdef const uint8_t* value
        cdef int64_t name_bytes = -1, value_bytes
        while count:
            at = field(at, self._end, &name, &name_bytes)
            if name_bytes < 0:
                return NULL
            at = field(at, self._end, &value, &value_bytes)
            if at == NULL:
                return NULL
            into.append(((<const char*> name)[:name_bytes].decode(), bytes_or_none(value, value_bytes)))
            count -= 1
        return at
