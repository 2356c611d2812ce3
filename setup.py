"""Builds the optional extensions; without a C compiler, the Python beside them does the same, slower."""

from setuptools import Extension, setup

_DEPENDS = [
    "schemas/slots.pxd",
    "streamer/batch_records.pxd",
    "streamer/core/ends.pxd",
    "streamer/usual_clicks.pxd",
]

setup(
    ext_modules=[
        Extension("models.readings", ["models/readings.pyx"], depends=_DEPENDS, optional=True),
        Extension("models.tokens", ["models/tokens.pyx"], depends=_DEPENDS, optional=True),
        Extension("schemas.flat_values", ["schemas/flat_values.pyx"], optional=True),
        Extension("streamer.batch_records", ["streamer/batch_records.pyx"], depends=_DEPENDS, optional=True),
        Extension("streamer.core.ends", ["streamer/core/ends.pyx"], depends=_DEPENDS, optional=True),
        Extension("streamer.core.kept_clicks", ["streamer/core/kept_clicks.pyx"], optional=True),
        Extension("streamer.kafka.wire", ["streamer/kafka/wire.pyx"], optional=True),
        Extension("streamer.lane", ["streamer/lane.pyx"], depends=_DEPENDS, optional=True),
        Extension("streamer.usual_clicks", ["streamer/usual_clicks.pyx"], depends=_DEPENDS, optional=True),
        Extension("streamer.record_bytes", ["streamer/record_bytes.pyx"], depends=_DEPENDS, optional=True),
    ]
)
