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

_PLACES = {
    "DefinitionError": ("pairsearch.studies.errors", "DefinitionError"),
    "Error": ("pairsearch.search.common.errors", "PairsearchError"),
    "Study": ("pairsearch.search.interface.study", "Study"),
    "Impossible": ("pairsearch.studies.problem", "Impossible"),
    "Metric": ("pairsearch.studies.problem", "Metric"),
    "OneByOne": ("pairsearch.studies.problem", "OneByOne"),
    "Problem": ("pairsearch.studies.problem", "Problem"),
    "Run": ("pairsearch.studies.problem", "Run"),
    "Stopped": ("pairsearch.studies.problem", "Stopped"),
    "check": ("pairsearch.search.interface.checks", "check"),
    "check_contract": ("pairsearch.search.interface.checks", "check_contract"),
    "create": ("pairsearch.search.interface.study", "create"),
    "list_studies": ("pairsearch.search.interface.study", "list_studies"),
    "load": ("pairsearch.search.interface.loading", "load"),
    "open": ("pairsearch.search.interface.study", "open"),
    "read_card": ("pairsearch.studies.model_card", "read_card"),
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
