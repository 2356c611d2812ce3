# cython: language_level=3, boundscheck=False, wraparound=False
"""Batches of records as they lie on the wire (magic 2): their checksums, and records put into one.

aiokafka computes the checksum by tables, at a fifth of the speed of the processor's instruction for it, and
takes one call a record.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    #if defined(__x86_64__) && defined(__GNUC__)
    static int has_crc32c(void) { return __builtin_cpu_supports("sse4.2"); }

    __attribute__((target("sse4.2")))
    static uint32_t crc32c_of(const uint8_t* at, size_t size) {
        uint64_t crc = 0xffffffff, word;
        for (; size >= 8; size -= 8, at += 8) {
            memcpy(&word, at, 8);
            crc = __builtin_ia32_crc32di(crc, word);
        }
        for (; size; size--, at++)
            crc = __builtin_ia32_crc32qi((uint32_t) crc, *at);
        return (uint32_t) crc ^ 0xffffffff;
    }
    #else
    static int has_crc32c(void) { return 0; }
    static uint32_t crc32c_of(const uint8_t* at, size_t size) { return 0; }
    #endif
    """
    bint has_crc32c() nogil
    uint32_t crc32c_of(const uint8_t* at, size_t size) nogil

if not has_crc32c():
    raise ImportError("this processor has no instruction for CRC-32C that is known here")

cdef enum:
    LENGTH_AT = 8
    AFTER_LENGTH = 12
    MAGIC_AT = 16
    CRC_AT = 17
    CHECKED_FROM = 21
    HEADER_BYTES = 61
    MOST_VARINT = 10


cdef inline uint32_t number_at(const uint8_t* at) noexcept nogil:
    return <uint32_t> at[0] << 24 | <uint32_t> at[1] << 16 | <uint32_t> at[2] << 8 | at[3]


def crc32c(const uint8_t[::1] data not None, Py_ssize_t start=0):
    """CRC-32C of the bytes from `start` on."""
    cdef uint32_t crc
    if not 0 <= start <= data.shape[0]:
        raise ValueError(f"no byte {start} in {data.shape[0]}")
    if start == data.shape[0]:
        return 0
    with nogil:
        crc = crc32c_of(&data[start], data.shape[0] - start)
    return crc


def are_sound(bytes batches not None):
    """Whether all are of magic 2 with the right checksum; one that is cut off at the end isn't looked at."""
    cdef const uint8_t* at = <const uint8_t*> PyBytes_AS_STRING(batches)
    cdef const uint8_t* end = at + PyBytes_GET_SIZE(batches)
    cdef bint sound
    with nogil:
        sound = all_sound(at, end)
    return sound


cdef bint all_sound(const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef Py_ssize_t size
    while end - at >= HEADER_BYTES:
        size = AFTER_LENGTH + <int32_t> number_at(at + LENGTH_AT)
        if size < HEADER_BYTES or at[MAGIC_AT] != 2:
            return False
        if size > end - at:
            break
        if crc32c_of(at + CHECKED_FROM, size - CHECKED_FROM) != number_at(at + CRC_AT):
            return False
        at += size
    return True


cdef inline int varint_bytes(int64_t value) noexcept:
    cdef uint64_t zigzag = <uint64_t> value << 1 ^ <uint64_t> (value >> 63)
    cdef int size = 1
    while zigzag >= 0x80:
        zigzag >>= 7
        size += 1
    return size


cdef inline uint8_t* put_varint(uint8_t* to, int64_t value) noexcept:
    cdef uint64_t zigzag = <uint64_t> value << 1 ^ <uint64_t> (value >> 63)
    while zigzag >= 0x80:
        to[0] = <uint8_t> (zigzag | 0x80)
        zigzag >>= 7
        to += 1
    to[0] = <uint8_t> zigzag
    return to + 1


cdef inline Py_ssize_t field_bytes(bytes field):
    return 1 if field is None else varint_bytes(PyBytes_GET_SIZE(field)) + PyBytes_GET_SIZE(field)


cdef inline uint8_t* put_field(uint8_t* to, bytes field):
    cdef Py_ssize_t size
    if field is None:
        return put_varint(to, -1)
    size = PyBytes_GET_SIZE(field)
    to = put_varint(to, size)
    memcpy(to, PyBytes_AS_STRING(field), size)
    return to + size


def pack(list messages not None, Py_ssize_t first, Py_ssize_t most_bytes):
    """Messages (key, value, headers) from `messages[first]` on, as many as fit into a batch, header included.

    Returns the batch, whose header is still to be filled in, and how many records it has: one at least, as
    large as it may be. They all have the batch's timestamp.
    """
    cdef bytearray batch = bytearray(HEADER_BYTES)
    cdef Py_ssize_t at = HEADER_BYTES, size, body, count = 0
    cdef bytes key, value, header_value
    cdef list encoded
    cdef uint8_t* to
    for number in range(first, len(messages)):
        key, value, headers = messages[number]
        encoded = [((<str?> name).encode(), told) for name, told in headers] if headers else []
        body = 2 + varint_bytes(count) + field_bytes(key) + field_bytes(value) + varint_bytes(len(encoded))
        for name, header_value in encoded:
            body += field_bytes(name) + field_bytes(header_value)
        size = varint_bytes(body) + body
        if count and at + size >= most_bytes:  # aiokafka's builder, where compiled, never fills one to the last byte
            break
        if at + size > PyByteArray_GET_SIZE(batch):
            PyByteArray_Resize(batch, 2 * (at + size))
        to = <uint8_t*> PyByteArray_AS_STRING(batch) + at
        to = put_varint(to, body)
        to[0] = 0  # attributes
        to[1] = 0  # milliseconds behind the batch's timestamp
        to = put_varint(to + 2, count)
        to = put_field(put_field(to, key), value)
        to = put_varint(to, len(encoded))
        for name, header_value in encoded:
            to = put_field(put_field(to, name), header_value)
        at += size
        count += 1
    PyByteArray_Resize(batch, at)
    return batch, count
