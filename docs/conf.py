"""Sphinx settings. ``make docs`` builds the pages, with every warning an error."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_version = Path(__file__).parent.parent / "django_durable" / "__init__.py"

project = "django_durable"
author = "django_durable contributors"
project_copyright = "django_durable contributors"
release = next(
    line.split('"')[1] for line in _version.read_text().splitlines() if line.startswith("__version")
)
version = release

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = "django_durable"
html_static_path = ["_static"]
html_css_files = ["durable.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b6b53",
        "color-brand-content": "#0b6b53",
        "color-brand-visited": "#0b6b53",
    },
    "dark_css_variables": {
        "color-brand-primary": "#5fd3ae",
        "color-brand-content": "#5fd3ae",
        "color-brand-visited": "#5fd3ae",
    },
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def name_test(
    role: str, source: str, text: str, line: int, inliner: Any, *_: Any, **__: Any
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """Show ``tests/test_x.py::test_that_it_works`` as the sentence it is, and the file."""
    path, _, name = text.partition("::")
    sentence = name.rpartition("::")[2].removeprefix("test_").replace("_", " ")
    shown = nodes.inline("", "", nodes.emphasis("", sentence), nodes.Text(" "))
    shown += nodes.literal("", path.removeprefix("tests/"))
    shown["classes"] = ["named-test"]
    return [shown], []


def setup(app: Sphinx) -> None:
    app.add_role("test", name_test)
