"""The documentation site: `make docs` builds it from these pages and the code's docstrings and schemas."""

from __future__ import annotations

import sys
from pathlib import Path

from streamer import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Clicks to intent"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "reference_directives"]
exclude_patterns = ["results"]

html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
html_show_copyright = False

myst_heading_anchors = 3
myst_links_external_new_tab = False

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
