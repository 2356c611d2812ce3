"""Every report for a client library is listed, and runs on what is installed."""

from __future__ import annotations

import ast
import re

from tests.upstream import REPRODUCTIONS


def test_every_report_is_listed_and_begins_with_its_library() -> None:
    listed = re.findall(r"^\| \[(\S+)\]\(\1\) \| (\S+) \|", (REPRODUCTIONS / "README.md").read_text(), re.M)
    titles = {
        path.name: ast.get_docstring(ast.parse(path.read_text())) for path in REPRODUCTIONS.glob("*.py")
    }
    assert dict(listed) == {name: str(text).split(":")[0] for name, text in titles.items()}
    assert all("\nExpected: " in str(text) for text in titles.values())
