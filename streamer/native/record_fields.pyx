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
