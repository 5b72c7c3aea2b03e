"""`make audit` never passes what was not looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stack import ROOT

SOUND = {"name": "numpy", "version": "2.4", "vulns": []}
WEAK = {"name": "jinja2", "version": "3.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1"]}]}
MISSED = {
    "name": "rich",
    "skip_reason": "Dependency not found on PyPI and could not be audited: rich (15.0.0)",
}
PRIVATE = {"name": "torch", "skip_reason": "Dependency not found on PyPI: torch (2.15.0+cpu)"}
OWN = {"name": "pairsearch", "skip_reason": "distribution marked as editable"}


@pytest.mark.parametrize(
    ("packages", "code", "message"),
    [
        ([SOUND, OWN], 0, "1 packages audited, 0 with known weaknesses, 0 not audited"),
        ([SOUND, PRIVATE], 0, "not audited: torch: "),
        ([SOUND, WEAK], 1, "jinja2 3.0: PYSEC-1, mended in 3.1"),
        ([SOUND, MISSED], 1, "not audited: rich: "),
        (
            [MISSED, PRIVATE, OWN],
            1,
            "nothing was audited: the service of pip-audit (pypi.org) cannot be reached",
        ),
        (None, 1, "its service may be out of reach. It ended with: ConnectionError: no route"),
    ],
)
def test_it_says_what_was_found_and_what_was_not_looked_at(
    tmp_path: Path, packages: list[dict[str, Any]] | None, code: int, message: str
) -> None:
    report = "" if packages is None else json.dumps({"dependencies": packages})
    (tmp_path / "pip_audit.py").write_text(
        f"import sys\nprint({report!r})\nprint('ConnectionError: no route', file=sys.stderr)\nsys.exit(1)\n"
    )
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit.py"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_lint_and_ci_do_without_it() -> None:
    assert "audit" not in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
