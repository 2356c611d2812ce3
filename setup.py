"""Builds the extensions, if a C compiler is there; `schemas/build.py` lists them."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent
PLAIN_DATA = {"streamer.schemas.click": {"no_gc": True, "freelist": 64}}
"""Directives for the classes of a module whose values hold no cycles. Cython takes no notice of a class's own
in its `.pxd`, but of `final`, where the class itself stands in a `.py`."""
sys.path.insert(0, str(ROOT))
# Cython knows them of classes only, and refuses what it knows no default of for a whole module. The package's
# metadata can be had without Cython.
with suppress(ImportError):
    from Cython.Compiler.Options import get_directive_defaults

    get_directive_defaults().update(no_gc=False, freelist=0)

# An isolated build has no folder of ours on its path.
from streamer.schemas.build import EXTENSIONS, PACKAGES  # noqa: E402


def extension(name: str) -> Extension:
    """From its `.pyx`, else from its `.py`, which has to mean in C what it means in Python."""
    module = name.replace(".", "/")
    source, *others = [file for suffix in (".pyx", ".py") if (ROOT / (file := f"{module}{suffix}")).exists()]
    # A change of C types changes whoever uses them: which those are isn't worth keeping track of.
    depends = [str(file.relative_to(ROOT)) for each in PACKAGES for file in (ROOT / each).rglob("*.pxd")]
    # One rounding for each operation, as Python has it: records are the same bytes on every machine. And no
    # symbols for a debugger: Python's own flags ask for them, which takes a quarter of the compiler's time.
    # What GCC refuses from 14 on, all refuse, so that it is seen.
    flags = ["-ffp-contract=off", "-g0", "-Werror=incompatible-pointer-types"]
    arguments = [] if sys.platform == "win32" else flags
    built = Extension(name, [source], depends=depends + others, extra_compile_args=arguments, optional=True)
    built.cython_directives = {"language_level": 3, "annotation_typing": False, **PLAIN_DATA.get(name, {})}
    return built


setup(
    ext_modules=[extension(name) for name in EXTENSIONS],
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
