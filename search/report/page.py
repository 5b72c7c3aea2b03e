"""Renders a report as one HTML page that works offline and loads nothing, however hostile its texts are.

Three measures keep texts from being executed: the template escapes every value (Jinja2, autoescape); figures are JSON
in which no character can end the element; and a Content-Security-Policy lists the page's scripts by their hashes, so
that no other script runs even if one got into the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pairsearch.search.common.files import whole_file
from pairsearch.search.report.content import Document

TEMPLATES = Path(__file__).parent / "templates"


def render(report: Document) -> str:
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - 5 MB

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [get_plotlyjs(), (TEMPLATES / "report.js").read_text(encoding="utf-8")]
    return environment.get_template("report.html").render(
        report=report,
        policy=content_security_policy(scripts),
        # Scripts and styles are ours and contain no data, so they are not escaped.
        scripts=[Markup(script) for script in scripts],  # noqa: S704
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704
        # Elements are identified by number: a name may contain characters that an identifier must not.
        numbers={figure.name: number for number, figure in enumerate(report.figures, start=1)},
        data={
            figure.name: Markup(inline_json([view.spec for view in figure.views]))  # noqa: S704
            for figure in report.figures
        },
        kind=lambda block: type(block).__name__,
    )


def write(report: Document, path: Path) -> Path:
    """Write the page to a file, which replaces an existing one; raises what `whole_file` raises."""
    page = render(report).encode()
    with whole_file(path) as file:
        file.write(page)
    return path


def content_security_policy(scripts: list[str]) -> str:
    """Return the policy: nothing is loaded, only these scripts run, and images are only those that Plotly creates."""
    # Browsers hash the parsed text, in which a carriage return has become a line feed.
    parsed = [script.replace("\r\n", "\n").replace("\r", "\n").encode() for script in scripts]
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in parsed]
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def inline_json(value: Any) -> str:
    """Return JSON that cannot leave a `script` element: characters that HTML or JavaScript reads become `\\u....`.

    It raises ValueError where a number is NaN or infinite.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&'\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
