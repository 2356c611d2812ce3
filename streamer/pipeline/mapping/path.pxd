cpdef object walk(object node, tuple steps)
cdef object _item(list items, object step)
cdef object _read(str text, tuple steps)
