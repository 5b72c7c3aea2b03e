"""Sphinx's configuration: MyST pages, the furo theme, and a reference that is generated from the program."""

from __future__ import annotations

import importlib.metadata
import re
from importlib.resources import files
from pathlib import Path

from sphinx.application import Sphinx

from pairsearch.docs.figures import FIGURES
from pairsearch.docs.generated import PARTS

project = "pairsearch"
release = version = importlib.metadata.version("pairsearch")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "pairsearch"
PLOTLY = "plotly.min.js"
# Plotly's script, which its package brings: pages need no network.
html_static_path = ["static", str(files("plotly") / "package_data" / PLOTLY)]
html_css_files = ["site.css"]
html_show_copyright = False

myst_heading_anchors = 3
# Docstrings mark code by single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# A reader copies the command without its prompt, and without what it prints.
copybutton_prompt_text = r"\$ |> "
copybutton_prompt_is_regexp = True

MARK = re.compile(r"^<!-- (generated|figure): ([\w-]+) -->$", re.MULTILINE)
DOCS = Path(__file__).parent
LINK = re.compile(r"\[([^\]]*)\]\((\.\./[^)#\s]*)(?:#[^)\s]*)?\)")


def _text(mark: re.Match[str]) -> str:
    """What stands for a mark: a part of the reference, or a figure that Plotly's script draws in the browser."""
    kind, name = mark.groups()
    if kind == "generated":
        return PARTS[name]()
    drawn = FIGURES[name]().to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displayModeBar": False, "responsive": True},
    )
    # furo loads scripts at the end of a page: what draws has to wait for Plotly.
    waiting = drawn.replace("<script>", "<script>addEventListener('DOMContentLoaded', () => {")
    waiting = waiting.replace("</script>", "});</script>")
    return f"```{{raw}} html\n{waiting}\n```"


def _without_link(page: Path, link: re.Match[str]) -> str:
    """A link to a folder or a page of the repository as its text: the site has neither, and takes along files only."""
    text, target = link.groups()
    path = (page.parent / target).resolve()
    if path.is_relative_to(DOCS) or not (path.is_dir() or path.suffix == ".md"):
        return link[0]
    return f"`{text}`" if path == (DOCS.parent / text).resolve() else text


def fill(_: Sphinx, name: str, source: list[str]) -> None:
    """Replace the marks of a page that Sphinx has read, and links that lead nowhere; nothing is written beside it."""
    page = DOCS / f"{name}.md"
    source[0] = MARK.sub(_text, LINK.sub(lambda link: _without_link(page, link), source[0]))


def load_plotly(app: Sphinx, page: str, _: str, context: dict[str, object], __: object) -> None:
    """Load the script on pages with figures only: it is large."""
    if "plotly-graph-div" in str(context.get("body")):
        app.add_js_file(PLOTLY)


def keep_colons(_: Sphinx, what: str, __: str, ___: object, ____: object, lines: list[str]) -> None:
    """Keep napoleon from taking what stands before a colon in an attribute's docstring for its type."""
    if what in ("attribute", "property"):
        lines[:] = [line.replace(": ", " – ") for line in lines]


def setup(app: Sphinx) -> None:
    """Connect the functions of this file with Sphinx's events."""
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before napoleon's
    app.connect("html-page-context", load_plotly)
