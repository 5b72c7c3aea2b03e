"""The group of all commands. A module of commands is imported when one of them is called, so that others start quickly.

What the program's help shows of each command stands here, as it must be known without that.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from pairsearch.search.cli import commands
from pairsearch.search.cli.messages import say_error
from pairsearch.search.cli.pipes import ends_with_its_reader
from pairsearch.search.cli.plain_help import Command
from pairsearch.search.common.errors import ExitCode, PairsearchError
from pairsearch.search.common.redaction import conceal, presentable, printable
from pairsearch.studies.errors import CodeError, DefinitionError

# Click's class: releases of Typer differ in whether they depend on Click or contain it.
UsageError: Any = typer.BadParameter.__base__


class Entry(NamedTuple):
    """A command in the group."""

    name: str
    """Of the command, and of its function."""
    module: str
    """The module of `search.cli.commands` that has the function."""
    does: str
    """What it does, in a line. The function's docstring has what its own help says beyond that."""
    example: str

    def load(self) -> Any:
        """Import the module, and return the command."""
        function = getattr(import_module(f"{commands.__name__}.{self.module}"), self.name)
        text = "\n\n".join(filter(None, [self.does, inspect.getdoc(function)]))
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        alone.command(cls=Command, help=text, epilog=f"Example: {self.example}")(function)
        return typer.main.get_command(alone)


COMMANDS = (
    Entry(
        "studies",
        "looking",
        "List the shipped definitions, and the studies in the database with their progress.",
        "pairsearch studies",
    ),
    Entry(
        "check",
        "checking",
        "Train a few points for two epochs: do they give the same bits wherever they train, what does the whole grid "
        "cost?",
        "pairsearch check wsal --workers 4",
    ),
    Entry(
        "create",
        "searching",
        "Create studies and insert their grids; run again, it changes nothing more.",
        "pairsearch create b1 b2 ws wsal",
    ),
    Entry(
        "worker",
        "working",
        "Be one worker: claim configurations until none is left. SIGTERM hands the current one back and exits 0.",
        "pairsearch worker b1 --max-trials 10",
    ),
    Entry(
        "run",
        "searching",
        "Create studies, run worker processes over them with live progress, and print the best.",
        "pairsearch run b1 ws --workers 2 --limit 20",
    ),
    Entry(
        "stop",
        "searching",
        "Tell all workers of studies, wherever they are, to hand back what they hold and to end.",
        "pairsearch stop wsal",
    ),
    Entry(
        "status",
        "looking",
        "Show the progress of studies; also free the configurations of silent workers, and close their trials.",
        "pairsearch status b1 --json",
    ),
    Entry(
        "retry",
        "searching",
        "Try failed configurations again, as if for the first time.",
        "pairsearch retry wsal",
    ),
    Entry(
        "best",
        "looking",
        "Show the best configurations of a study, and how far its folds can tell which is the best.",
        "pairsearch best wsal --top 5",
    ),
    Entry(
        "evaluate",
        "evaluating",
        "Train the best configurations afresh, ten rounds each, and print a table of them; finished rounds are kept.",
        "pairsearch evaluate b1 b2 ws wsal --paper",
    ),
    Entry(
        "claims",
        "claiming",
        "Decide claims about studies: each holds, does not hold, or is undecided, by the interval of its effect.",
        "pairsearch claims paper --stored",
    ),
    Entry(
        "models",
        "modelling",
        "Write the trained models of final rounds that the database has as files.",
        "pairsearch models b1 wsal --out models",
    ),
    Entry(
        "predict",
        "predicting",
        "Ask a trained model about files.",
        "pairsearch predict MODEL.safetensors first.png second.png",
    ),
    Entry(
        "reproduce",
        "searching",
        "The main job: search the paper's four studies, evaluate the best of each and the paper's own, print Table 1.",
        "pairsearch reproduce --quick",
    ),
    Entry(
        "replay",
        "replaying",
        "Search a finished study again without training: how much of the grid does a search have to see?",
        "pairsearch replay wsal --sampler random",
    ),
    Entry(
        "report",
        "reporting",
        "Write tables, figures and provenance of studies as one HTML page that works offline.",
        "pairsearch report b1 b2 ws wsal",
    ),
    Entry(
        "upgrade",
        "upgrading",
        "Take a database of an older pairsearch to this one, with all its results; stop its workers first.",
        "pairsearch upgrade",
    ),
    Entry(
        "export",
        "exporting",
        "Write studies as a folder of Parquet tables, from which `pairsearch load` makes them again.",
        "pairsearch export wsal --out wsal-tables",
    ),
    Entry(
        "load",
        "loading",
        "Load results into the database, each exactly once; run again, it changes nothing more.",
        "pairsearch load paper",
    ),
    Entry(
        "dashboard",
        "serving",
        "Serve optuna-dashboard on the same database, on this machine only.",
        "pairsearch dashboard --port 8080",
    ),
    Entry(
        "deploy",
        "deploying",
        "Write the files that run this version elsewhere: Docker Compose, Kubernetes, Slurm, and the program as a "
        "wheel.",
        "pairsearch deploy --out pairsearch-deploy",
    ),
    Entry(
        "doctor",
        "examining",
        "Check versions, database, memory and threads, and what the problems of studies need; exits 1 if it is "
        "missing.",
        "pairsearch doctor",
    ),
)
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
        with ends_with_its_reader():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with ends_with_its_reader():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            say_error("interrupted: what was finished is stored, run the command again to go on")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except PairsearchError as error:
            say_error(str(error))
            raise typer.Exit(error.exit_code) from None
        except DefinitionError as error:
            if isinstance(error, CodeError):
                sys.stderr.write(presentable(error.traceback))
            say_error(str(error))
            raise typer.Exit(ExitCode.BAD_INPUT) from None
        except UsageError as error:
            # The message repeats the arguments, among which may be a URL in the wrong place.
            error.message = printable(conceal(error.message))
            raise
