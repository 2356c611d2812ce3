cimport cython
from libc.stdint cimport int64_t, uint64_t

from cpython.datetime cimport datetime

from streamer.pipeline.mapping.path cimport walk
from streamer.pipeline.normalize cimport FirstParameter


cdef class _Place:
    cdef object source
    cdef object constant
    cdef Py_ssize_t number
    cdef Py_ssize_t leaf
    cdef tuple rest
    cdef readonly uint64_t bit
    cdef bint is_plain
    cdef FirstParameter parameter
    cdef dict texts
    cdef object convert

    cdef object found(self, list leaves)
    cdef object value(self, list leaves)


cdef class _Field:
    cdef readonly str name
    cdef readonly Py_ssize_t place
    cdef list sources
    cdef bint required

    cpdef _Field where(self, uint64_t shape)
    @cython.locals(source=_Place)
    cdef object first(self, list leaves)
    @cython.locals(source=_Place)
    cdef object read(self, list leaves)
    @cython.locals(source=_Place)
    cdef object trace(self, list leaves)


cdef class _Shape:
    cdef readonly list fields
    cdef readonly _Field consent
    cdef readonly _Field bot


cdef class _Rule:
    cdef readonly list conditions
    cdef readonly bint dropped
    cdef readonly bint tells_dwell
    cdef readonly _Field visitor
    cdef readonly _Field consent
    cdef readonly _Field bot
    cdef readonly list fields
    cdef readonly list extras
    cdef dict _shapes

    cdef bint holds(self, list leaves) except -1
    @cython.locals(number=uint64_t, shape=_Shape)
    cdef _Shape shape_of(self, list leaves)


cdef class _Asked:
    cdef Py_ssize_t number
    cdef Py_ssize_t leaf
    cdef tuple rest
    cdef set known

    @cython.locals(values=tuple, text=str)
    cdef str tell(self, list leaves)


cdef class CompiledMapping:
    cdef readonly str name
    cdef readonly bint maps_sent_at
    cdef CompiledMapping _rows
    cdef object _leaves
    cdef list _rules
    cdef _Field _visitor
    cdef _Field _time
    cdef list _asked
    cdef dict _known

    cpdef object visitor_of(self, bytes value)
    @cython.locals(rule=_Rule)
    cpdef tuple whose(self, bytes value)
    cpdef object time_of(self, bytes value)
    @cython.locals(rule=_Rule, field=_Field, each=_Field)
    cpdef object trace(self, bytes value)
    cpdef tuple read(self, bytes value)
    cdef tuple _read_mended(self, bytes value, object rejected)
    @cython.locals(rule=_Rule)
    cdef object _refuse_unknown(self, list leaves)
    @cython.locals(rule=_Rule, shape=_Shape, field=_Field, click=list)
    cdef tuple _click(self, list leaves)
    cdef bint _declines(self, _Field consent, list leaves) except -1
    @cython.locals(asked=_Asked, key=tuple)
    cdef _Rule _rule_of(self, list leaves)
    @cython.locals(rule=_Rule)
    cdef _Rule _first_that_holds(self, list leaves)


cdef object _NO_TEXT
@cython.locals(number=uint64_t, bit=uint64_t, values=tuple)
cdef uint64_t _shape_number(list leaves)


cdef object _from_iso_format
cdef object _EPOCH, _ONE_MS, _UTC
cdef int64_t _EPOCH_DAY
cpdef object _iso8601(object value)
cpdef object _iso8601_utc(object value)
cdef datetime _parsed(object value)
@cython.locals(days=int64_t, seconds=int64_t)
cdef object _whole_ms(datetime at)
