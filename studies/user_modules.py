"""Imports a user's file as a module whose name says where the file lies, so that other processes can import it too.

Processes that a problem starts (`multiprocessing`, joblib, a `DataLoader`) get its functions and classes by the name of
their module. The names of these modules begin with the name of this one, so they hide nobody's module, and whoever
imports one of them imports this module first, which finds the file.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from urllib.parse import quote, unquote_to_bytes

# Python imports a name below this one only if this module looks like a package.
__path__: list[str] = []


def module_name(file: Path) -> str:
    """Return the name of the module of a file, which is the same in every process."""
    # A dot would end the name.
    return f"{__name__}.{quote(os.fsencode(file)).replace('.', '%2E')}"


def import_file(file: Path) -> ModuleType:
    """Import the file at an absolute path, or return its module if it is imported; raises what the file raises."""
    return importlib.import_module(module_name(file))


@contextlib.contextmanager
def first_on_path(folder: Path) -> Iterator[None]:
    """Let a file import its neighbours: their folder is first on the import path in the block, and last afterwards.

    At the end of the path it hides no other module, and a function can still import them when it runs.
    """
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
        if entry not in sys.path:
            sys.path.append(entry)


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with first_on_path(Path(self.path).parent):
            super().exec_module(module)


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, quoted = name.rpartition(".")
        file = os.fsdecode(unquote_to_bytes(quoted))
        # Other names come from relative imports in a file, which belongs to no package.
        if package != __name__ or not Path(file).is_absolute():
            return None
        return spec_from_file_location(name, file, loader=_Loader(name, file))


sys.meta_path.append(_Finder)
