from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
"""Training needs the extra [train]; where it isn't installed, its tests aren't there either."""
