"""The words of a command: placeholders, which are checked before anything is trained and filled for each run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pairsearch.studies.configuration import Params, Value
from pairsearch.studies.user_files import files_of_import

PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
OF_RUN = ("fold", "folds", "kind", "seed", "epochs", "device", "params", "checkpoint", "out")
"""Placeholders that are not parameters."""
OF_ALL = ("flags", "hydra", "params")
"""Placeholders that stand for all parameters of a configuration."""
SEPARATORS = re.compile(r"[\s=;'\"|&<>()]+")
PLAIN_HYDRA = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_][\w./-]*", re.IGNORECASE)
"""Texts that Hydra reads as they are; it would take others for numbers, lists or sweeps."""


def as_text(value: Value) -> str:
    """Write a value for a program: `true` or `false`, a float by the shortest digits that read back as the same."""
    if type(value) is bool:
        return "true" if value else "false"
    return repr(value) if type(value) is float else str(value)


def as_override(name: str, value: Value) -> str:
    """Write a parameter as Hydra's `name=value`."""
    text = as_text(value)
    if isinstance(value, str) and not PLAIN_HYDRA.fullmatch(value):
        text = "'" + re.sub(r"(\\*)'", r"\1\1\\'", re.sub(r"(\\+)$", r"\1\1", value)) + "'"
    return f"{name}={text}"


class Words:
    """A command with placeholders.

    Args:
        setting: the setting that it stands in, for messages.

    Attributes:
        names: the placeholders in it.

    Raises:
        ValueError: a brace stands alone, or `{flags}` or `{hydra}` inside of a word.
    """

    def __init__(self, words: Sequence[str], setting: str = "command") -> None:
        self.words = tuple(words)
        self._setting = setting
        found = [(word, match) for word in words for match in PART.finditer(word)]
        for word, match in found:
            if match[0] in ("{", "}"):
                raise ValueError(
                    f"settings.{setting}: {word!r}: a brace stands alone: write {{{{ or }}}} for one"
                )
            if match[1] in ("flags", "hydra") and word != match[0]:
                raise ValueError(
                    f"settings.{setting}: {word!r}: {match[0]} stands for several words: make it a word by itself"
                )
        self.names = frozenset(match[1] for _, match in found if match[1] is not None)

    def check(self, params: Params) -> None:
        """Raise a ValueError where a placeholder means nothing for a configuration, or two things."""
        known = dict.fromkeys([*params, *OF_RUN, *OF_ALL])
        for name in sorted(self.names):
            if name in params and name in {*OF_RUN, *OF_ALL}:
                raise ValueError(
                    f"settings.{self._setting}: {{{name}}} is something of the run, and a parameter of the grid too: "
                    "give the parameter another name"
                )
            if name not in known:
                raise ValueError(
                    f"settings.{self._setting}: there is no {{{name}}} here: expected one of {', '.join(known)}"
                )

    def check_used(self, params: Params) -> None:
        """Raise a ValueError where no placeholder uses a parameter of a configuration."""
        if unused := [name for name in params if name not in self.names and not self.names & {*OF_ALL}]:
            raise ValueError(
                f"grid.{unused[0]}: settings.command uses it nowhere: write {{{unused[0]}}} in one of its words, or "
                "{flags}, {hydra} or {params} for all parameters"
            )

    def filled(self, params: Params, of_run: Mapping[str, str]) -> list[str]:
        """Return the words for one run, with texts for `OF_RUN`; a value never becomes two of them."""
        texts = {name: as_text(value) for name, value in params.items()} | dict(of_run)
        found: list[str] = []
        for word in self.words:
            if word == "{flags}":
                found += [f"--{name}={as_text(value)}" for name, value in params.items()]
            elif word == "{hydra}":
                found += [as_override(name, value) for name, value in params.items()]
            else:
                found.append(
                    PART.sub(lambda match: match[0][0] if match[1] is None else texts[match[1]], word)
                )
        return found

    def files(self, folder: Path) -> Iterator[Path]:
        """Yield the files under a folder that the command names, also after `=`, in a shell's line and by `-m`."""
        before = ""
        for word in self.words:
            for name in dict.fromkeys([word, *SEPARATORS.split(word)]):
                path = Path(os.path.normpath(folder / name))
                if path.is_relative_to(folder) and path.is_file():
                    yield path
                if before == "-m":
                    yield from files_of_import(folder, [*name.split("."), "__main__"])
                before = name or before
