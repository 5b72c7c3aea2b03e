"""pairsearch: hyperparameter search over the complete grid, each configuration exactly once.

The public names are in `__all__`; `pairsearch.search.interface` describes them. Each is loaded when it is first used,
so that a command imports only what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pairsearch.search.common.errors import PairsearchError as Error
    from pairsearch.search.interface.checks import check, check_contract
    from pairsearch.search.interface.loading import load
    from pairsearch.search.interface.study import Study, create, list_studies, open
    from pairsearch.studies.errors import DefinitionError
    from pairsearch.studies.model_card import read_card
    from pairsearch.studies.problem import Impossible, Metric, OneByOne, Problem, Run, Stopped

__all__ = [
    "DefinitionError",
    "Error",
    "Impossible",
    "Metric",
    "OneByOne",
    "Problem",
    "Run",
    "Stopped",
    "Study",
    "check",
    "check_contract",
    "create",
    "list_studies",
    "load",
    "open",
    "read_card",
]

_NAMES = {
    "search.common.errors": "PairsearchError",
    "search.interface.checks": "check check_contract",
    "search.interface.loading": "load",
    "search.interface.study": "Study create list_studies open",
    "studies.errors": "DefinitionError",
    "studies.model_card": "read_card",
    "studies.problem": "Impossible Metric OneByOne Problem Run Stopped",
}


def __getattr__(name: str) -> object:
    wanted = "PairsearchError" if name == "Error" else name
    for module, names in _NAMES.items():
        if name in __all__ and wanted in names.split():
            return getattr(import_module(f"{__name__}.{module}"), wanted)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
