"""Runs the command line of the installation that this file lies in: `python -m pairsearch`, and how workers start."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

# Run as a file, it must import its own package, even where the path has another `pairsearch` or where the checkout's
# folder has another name.
if __package__ != "pairsearch":
    _folder = Path(__file__).resolve().parent
    _spec = spec_from_file_location(
        "pairsearch", _folder / "__init__.py", submodule_search_locations=[str(_folder)]
    )
    if _spec is None or _spec.loader is None:
        raise ImportError(f"{_folder} is no package")
    sys.modules["pairsearch"] = module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["pairsearch"])

# Processes that a problem starts run this file too, under another name, to know the package.
if __name__ == "__main__":
    from pairsearch.search.cli.app import main

    main()
