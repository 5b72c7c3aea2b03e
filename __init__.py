"""pairsearch: hyperparameter search over the complete grid, each configuration exactly once.

What `import pairsearch` gives is listed in `__all__` and described in `pairsearch.search.interface`. Names are loaded
when they are first used: the command line starts without what it has no use for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pairsearch.data.errors import DataError
    from pairsearch.search.errors import PairsearchError as Error
    from pairsearch.search.interface import Study, create, list_studies, open
    from pairsearch.studies.errors import DefinitionError

__all__ = ["DataError", "DefinitionError", "Error", "Study", "create", "list_studies", "open"]

_PLACES = {
    "DataError": ("pairsearch.data.errors", "DataError"),
    "DefinitionError": ("pairsearch.studies.errors", "DefinitionError"),
    "Error": ("pairsearch.search.errors", "PairsearchError"),
    "Study": ("pairsearch.search.interface", "Study"),
    "create": ("pairsearch.search.interface", "create"),
    "list_studies": ("pairsearch.search.interface", "list_studies"),
    "open": ("pairsearch.search.interface", "open"),
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
