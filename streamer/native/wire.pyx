# cython: language_level=3, boundscheck=False, wraparound=False
"""Batches of records as they lie on the wire (magic 2): their checksums, and records put into one.

aiokafka computes the checksum by tables, at a fifth of the speed of the processor's instruction for it, and
takes one call a record. A processor whose instruction isn't known here computes it by tables as well.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* Eight bytes a step: table k is of a byte with k zero bytes after it. */
    static uint32_t crc32c_tables[8][256];

    static void fill_crc32c_tables(void) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t crc = byte;
            for (int bit = 0; bit < 8; bit++)
                crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
            crc32c_tables[0][byte] = crc;
        }
        for (int k = 1; k < 8; k++)
            for (int byte = 0; byte < 256; byte++) {
                uint32_t shorter = crc32c_tables[k - 1][byte];
                crc32c_tables[k][byte] = shorter >> 8 ^ crc32c_tables[0][shorter & 0xff];
            }
    }

    static uint32_t crc32c_by_tables(const uint8_t* at, size_t size) {
        uint32_t crc = 0xffffffff, (*t)[256] = crc32c_tables;
        for (; size >= 8; size -= 8, at += 8)
            crc = t[7][(crc ^ at[0]) & 0xff] ^ t[6][(crc >> 8 ^ at[1]) & 0xff]
                ^ t[5][(crc >> 16 ^ at[2]) & 0xff] ^ t[4][crc >> 24 ^ at[3]]
                ^ t[3][at[4]] ^ t[2][at[5]] ^ t[1][at[6]] ^ t[0][at[7]];
        for (; size; size--, at++)
            crc = crc >> 8 ^ t[0][(crc ^ *at) & 0xff];
        return crc ^ 0xffffffff;
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    __attribute__((target("sse4.2")))
    static uint32_t crc32c_by_instruction(const uint8_t* at, size_t size) {
        uint64_t crc = 0xffffffff, word;
        for (; size >= 8; size -= 8, at += 8) {
            memcpy(&word, at, 8);
            crc = __builtin_ia32_crc32di(crc, word);
        }
        for (; size; size--, at++)
            crc = __builtin_ia32_crc32qi((uint32_t) crc, *at);
        return (uint32_t) crc ^ 0xffffffff;
    }
    static uint32_t crc32c_of(const uint8_t* at, size_t size) {
        return __builtin_cpu_supports("sse4.2") ? crc32c_by_instruction(at, size) : crc32c_by_tables(at, size);
    }
    #else
    static uint32_t crc32c_of(const uint8_t* at, size_t size) { return crc32c_by_tables(at, size); }
    #endif
    """
    void fill_crc32c_tables() nogil
    uint32_t crc32c_of(const uint8_t* at, size_t size) nogil
    uint32_t crc32c_by_tables(const uint8_t* at, size_t size) nogil

fill_crc32c_tables()

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


def portable_crc32c(const uint8_t[::1] data not None):
    """CRC-32C as a processor without an instruction for it computes it."""
    return crc32c_by_tables(&data[0], data.shape[0]) if data.shape[0] else 0


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


def murmur2(bytes key not None):
    """As Kafka's Java clients hash a key, without the sign."""
    cdef const uint8_t* data = <const uint8_t*> PyBytes_AS_STRING(key)
    cdef Py_ssize_t at = 0, left = PyBytes_GET_SIZE(key)
    cdef uint32_t hashed = 0x9747b28c ^ <uint32_t> left, word
    while left >= 4:
        word = data[at] | data[at + 1] << 8 | data[at + 2] << 16 | <uint32_t> data[at + 3] << 24
        word *= 0x5bd1e995
        word ^= word >> 24
        hashed = hashed * 0x5bd1e995 ^ word * 0x5bd1e995
        at += 4
        left -= 4
    if left == 3:
        hashed ^= data[at + 2] << 16
    if left >= 2:
        hashed ^= data[at + 1] << 8
    if left >= 1:
        hashed = (hashed ^ data[at]) * 0x5bd1e995
    hashed ^= hashed >> 13
    hashed *= 0x5bd1e995
    return (hashed ^ hashed >> 15) & 0x7fffffff


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
        encoded = [((<str?> name).encode(), content) for name, content in headers] if headers else []
        body = 2 + varint_bytes(count) + field_bytes(key) + field_bytes(value) + varint_bytes(len(encoded))
        for name, header_value in encoded:
            body += field_bytes(name) + field_bytes(header_value)
        size = varint_bytes(body) + body
        if count and at + size >= most_bytes:  # aiokafka's builder, where compiled, never fills one to the last byte
            break
        if at + size > PyByteArray_GET_SIZE(batch):
            PyByteArray_Resize(batch, max(at + size, min(2 * (at + size), most_bytes)))
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
