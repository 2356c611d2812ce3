from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("sklearn") else ["test_naming.py"]
"""Names need the extra [train]; where it isn't installed, their tests aren't there either."""
