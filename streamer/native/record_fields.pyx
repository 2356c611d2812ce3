# cython: language_level=3
"""`record_fields.py` in C: of a record of `batch_records` without a look-up by name."""

from libc.stdint cimport int64_t

from streamer.native.batch_records cimport BatchRecord


cpdef int64_t offset_of(object record) except? -1:
    return (<BatchRecord> record).offset if type(record) is BatchRecord else record.offset


cpdef int64_t timestamp_of(object record) except? -1:
    return (<BatchRecord> record).timestamp if type(record) is BatchRecord else record.timestamp


cpdef object value_of(object record):
    return (<BatchRecord> record).copied_value() if type(record) is BatchRecord else record.value


cpdef object headers_of(object record):
    return (<BatchRecord> record).shared_headers() if type(record) is BatchRecord else record.headers


def latest_of(list records not None):
    cdef int64_t latest = timestamp_of(records[0]), at
    for record in records:
        at = timestamp_of(record)
        if at > latest:
            latest = at
    return latest


def count_until(list records not None, double limit_ms):
    cdef Py_ssize_t count = 0
    for record in records:
        if timestamp_of(record) > limit_ms:
            break
        count += 1
    return count
