"""Where a definition comes from, and what of a user's code is imported for it.

A user's file is code that runs. It is imported from the folder of a definition that the user names, and never because a
database names it: a study that is given by its name alone can be trained only if its problem is a shipped one.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

from pairsearch.studies import user_modules
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.user_files import digests

_IMPORTED: dict[str, tuple[Path, str]] = {}
"""The user's modules that this process has imported, by name: the file of each and its SHA-256."""


class Place:
    """Where a definition comes from, and what may be imported for it.

    `folder` is that of the definition's file; None for a definition from a database, for which no user's code is
    imported. `beside` are the settings that are not in the definition but given by `--set` or remembered: files that
    they name are relative to the working directory.
    """

    def __init__(self, folder: Path | None, beside: Collection[str] = ()) -> None:
        self.beside = frozenset(beside)
        self.folder = None if folder is None else folder.resolve()
        self.files: dict[str, str] = {}
        """SHA-256 (hexadecimal) of the user's files that were imported, by name."""
        self.paths: set[Path] = set()
        """Where these files are, and others that the definition names relative to its folder."""

    def file(self, name: str) -> Path:
        """Return the path of a file that the definition names, relative to the definition's folder.

        A relative name in a definition from a database raises a ProblemError.
        """
        path = Path(name).expanduser()
        if path.is_absolute():
            return path
        if self.folder is None:
            raise ProblemError(
                f"{name} lies beside the study's definition: name the definition's .toml file instead of the study"
            )
        if (self.folder / path).is_file():
            self.paths.add(self.folder / path)
        return self.folder / path

    def file_of(self, setting: str, name: str) -> Path:
        """Return the path of a file that a setting names, relative to the definition if that has the setting.

        Else it is relative to the working directory. Raises as `file`.
        """
        return Path(name).expanduser().absolute() if setting in self.beside else self.file(name)

    def find(self, name: str, *, trusted: str | None = None) -> Any:
        """Import and return the object that `FILE.py:NAME`, `MODULE:NAME` or `MODULE.NAME` names.

        Modules of a `trusted` package are imported even for a definition from a database. What is not there, or must
        not be imported, raises a ProblemError.
        """
        module_name, colon, attribute = name.partition(":")
        if not colon:
            module_name, _, attribute = name.rpartition(".")
        is_file = module_name.endswith(".py")
        valid = colon if is_file else not colon or all(map(str.isidentifier, module_name.split(".")))
        if not (module_name and attribute and valid):
            raise ProblemError(f"{name!a}: expected FILE.py:NAME or MODULE:NAME")
        ours = trusted is not None and (module_name == trusted or module_name.startswith(f"{trusted}."))
        if self.folder is None and not ours:
            raise ProblemError(
                "it is code of yours, which is not run because a database names it: name the definition's .toml file "
                "instead of the study"
            )
        module = self._file(module_name) if is_file else self._module(module_name)
        found = module
        for part in attribute.split("."):
            if not hasattr(found, part):
                public = ", ".join(known for known in vars(module) if not known.startswith("_"))
                raise ProblemError(f"{module_name} has no {attribute!a}; it has {public or 'nothing'}")
            found = getattr(found, part)
        return found

    def _file(self, name: str) -> ModuleType:
        path = self.file(name)
        if not path.is_file():
            raise ProblemError(f"there is no file {path}")
        module = user_modules.import_file(path)
        self._take(path, path.parent, module.__name__)
        return module

    def _take(self, path: Path, root: Path, module_name: str) -> None:
        """Record a user's file and its imports; raises a ProblemError if one has changed or its name is taken."""
        found = digests(path, root)
        for name, digest in found.items():
            file = root / name
            parts = Path(name).with_suffix("").parts
            known_as = (
                module_name if file == path else ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            )
            other, before = _IMPORTED.setdefault(known_as, (file, digest))
            if other != file:
                raise ProblemError(
                    f"{file} and {other} are both module {known_as}, of which a process can have one: name the studies "
                    "in commands of their own, or rename one file"
                )
            if before != digest:
                raise ProblemError(f"{file} was changed after this process imported it: start Python anew")
        self.files |= found
        self.paths |= {root / name for name in found}

    def _module(self, name: str) -> ModuleType:
        if self.folder is None:
            return _imported(name)
        with user_modules.first_on_path(self.folder):
            module = _imported(name)
        file = getattr(module, "__file__", None)
        # Installed packages have versions; only other files are recorded.
        if file is not None and not {"site-packages", "dist-packages"} & set(Path(file).parts):
            path = Path(file).resolve()
            depth = name.count(".") + (path.name == "__init__.py")
            self._take(path, path.parents[depth], name)
        return module


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ProblemError(f"there is no module {name}") from None
        raise
