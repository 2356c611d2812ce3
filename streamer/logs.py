"""Logging: structlog, to standard error, readable on a terminal and one JSON object a line otherwise.

Libraries log through the same format. aiokafka and Faust never go below INFO: at DEBUG they print
requests and messages whole, with the password and with what customers typed. aiohttp's server repeats the
bytes of a request that isn't HTTP, which may have an id or a token: the log has the kind of its errors only.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

from streamer.settings import LogSettings

_CHATTY = ("aiokafka", "faust", "mode", "asyncio", "opentelemetry", "pyiceberg")
"""Libraries that are heard one level later than our own code."""
FAUST_SERVICES = logging.getLogger("faust.streamer")
"""For classes of ours that are services of Faust: by themselves these log every start and stop in the name of
the module that the class is in."""


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Write the log to this stream; none: standard error, whatever that is when a line is written."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    readable = settings.format == "console" or (settings.format == "auto" and (stream or sys.stderr).isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream) if stream is not None else _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(readable),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level + 10, logging.INFO))
    logging.getLogger("aiohttp.server").addFilter(_with_kind_of_error_only)


def _with_kind_of_error_only(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[0] is not None:
        record.msg, record.args = f"{record.getMessage()}: {record.exc_info[0].__name__}", None
        record.exc_info = None
    return True


class _StandardError(logging.StreamHandler[TextIO]):
    """A stream that is kept may be closed while the process goes on, and each line would be an error then."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        pass


def _renderers(readable: bool) -> list[Processor]:
    if readable:
        # Plain tracebacks: the rich ones print the values of local variables.
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
