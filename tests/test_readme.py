"""What the README says of files has to be there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_file_map_names_what_is_there() -> None:
    rows = README.partition("## Where things are")[2].partition("\n\n[CONTRIBUTING")[0].splitlines()
    named = [
        name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1] if "|" in row else "")
    ]
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "streamer" / name).exists(), name


def test_every_folder_with_code_is_in_the_file_map() -> None:
    file_map = README.partition("## Where things are")[2]
    for folder in (*ROOT.glob("streamer/*/"), ROOT / "schemas", ROOT / "models", ROOT / "benchmarks"):
        if any(folder.glob("*.py")):
            assert f"{folder.relative_to(ROOT)}/" in file_map, folder


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
