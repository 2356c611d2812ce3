from libc.stdint cimport int64_t, uint8_t, uint32_t

from streamer.schemas.click cimport Click


cdef class PackedClicks:
    cdef uint8_t* _block
    cdef uint32_t _room
    cdef uint32_t _retained_bytes
    cdef readonly int event_count

    cpdef int put(self, bytes log, bytes retained) except -1
    cpdef int append(self, Click click, bytes id_hash, int64_t offset) except -1
    cpdef bint holds(self, bytes id_hash) except -1
    cpdef list unpacked(self, Py_ssize_t count)
    cpdef Py_ssize_t size(self) noexcept
    cdef int _make_room(self, Py_ssize_t more) except -1


cpdef bytes pack_entry(bytes id_hash, int64_t timestamp, int64_t offset)
cpdef bytes pack_click(Click click)
cpdef list decode_clicks(Py_ssize_t count, bytes retained)
