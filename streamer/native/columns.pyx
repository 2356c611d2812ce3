# cython: language_level=3, boundscheck=False, wraparound=False
"""`columns.py` in C: finds the cells' ends, and makes texts of the wanted ones alone."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memchr


cdef Py_ssize_t cells_in(const char* at, const char* end) noexcept:
    cdef Py_ssize_t count = 1
    while True:
        at = <const char*> memchr(at, b"\t", end - at)
        if at == NULL:
            return count
        at += 1
        count += 1


@cython.final
cdef class Columns:
    cdef Py_ssize_t _count
    cdef tuple _wanted

    def __init__(self, Py_ssize_t count, wanted):
        self._count = count
        self._wanted = tuple(wanted)

    def read(self, bytes row not None):
        cdef const char* at = PyBytes_AS_STRING(row)
        cdef const char* end = at + PyBytes_GET_SIZE(row)
        cdef const char* tab
        cdef Py_ssize_t column = 1, slot = 0, slots = len(self._wanted)
        cdef Py_ssize_t wanted = self._wanted[0] + 1 if slots else 0
        cdef tuple cells = PyTuple_New(slots + 1)
        cdef str cell = ""
        while end > at and ((end - 1)[0] == b"\n" or (end - 1)[0] == b"\r"):
            end -= 1
        Py_INCREF(cell)
        PyTuple_SET_ITEM(cells, slots, cell)
        while True:
            if at < end and at[0] == b"\t":  # most are empty
                tab = at
            else:
                tab = <const char*> memchr(at, b"\t", end - at)
            if column == wanted:
                try:
                    cell = PyUnicode_DecodeUTF8(at, (end if tab == NULL else tab) - at, NULL)
                except UnicodeDecodeError:
                    if column + cells_in(at, end) - 1 != self._count:
                        return None
                    raise
                Py_INCREF(cell)
                PyTuple_SET_ITEM(cells, slot, cell)
                slot += 1
                wanted = self._wanted[slot] + 1 if slot < slots else 0
            if tab == NULL:
                break
            column += 1
            at = tab + 1
        return cells if column == self._count else None
