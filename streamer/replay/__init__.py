"""A bounded time range of the log, run again through the worker's own pipeline and compared with live."""
