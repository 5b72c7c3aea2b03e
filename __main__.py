"""`python -m pairsearch`: the command line of the installation that this file lies in. Workers start by this file."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

# Started as a file, it takes the package that it belongs to, whatever `pairsearch` there is elsewhere on the path, and
# whatever a checkout's folder is called.
if __package__ != "pairsearch":
    _folder = Path(__file__).resolve().parent
    _spec = spec_from_file_location(
        "pairsearch", _folder / "__init__.py", submodule_search_locations=[str(_folder)]
    )
    if _spec is None or _spec.loader is None:
        raise ImportError(f"{_folder} is no package")
    sys.modules["pairsearch"] = module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["pairsearch"])

from pairsearch.search.cli.app import main

main()
