"""The documentation site builds without a warning, and its reference has what the product has."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.cli import COMMANDS
from tests.conftest import ROOT

SCHEMAS = (
    "click",
    "session_intent",
    "session_embedding",
    "visitor_intent",
    "user_intent",
    "identity_link",
    "erasure",
    "lookup",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "--builder", "html"]
    done = subprocess.run([*command, ROOT / "docs", out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def text(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_every_page_is_there(site: Path) -> None:
    assert {file.stem for file in (ROOT / "docs").glob("*.md")} <= {file.stem for file in site.glob("*.html")}


def test_every_command_has_its_options(site: Path) -> None:
    shown = text(site / "reference/commands.html")
    for command in COMMANDS:
        assert f"streamer {command.name}\n" in shown or f"streamer {command.name}¶" in shown, command.name
    assert "--sample FILE" in shown
    assert "streamer model taxonomy [OPTIONS]" in shown


def test_every_field_of_every_schema_is_in_a_table(site: Path) -> None:
    shown = text(site / "reference/topics.html")
    for name in SCHEMAS:
        for field in json.loads((ROOT / f"schemas/{name}.avsc").read_text())["fields"]:
            assert f"\n{field['name']}\n" in shown, (name, field["name"])


def test_services_find_the_views(site: Path) -> None:
    assert "class streamer.client.VisitorView(" in text(site / "reference/python.html")
