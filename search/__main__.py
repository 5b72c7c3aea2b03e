"""`python -m search`: the command line of the installation that this file lies in. Workers start by it."""

import sys
from importlib import import_module
from pathlib import Path

# The names of our packages are everybody's. They are imported from where this file lies, whatever a `models.py` or a
# `search.py` elsewhere on the path is; all that comes later is found by them, on the path as it was.
_installation = str(Path(__file__).resolve().parents[1])
sys.path.insert(0, _installation)
for _package in ("search", "studies", "models", "data"):
    import_module(_package)
sys.path.remove(_installation)

from search.cli import main  # noqa: E402

main()
