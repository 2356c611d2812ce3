# cython: language_level=3, boundscheck=False, wraparound=False
"""`columns.py` in C: finds the cells' ends, and makes texts of the wanted ones alone."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
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
    cdef Py_ssize_t _slots
    cdef Py_ssize_t* _wanted  # numbers of the columns, from 1 on, and 0 behind the last

    def __cinit__(self, Py_ssize_t count, wanted):
        cdef Py_ssize_t slot, place
        self._count = count
        self._slots = len(wanted)
        self._wanted = <Py_ssize_t*> PyMem_Malloc((self._slots + 1) * sizeof(Py_ssize_t))
        if self._wanted == NULL:
            raise MemoryError
        for slot, place in enumerate(wanted):
            self._wanted[slot] = place + 1
        self._wanted[self._slots] = 0

    def __dealloc__(self):
        PyMem_Free(self._wanted)

    def read(self, bytes row not None):
        cdef const char* at = PyBytes_AS_STRING(row)
        cdef const char* end = at + PyBytes_GET_SIZE(row)
        cdef const char* tab
        cdef const Py_ssize_t* wanted = self._wanted
        cdef Py_ssize_t column = 1, slot = 0, slots = self._slots
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
            if column == wanted[slot]:
                if tab == at:
                    cell = ""
                else:
                    cell = self._text(at, end if tab == NULL else tab, end, column)
                    if cell is None:
                        return None
                Py_INCREF(cell)
                PyTuple_SET_ITEM(cells, slot, cell)
                slot += 1
            if tab == NULL:
                break
            column += 1
            at = tab + 1
        return cells if column == self._count else None

    cdef str _text(self, const char* at, const char* tab, const char* end, Py_ssize_t column):
        """Of a cell; None if the row has another number of them, which is worse than bytes that are no text."""
        try:
            return PyUnicode_DecodeUTF8(at, tab - at, NULL)
        except UnicodeDecodeError:
            if column + cells_in(at, end) - 1 != self._count:
                return None
            raise
