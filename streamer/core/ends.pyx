# cython: language_level=3, boundscheck=False, wraparound=False
"""`Deadlines`, compiled: the same notes, in the same buckets, looked up in the windows themselves."""

from heapq import heappop, heappush

from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from schemas.slots cimport offset_of, slot

from streamer.core.timers import BUCKET_MS, NEVER
from streamer.core.session import OpenSession

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(object each)

cdef int64_t BUCKET = BUCKET_MS, LAST = NEVER
cdef Py_ssize_t ENDED = offset_of(OpenSession, "ended_at")


cdef class WindowEnds:
    """`single`: the windows of visitors with just one; `ends_of` is asked for the others."""

    def __init__(self, ends_of, dict single, int64_t gap_ms):
        self.first = LAST
        self._ends_of = ends_of
        self._single = single
        self._gap_ms = gap_ms
        self._at_hand = []
        self._reach = -LAST
        self._buckets = {}
        self._numbers = []

    cpdef note(self, str visitor_id, int64_t window_end):
        cdef int64_t number = window_end // BUCKET
        cdef PyObject* bucket
        if window_end < self.first:
            self.first = window_end
        if number <= self._reach:
            heappush(self._at_hand, (window_end, visitor_id))
            return
        bucket = PyDict_GetItem(self._buckets, number)
        if bucket == NULL:
            names = [visitor_id]
            PyObject_GC_UnTrack(names)  # texts are in no cycle, and there are many to look at
            self._buckets[number] = names
            heappush(self._numbers, number)
        else:
            (<list> bucket).append(visitor_id)

    cpdef list take(self, int64_t horizon):
        cdef list at_hand = self._at_hand, numbers = self._numbers, taken = [], others = []
        cdef set noted = set()
        cdef int64_t window_end
        cdef PyObject* window
        self._reach = max(self._reach, horizon // BUCKET)
        while numbers and <int64_t> numbers[0] <= self._reach:
            noted.update(self._buckets.pop(heappop(numbers)))
        while at_hand and <int64_t> (<tuple> at_hand[0])[0] <= horizon:
            noted.add((<tuple> heappop(at_hand))[1])
        for visitor_id in noted:
            window = PyDict_GetItem(self._single, visitor_id)
            if window == NULL:
                others.append(visitor_id)
                continue
            window_end = <int64_t> <object> slot(<object> window, ENDED) + self._gap_ms
            if window_end <= horizon:
                taken.append(visitor_id)
            else:
                self.note(visitor_id, window_end)
        for visitor_id, end in self._ends_of(others) if others else ():
            if end <= horizon:
                taken.append(visitor_id)
            else:
                self.note(visitor_id, end)
        self.first = min(
            <int64_t> (<tuple> at_hand[0])[0] if at_hand else LAST,
            <int64_t> numbers[0] * BUCKET if numbers else LAST,
        )
        return taken
