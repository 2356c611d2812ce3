"""What exists compiled only is tested only there."""

from streamer.schemas.build import IS_COMPILED

collect_ignore_glob = [] if IS_COMPILED else ["test_*.py"]
