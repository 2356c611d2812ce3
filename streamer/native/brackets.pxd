cpdef Py_ssize_t openings(bytes text) except -1
