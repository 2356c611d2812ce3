# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""Tokens of sessions in C, straight into the padded arrays of a length bucket: those of `Tokenizer.encode`.

Only the logarithm of dwell times is left to numpy, whose last bit another library may not give. `feed` copies
them on into the arrays of one batch, as `feed_of` of the runtime does.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy

from numpy import zeros

from streamer.models.fields import EVENT_FIELDS, LEARNT_FIELDS, SESSION_FIELDS, hour_id
from streamer.models import queries, timing
from streamer.schemas import click
from streamer.schemas.click cimport Click, Session

cdef extern from "Python.h":
    Py_ssize_t PyUnicode_GET_LENGTH(object)

cdef enum:
    MOST_EDGES = 64
    MOST_SLOTS = 64

cdef Py_ssize_t EVENT_COLUMNS = len(EVENT_FIELDS)
cdef Py_ssize_t LEARNT_COLUMNS = len(LEARNT_FIELDS)
cdef Py_ssize_t SESSION_COLUMNS = len(SESSION_FIELDS)
cdef Py_ssize_t QUERY_GRAMS = queries.QUERY_GRAMS
cdef Py_ssize_t QUERY_SLOTS = queries.QUERY_SLOTS
cdef Py_ssize_t HEAD_CLICKS = click.HEAD_CLICKS
cdef Py_ssize_t KEPT_CLICKS = click.KEPT_CLICKS
cdef int64_t MAX_DURATION_MS = timing.MAX_DURATION_MS
cdef float DWELL_Z_LIMIT = timing.DWELL_Z_LIMIT
cdef int64_t[MOST_EDGES] edges_ms
cdef Py_ssize_t edge_count = len(timing.EDGES_MS)
if edge_count > MOST_EDGES or QUERY_SLOTS > MOST_SLOTS:
    raise ImportError("more edges or slots than there is room for")
for _i in range(edge_count):
    edges_ms[_i] = timing.EDGES_MS[_i]



cdef class Tokens:
    """Reads a tokenizer's caches, which make what they lack when they are asked for it."""

    cdef object rows, grams, device_id, referrer_id, extras
    cdef Py_ssize_t extra_columns, columns

    def __init__(self, rows, grams, device_id, referrer_id, extras):
        """Rows of clicks and of queries; what gives the id of a device and of a referrer; extra fields."""
        self.rows, self.grams, self.device_id, self.referrer_id = rows, grams, device_id, referrer_id
        self.extras, self.extra_columns = extras, extras.columns
        self.columns = EVENT_COLUMNS + self.extra_columns

    def fill(
        self, sessions, list places, event_ids, dwell_ms, seconds, query_slot, query_ids, session_ids, lengths
    ):
        """The sessions at `places`, in order, into arrays of one length bucket.

        All are as in `Encoded`, C-contiguous and zero so far, but for the dwell times [N, T]: `dwell_ms` of
        int64, -1 so far, and `seconds` of float32, 0 so far and where a dwell is missing.
        """
        cdef Py_ssize_t width = event_ids.shape[1], i
        cdef int32_t* event_row = <int32_t*>data_of(event_ids)
        cdef int64_t* dwell_row = <int64_t*>data_of(dwell_ms)
        cdef float* seconds_row = <float*>data_of(seconds)
        cdef int32_t* slot_row = <int32_t*>data_of(query_slot)
        cdef int32_t* gram_row = <int32_t*>data_of(query_ids)
        cdef int32_t* session_row = <int32_t*>data_of(session_ids)
        cdef int32_t* length = <int32_t*>data_of(lengths)
        cdef Session session
        cdef list clicks
        for i in range(len(places)):
            session = <Session?>sessions[<Py_ssize_t>places[i]]
            clicks = clicks_of(session)
            if len(clicks) > width:
                raise ValueError("a session is longer than its bucket")
            length[i] = <int32_t>len(clicks)
            self.fill_values(clicks, event_row)
            fill_times(
                clicks, session.event_count > KEPT_CLICKS, event_row, self.columns, dwell_row, seconds_row
            )
            if self.extra_columns:
                self.fill_extras(clicks, event_row + EVENT_COLUMNS)
            self.fill_queries(clicks, slot_row, gram_row)
            session_row[0] = self.device_id(first_device(clicks))
            session_row[1] = self.referrer_id(first_referrer(clicks))
            session_row[2] = hour_id(session.started_at)
            event_row += width * self.columns
            dwell_row += width
            seconds_row += width
            slot_row += width
            gram_row += QUERY_SLOTS * QUERY_GRAMS
            session_row += SESSION_COLUMNS

    cdef int fill_values(self, list clicks, int32_t* to) except -1:
        cdef object ids = self.rows.ids
        cdef int32_t* data = <int32_t*>data_of(ids)
        cdef PyObject* found
        cdef object row
        cdef Click click
        for click in clicks:
            values = (
                click.page_type, click.path, click.event_type, click.element, click.category, click.product_id
            )
            found = PyDict_GetItemWithError(self.rows, values)
            if found == NULL:
                row = self.rows[values]
                ids = self.rows.ids
                data = <int32_t*>data_of(ids)
            else:
                row = <object>found
            memcpy(to, data + <Py_ssize_t>row * LEARNT_COLUMNS, LEARNT_COLUMNS * sizeof(int32_t))
            to += self.columns
        return 0

    cdef int fill_extras(self, list clicks, int32_t* to) except -1:
        cdef Py_ssize_t row
        cdef Click click
        for click in clicks:
            row = self.extras.row_of(click)
            ids = self.extras.ids  # another array once it has grown
            memcpy(
                to, <int32_t*>data_of(ids) + row * self.extra_columns, self.extra_columns * sizeof(int32_t)
            )
            to += self.columns
        return 0

    cdef int fill_queries(self, list clicks, int32_t* query_slot, int32_t* query_ids) except -1:
        """The last distinct queries get the slots."""
        cdef Py_ssize_t[MOST_SLOTS] rows
        cdef Py_ssize_t taken = 0, at, place, row
        for at in range(len(clicks) - 1, -1, -1):
            query = (<Click>clicks[at]).search_query
            if not query:
                continue
            row = self.grams[query]
            if row == 0:
                continue
            place = 0
            while place < taken and rows[place] != row:
                place += 1
            if place == QUERY_SLOTS:
                continue
            if place == taken:
                rows[place] = row
                ids = self.grams.ids
                memcpy(
                    query_ids + place * QUERY_GRAMS,
                    <int32_t*>data_of(ids) + row * QUERY_GRAMS,
                    QUERY_GRAMS * sizeof(int32_t),
                )
                taken += 1
            query_slot[at] = 1 + place
        return 0


