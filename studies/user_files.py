"""Finds the user's files that a problem consists of: its own, and those beside it that it imports.

They are found by reading import statements and not by importing. So the result is the same in every process, whatever
it has imported before, and includes files that a function imports only when it runs.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path


def digests(file: Path, root: Path) -> dict[str, str]:
    """Return the SHA-256 (hexadecimal) of a file, and of those under `root` that it imports, by their names there."""
    found: dict[str, str] = {}
    packages = (
        folder / "__init__.py" for folder in file.parents if folder != root and folder.is_relative_to(root)
    )
    waiting = [file, *filter(Path.is_file, packages)]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        if name not in found:
            source = path.read_bytes()
            found[name] = hashlib.sha256(source).hexdigest()
            waiting += _imported(source, path, root)
    return dict(sorted(found.items()))


def _imported(source: bytes, path: Path, root: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # the import of the file will say what is wrong
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from files_of_import(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            # One dot means the package of this file, and each further dot the package above.
            base = path.parents[node.level - 1] if node.level and node.level <= len(path.parents) else root
            parts = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from files_of_import(base, [*parts, alias.name])


def files_of_import(base: Path, parts: list[str]) -> Iterator[Path]:
    """Yield the files below a folder that importing a dotted name runs."""
    for part in parts:
        package, module = base / part / "__init__.py", base / f"{part}.py"
        if package.is_file():
            yield package
        elif module.is_file():
            yield module
            return
        base = base / part
