"""Sphinx's settings for the documentation: `make docs` builds it into build/docs."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

project = "ndrepro"
author = "The ndrepro authors"
html_title = "ndrepro"
extensions = ["myst_parser", "docs_site.sphinx_events"]
# signed manifests, with notes of their own
exclude_patterns = ["runs"]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
highlight_language = "text"
# options are written --so
smartquotes = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
# a figure that has a width scrolls
html_scaled_image_link = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#1d5c9e", "color-brand-content": "#1d5c9e"},
    "dark_css_variables": {"color-brand-primary": "#8abcf2", "color-brand-content": "#8abcf2"},
}
