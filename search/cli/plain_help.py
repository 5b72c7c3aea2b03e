"""Writes types and bounds in help as plain words (`N`, `FOLDER`, `at least 1`), whichever Typer is installed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from typer.core import TyperArgument, TyperCommand

from pairsearch.search.cli import streams
from pairsearch.search.cli.options import LARGEST

WORDS = {
    r"<(?:int|integer)(?: range)?>": "N",
    r"<float(?: range)?>": "NUMBER",
    r"<(?:str|text)>": "TEXT",
    r"<(?:path|file|directory)>": "PATH",
    r"<([^<>]*)>": r"\1",
    r"\bINTEGER(?: RANGE)?\b": "N",
    r"\bFLOAT(?: RANGE)?\b": "NUMBER",
}
"""Placeholders of values, by Typer's names of types."""
BOUNDS = {
    rf"(\d+)(?:\.0)?<=x<={LARGEST}": r"at least \1",
    r"(\d+)(?:\.0)?<=x<=(\d+)(?:\.0)?": r"\1 to \2",
    r"x>=(\d+)(?:\.0)?": r"at least \1",
}


class Command(TyperCommand):
    """A command whose help uses plain words."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for parameter in self.params:
            is_argument = isinstance(parameter, TyperArgument)
            shown: Any = parameter
            shown.get_help_record = _record(shown.get_help_record, is_argument)
            if is_argument:
                shown.get_usage_pieces = _usage(shown.get_usage_pieces)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Help and usage are printed by now, so standard output is the command's own."""
        streams.reserve()
        return super().invoke(ctx)


Record = tuple[str, str] | None


def _replaced(text: str, words: dict[str, str]) -> str:
    for pattern, word in words.items():
        text = re.sub(pattern, word, text)
    return text


def _record(original: Callable[[Any], Record], is_argument: bool) -> Callable[[Any], Record]:
    def record(ctx: Any) -> Record:
        shown = original(ctx)
        if shown is None:
            return None
        # An argument is shown by its name alone.
        name = shown[0].split(" ")[0] if is_argument else _replaced(shown[0], WORDS)
        return name, _replaced(shown[1], BOUNDS)

    return record


def _usage(original: Callable[[Any], Sequence[str]]) -> Callable[[Any], list[str]]:
    return lambda ctx: [re.sub(r"[{}]", "", piece) for piece in original(ctx)]