def standardize(log_seconds, dwell_ms, float mean, float std):
    """As `standardized`, in place: the logarithms become z."""
    cdef float* z = <float*>data_of(log_seconds)
    cdef int64_t* dwell = <int64_t*>data_of(dwell_ms)
    cdef Py_ssize_t i
    for i in range(log_seconds.size):
        z[i] = 0 if dwell[i] < 0 else (z[i] - mean) / std
        if z[i] > DWELL_Z_LIMIT:
            z[i] = DWELL_Z_LIMIT
        elif z[i] < -DWELL_Z_LIMIT:
            z[i] = -DWELL_Z_LIMIT


def feed(encoded, order, Py_ssize_t start, Py_ssize_t end, Py_ssize_t width, Py_ssize_t size):
    """As `feed_of`. `order` [N] is of int64, all arrays are C-contiguous."""
    cdef Py_ssize_t count = len(encoded.rows), wide = encoded.event_ids.shape[1], i, at, row, asked, queries = 1
    cdef Py_ssize_t columns = encoded.event_ids.shape[2]
    if not (0 <= start < end <= len(order) and end - start <= size and width <= wide):
        raise ValueError("no such batch")
    cdef int64_t* chosen = <int64_t*>data_of(order) + start
    cdef int32_t* slots = <int32_t*>data_of(encoded.query_slot)
    cdef int32_t* slot_row
    for i in range(end - start):
        if not 0 <= chosen[i] < count:
            raise ValueError("no such session")
        queries += asked_in(slots + chosen[i] * wide, width)
    given = {
        "event_ids": zeros((size, width, columns), "i4"),
        "dwell_z": zeros((size, width), "f4"),
        "query_slot": zeros((size, width), "i4"),
        "query_ids": zeros((queries, QUERY_GRAMS), "i4"),
        "session_ids": zeros((size, SESSION_COLUMNS), "i4"),
        "lengths": zeros(size, "i4"),
    }
    cdef int32_t* event_ids = <int32_t*>data_of(encoded.event_ids)
    cdef float* dwell_z = <float*>data_of(encoded.dwell_z)
    cdef int32_t* query_ids = <int32_t*>data_of(encoded.query_ids)
    cdef int32_t* session_ids = <int32_t*>data_of(encoded.session_ids)
    cdef int32_t* lengths = <int32_t*>data_of(encoded.lengths)
    cdef int32_t* to_events = <int32_t*>data_of(given["event_ids"])
    cdef float* to_dwell = <float*>data_of(given["dwell_z"])
    cdef int32_t* to_slots = <int32_t*>data_of(given["query_slot"])
    cdef int32_t* to_queries = <int32_t*>data_of(given["query_ids"]) + QUERY_GRAMS
    cdef int32_t* to_session = <int32_t*>data_of(given["session_ids"])
    cdef int32_t* to_length = <int32_t*>data_of(given["lengths"])
    queries = 0
    for i in range(end - start):
        row = chosen[i]
        slot_row = slots + row * wide
        asked = asked_in(slot_row, width)
        for at in range(width):
            to_slots[at] = <int32_t>queries + slot_row[at] if slot_row[at] > 0 else 0
        memcpy(to_events, event_ids + row * wide * columns, width * columns * sizeof(int32_t))
        memcpy(to_dwell, dwell_z + row * wide, width * sizeof(float))
        memcpy(to_queries, query_ids + row * QUERY_SLOTS * QUERY_GRAMS, asked * QUERY_GRAMS * sizeof(int32_t))
        memcpy(to_session, session_ids + row * SESSION_COLUMNS, SESSION_COLUMNS * sizeof(int32_t))
        to_length[i] = lengths[row]
        queries += asked
        to_slots += width
        to_events += width * columns
        to_dwell += width
        to_queries += asked * QUERY_GRAMS
        to_session += SESSION_COLUMNS
    return given


