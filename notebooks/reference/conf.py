"""How Sphinx makes the guide and the reference, from the root of a checkout:

    sphinx-build -W -c notebooks/reference . build/reference

There are no sources of its own but an index: pages are README.md, the notebooks as rendered, the index of figures, and
docstrings. They stay where they are, so that links between them work on the site as they do in the checkout.
"""

# Sphinx and not pdoc, because it takes Markdown pages and the command line's help beside the docstrings, checks that
# links between them lead somewhere, and writes the inventory by which sites of other projects link to ours.

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import pages
import reading

project = "netprobe"
version = release = importlib.metadata.version("netprobe-torch")

root_doc = "notebooks/reference/index"
include_patterns = ["README.md", "figures/README.md", "notebooks/rendered/*.md", "notebooks/reference/**"]
exclude_patterns = [".*", "build", "runs", "notebooks/runs"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx_click", "sphinx_copybutton"]
default_role = "literal"
highlight_language = "none"
smartquotes = False  # "pgd:eps=8/255" is typed, and x' is no quotation
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"

autodoc_default_options = {"members": True, "member-order": "bysource", "no-value": True}
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
toc_object_entries = False

html_theme = "furo"
html_title = "netprobe"
html_show_copyright = html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["wide.css"]
templates_path = ["templates"]
html_additional_pages = {"index": "first_page.html"}


def setup(app: Sphinx) -> None:
    """Write the pages of the reference anew, and read docstrings the way they are written."""
    app.connect("config-inited", lambda *_: pages.write())
    app.connect("autodoc-process-docstring", reading.describe)
    app.connect("sphinx-click-process-description", reading.describe_command)
