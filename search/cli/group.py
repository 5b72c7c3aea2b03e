"""The group of all commands. A module of commands is imported when one of them is called, so that others start quickly.

What the program's help shows of each command stands here, as it must be known without that. Help writes bounds as
plain words (`at least 1`), whichever Typer is installed.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from pairsearch.search.cli import commands, streams
from pairsearch.search.cli.options import LARGEST
from pairsearch.search.common.errors import ExitCode, PairsearchError
from pairsearch.search.common.redaction import conceal, presentable, printable
from pairsearch.studies.errors import CodeError, DefinitionError

# Click's class: releases of Typer differ in whether they depend on Click or contain it.
UsageError: Any = typer.BadParameter.__base__
BOUNDS = {
    rf"(\d+)(?:\.0)?<=x<={LARGEST}": r"at least \1",
    r"(\d+)(?:\.0)?<=x<=(\d+)(?:\.0)?": r"\1 to \2",
    r"x>=(\d+)(?:\.0)?": r"at least \1",
}


class Command(TyperCommand):
    """A command whose help uses plain words."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        shown: Any
        for shown in self.params:
            is_argument = isinstance(shown, TyperArgument)
            shown.get_help_record = partial(_record, shown.get_help_record, is_argument)
            if is_argument:
                shown.get_usage_pieces = partial(_usage, shown.get_usage_pieces)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Help and usage are printed by now, so standard output is the command's own."""
        streams.reserve()
        return super().invoke(ctx)


def _record(original: Callable[[Any], Any], is_argument: bool, ctx: Any) -> tuple[str, str] | None:
    shown = original(ctx)
    if shown is None:
        return None
    # An argument is shown by its name alone.
    name, text = shown[0].split(" ")[0] if is_argument else shown[0], shown[1]
    for pattern, words in BOUNDS.items():
        text = re.sub(pattern, words, text)
    return name, text


def _usage(original: Callable[[Any], Any], ctx: Any) -> list[str]:
    return [re.sub(r"[{}]", "", piece) for piece in original(ctx)]


class Entry(NamedTuple):
    """A command in the group."""

    name: str
    """Of the command, and of its function."""
    module: str
    """The module of `search.cli.commands` that has the function."""
    example: str
    does: str
    """What it does, in a line. The function's docstring has what its own help says beyond that."""

    def load(self) -> Any:
        """Import the module, and return the command."""
        function = getattr(import_module(f"{commands.__name__}.{self.module}"), self.name)
        text = "\n\n".join(filter(None, [self.does, inspect.getdoc(function)]))
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        alone.command(cls=Command, help=text, epilog=f"Example: {self.example}")(function)
        return typer.main.get_command(alone)


COMMANDS = (
    Entry("studies", "looking", "pairsearch studies",
          "List the shipped definitions, and the studies in the database with their progress."),
    Entry("check", "checking", "pairsearch check wsal --workers 4",
          "Train a few points for two epochs: do they give the same bits wherever they train, what does the whole "
          "grid cost?"),
    Entry("create", "searching", "pairsearch create b1 b2 ws wsal",
          "Create studies and insert their grids; run again, it changes nothing more."),
    Entry("worker", "working", "pairsearch worker b1 --max-trials 10",
          "Be one worker: claim configurations until none is left. SIGTERM hands the current one back and exits 0."),
    Entry("run", "searching", "pairsearch run b1 ws --workers 2 --limit 20",
          "Create studies, run worker processes over them with live progress, and print the best."),
    Entry("stop", "searching", "pairsearch stop wsal",
          "Tell all workers of studies, wherever they are, to hand back what they hold and to end."),
    Entry("status", "looking", "pairsearch status b1 --json",
          "Show the progress of studies; also free the configurations of silent workers, and close their trials."),
    Entry("retry", "searching", "pairsearch retry wsal",
          "Try failed configurations again, as if for the first time."),
    Entry("best", "looking", "pairsearch best wsal --top 5",
          "Show the best configurations of a study, and how far its folds can tell which is the best."),
    Entry("evaluate", "evaluating", "pairsearch evaluate b1 b2 ws wsal --paper",
          "Train the best configurations afresh, ten rounds each, and print a table of them; finished rounds are "
          "kept."),
    Entry("claims", "claiming", "pairsearch claims paper --stored",
          "Decide claims about studies: each holds, does not hold, or is undecided, by the interval of its effect."),
    Entry("models", "exporting", "pairsearch models b1 wsal --out models",
          "Write the trained models of final rounds that the database has as files."),
    Entry("predict", "predicting", "pairsearch predict MODEL.safetensors first.png second.png",
          "Ask a trained model about files."),
    Entry("reproduce", "searching", "pairsearch reproduce --quick",
          "The main job: search the paper's four studies, evaluate the best of each and the paper's own, print "
          "Table 1."),
    Entry("replay", "replaying", "pairsearch replay wsal --sampler random",
          "Search a finished study again without training: how much of the grid does a search have to see?"),
    Entry("report", "reporting", "pairsearch report b1 b2 ws wsal",
          "Write tables, figures and provenance of studies as one HTML page that works offline."),
    Entry("upgrade", "upgrading", "pairsearch upgrade",
          "Take a database of an older pairsearch to this one, with all its results; stop its workers first."),
    Entry("export", "exporting", "pairsearch export wsal --out wsal-tables",
          "Write studies as a folder of Parquet tables, from which `pairsearch load` makes them again."),
    Entry("load", "loading", "pairsearch load paper",
          "Load results into the database, each exactly once; run again, it changes nothing more."),
    Entry("dashboard", "serving", "pairsearch dashboard --port 8080",
          "Serve optuna-dashboard on the same database, on this machine only."),
    Entry("deploy", "deploying", "pairsearch deploy --out pairsearch-deploy",
          "Write the files that run this version elsewhere: Docker Compose, Kubernetes, Slurm, and the program as a "
          "wheel."),
    Entry("doctor", "examining", "pairsearch doctor",
          "Check versions, database, memory and threads, and what the problems of studies need; exits 1 if it is "
          "missing."),
)  # fmt: skip
"""All commands in the order of the help."""


class Boundary(TyperGroup):
    """The group of `COMMANDS`. It prints our errors as one line with their exit code; a bug keeps its traceback."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # For lists and suggestions a name and a line suffice.
        self.commands.update({one.name: TyperCommand(one.name, help=one.does) for one in COMMANDS})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name, and import it."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, next((one.load() for one in COMMANDS if one.name == name), None), rest

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the arguments, and print help if it is asked for."""
        with streams.ends_with_its_reader():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with streams.ends_with_its_reader():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            streams.say_error("interrupted: what was finished is stored, run the command again to go on")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except PairsearchError as error:
            streams.say_error(str(error))
            raise typer.Exit(error.exit_code) from None
        except DefinitionError as error:
            if isinstance(error, CodeError):
                sys.stderr.write(presentable(error.traceback))
            streams.say_error(str(error))
            raise typer.Exit(ExitCode.BAD_INPUT) from None
        except UsageError as error:
            # The message repeats the arguments, among which may be a URL in the wrong place.
            error.message = printable(conceal(error.message))
            raise
