"""What the garbage collector need not go through."""

from __future__ import annotations

import ctypes


def untracked(names: list[str]) -> list[str]:
    """The list, which the garbage collector won't go through: texts are in no cycle, and to look at a million
    of them takes a tenth of a second."""
    ctypes.pythonapi.PyObject_GC_UnTrack(ctypes.py_object(names))
    return names
