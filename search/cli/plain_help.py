"""Help in plain words, whatever the installed Typer makes of types and bounds: `N`, `FOLDER`, `at least 1`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from typer.core import TyperArgument, TyperCommand

from pairsearch.search.cli.terminal import LARGEST

WORDS = {
    r"<(?:int|integer)(?: range)?>": "N",
    r"<float(?: range)?>": "NUMBER",
    r"<(?:str|text)>": "TEXT",
    r"<(?:path|file|directory)>": "PATH",
    r"<([^<>]*)>": r"\1",
    r"\bINTEGER(?: RANGE)?\b": "N",
    r"\bFLOAT(?: RANGE)?\b": "NUMBER",
}
"""What stands for a value, by Typer's names for types."""
BOUNDS = {
    rf"(\d+)(?:\.0)?<=x<={LARGEST}": r"at least \1",
    r"(\d+)(?:\.0)?<=x<=(\d+)(?:\.0)?": r"\1 to \2",
    r"x>=(\d+)(?:\.0)?": r"at least \1",
}


class Command(TyperCommand):
    """A command whose help is plain."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for parameter in self.params:
            is_argument = isinstance(parameter, TyperArgument)
            shown: Any = parameter
            shown.get_help_record = _record(shown.get_help_record, is_argument)
            if is_argument:
                shown.get_usage_pieces = _usage(shown.get_usage_pieces)


Record = tuple[str, str] | None


def _replaced(text: str, words: dict[str, str]) -> str:
    for pattern, word in words.items():
        text = re.sub(pattern, word, text)
    return text


def _record(given: Callable[[Any], Record], is_argument: bool) -> Callable[[Any], Record]:
    def record(ctx: Any) -> Record:
        found = given(ctx)
        if found is None:
            return None
        # The name of an argument says it all.
        name = found[0].split(" ")[0] if is_argument else _replaced(found[0], WORDS)
        return name, _replaced(found[1], BOUNDS)

    return record


def _usage(given: Callable[[Any], Sequence[str]]) -> Callable[[Any], list[str]]:
    return lambda ctx: [re.sub(r"[{}]", "", piece) for piece in given(ctx)]
