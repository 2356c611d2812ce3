cimport cython

cdef object _UNSEEN
cdef Py_ssize_t _ID_DIGITS, _MOST_DIGITS


@cython.final
cdef class Memo:
    cdef readonly dict known
    cdef readonly dict _by_hash
    cdef object _nothing
    cdef object _make
    cdef Py_ssize_t _size

    cpdef of(self, str text)
    cdef object _new(self, str text)
    cdef object _remembered(self, dict table, object key, str text)


@cython.final
cdef class Paths:
    cdef Memo _addresses
    cdef Memo _numbered

    @cython.locals(mark=Py_ssize_t, end=Py_ssize_t, slash=Py_ssize_t, path=str)
    cpdef str of(self, str url)


@cython.final
cdef class FirstParameter:
    cdef dict _ranks
    cdef list _signs

    cpdef of(self, object url)


@cython.locals(mark=Py_ssize_t)
cpdef str before_query(str url)
cpdef str cut(str text, Py_ssize_t max_bytes)
@cython.locals(index=Py_ssize_t)
cdef bint _is_usual_number(str text, Py_ssize_t start, Py_ssize_t end) except -1
@cython.locals(
    at=Py_ssize_t, end=Py_ssize_t, start=Py_ssize_t, equals=Py_ssize_t, found=str, rank=Py_ssize_t,
    least=Py_ssize_t, sign=str,
)
cdef str _parameter_of(str url, list signs, dict ranks)
