from libc.stdint cimport int64_t

from schemas.click cimport Click

cpdef bytes append_entry(bytes log, bytes id_hash, int64_t timestamp, int64_t offset)
cpdef bint holds(bytes log, bytes id_hash) except -1
cpdef bytes append_click(bytes retained, Click click)
cpdef list decode_clicks(Py_ssize_t count, bytes retained)