cdef inline Py_ssize_t asked_in(int32_t* slots, Py_ssize_t width) noexcept:
    """How many queries these clicks have: their slots are filled from the first on."""
    cdef Py_ssize_t most = 0, at
    for at in range(width):
        most = max(most, slots[at])
    return min(most, QUERY_SLOTS)


def by_length(sessions, widths):
    """The places of the sessions of each length bucket; None if one has no or too many clicks."""
    cdef list found = [[] for _ in widths]
    cdef Py_ssize_t length, i, bucket
    cdef list limits = list(widths)
    for i, session in enumerate(sessions):
        length = len((<Session?>session).clicks)
        if not 1 <= length <= KEPT_CLICKS:
            return None
        bucket = 0
        while length > <Py_ssize_t>limits[bucket]:
            bucket += 1
        (<list>found[bucket]).append(i)
    return found


cdef list clicks_of(Session session):
    """All of them clicks, whose fields are read in C."""
    for click in session.clicks:
        if type(click) is not Click:
            raise TypeError("expected a Click")
    return session.clicks


cdef int fill_times(
    list clicks, bint is_cut, int32_t* event_row, Py_ssize_t columns, int64_t* dwell_ms, float* seconds
) except -1:
    """Dwell in both units, and the buckets of dwell and gap. `is_cut`: clicks between head and tail weren't kept."""
    cdef Py_ssize_t count = len(clicks), at
    cdef int64_t time, before = 0, gap, own
    cdef object dwell
    cdef Click click
    for at in range(count):
        click = clicks[at]
        time = click.timestamp
        if at == 0 or (is_cut and count == KEPT_CLICKS and at == HEAD_CLICKS):
            gap = -1
        else:
            gap = within_day(<int64_t>(<uint64_t>time - <uint64_t>before))
        if at > 0 and dwell_ms[at - 1] < 0:
            dwell_ms[at - 1] = gap
        dwell = click.dwell_ms
        own = -1 if dwell is None else dwell
        dwell_ms[at] = -1 if own < 0 else within_day(own)
        event_row[at * columns + LEARNT_COLUMNS + 1] = bucket_of(gap)
        before = time
    for at in range(count):
        event_row[at * columns + LEARNT_COLUMNS] = bucket_of(dwell_ms[at])
        seconds[at] = <float>max(dwell_ms[at], 0) * <float>0.001
    return 0


cdef inline int64_t within_day(int64_t duration_ms) noexcept:
    return min(max(duration_ms, 0), MAX_DURATION_MS)


cdef inline int32_t bucket_of(int64_t duration_ms) noexcept:
    """As `time_bucket`: how many edges aren't above it."""
    cdef int32_t bucket = 0
    while bucket < edge_count and edges_ms[bucket] <= duration_ms:
        bucket += 1
    return bucket


cdef str first_device(list clicks):
    """The first that any click has."""
    cdef Click click
    for click in clicks:
        if click.device:
            return click.device
    return None


cdef str first_referrer(list clicks):
    cdef Click click
    for click in clicks:
        if click.referrer:
            return click.referrer
    return None


cdef void* data_of(array) except NULL:
    """Of a C-contiguous array, whose memory stays where it is as long as the array is there."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    cdef void* data = view.buf
    PyBuffer_Release(&view)
    return data
