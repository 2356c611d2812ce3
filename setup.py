"""Builds the optional extensions; without a C compiler, the Python beside them does the same, slower."""

from setuptools import Extension, setup

_DEPENDS = [
    "schemas/slots.pxd",
    "streamer/native/batch_records.pxd",
    "streamer/core/ends.pxd",
    "streamer/pipeline/usual_clicks.pxd",
]
_EXTENSIONS = (
    "models.readings",
    "models.tokens",
    "schemas.flat_values",
    "streamer.core.ends",
    "streamer.core.kept_clicks",
    "streamer.native.batch_records",
    "streamer.native.wire",
    "streamer.pipeline.lane",
    "streamer.pipeline.record_bytes",
    "streamer.pipeline.usual_clicks",
)

setup(
    ext_modules=[
        Extension(name, [f"{name.replace('.', '/')}.pyx"], depends=_DEPENDS, optional=True)
        for name in _EXTENSIONS
    ]
)
