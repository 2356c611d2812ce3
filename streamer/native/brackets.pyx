# cython: language_level=3, boundscheck=False, wraparound=False
"""`brackets.py` in C: counted in blocks that fit a byte, so that a compiler looks at many bytes at a time."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef enum:
    BLOCK = 240


cpdef Py_ssize_t openings(bytes text) except -1:
    cdef const unsigned char* at = <const unsigned char*> PyBytes_AS_STRING(text)
    cdef Py_ssize_t left = PyBytes_GET_SIZE(text), count = 0, size, index
    cdef unsigned char in_block
    while left:
        size = BLOCK if left > BLOCK else left
        in_block = 0
        for index in range(size):
            in_block += (at[index] == b"[") | (at[index] == b"{")
        count += in_block
        at += size
        left -= size
    return count
