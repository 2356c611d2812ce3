# cython: language_level=3
"""`collector.py` in C."""

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(object)


cpdef list untracked(list names):
    PyObject_GC_UnTrack(names)
    return names
