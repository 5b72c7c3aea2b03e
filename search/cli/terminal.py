"""Shared by all commands: options, output, and the boundary where errors become a line and an exit code."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pairsearch.search.cli.pipes import ends_with_its_reader
from pairsearch.search.cli.streams import output, plain
from pairsearch.search.errors import ExitCode, PairsearchError
from pairsearch.search.machine import Machine
from pairsearch.search.redaction import conceal, conceal_places, presentable, printable
from pairsearch.search.setup import storage_url
from pairsearch.search.setup.storage_url import FILE_VARIABLE, VARIABLE
from pairsearch.studies.checks import Check
from pairsearch.studies.errors import CodeError, DefinitionError

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

DEFAULT_MODELS = Path("pairsearch-models")

# Click's class: releases of Typer differ in whether they depend on Click or contain it.
UsageError: Any = typer.BadParameter.__base__


class Boundary(TyperGroup):
    """The group of all commands. It prints our errors as one line with their exit code; a bug keeps its traceback."""

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


DEFAULT_STORAGE = storage_url.DEFAULT_STORAGE
# The largest integer of a database column.
LARGEST = 2**31 - 1
# A day, in seconds.
LONGEST_LEASE = 86_400.0


def a_number(value: float | None) -> float | None:
    """Refuse NaN, which passes every bound (Typer's callback)."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("expected a number, got nan")
    return value


def choose_storage(context: typer.Context, parameter: typer.CallbackParam, value: str) -> str:
    """Return the database URL of a command (Typer's callback of `--storage`).

    The option takes precedence over the environment. An empty variable counts as unset.

    Raises:
        StorageError: both variables are set, or the file cannot be used.
    """
    source = context.get_parameter_source(parameter.name or "")
    source_name = "" if source is None else source.name
    file = os.environ.get(FILE_VARIABLE)
    if source_name == "COMMANDLINE":
        if conceal_places(value) != value:
            typer.echo(
                f"warning: other people can read the password of --storage in the process list: give the URL by "
                f"{VARIABLE} or {FILE_VARIABLE}",
                err=True,
            )
        return value
    return storage_url.environment_storage() if file else value


STUDIES_VARIABLE = "PAIRSEARCH_STUDIES"
"""Studies, separated by spaces, of `create`, `worker`, `run`, `retry` and `evaluate` if they are given none."""
Studies = Annotated[
    list[str],
    typer.Argument(
        envvar=STUDIES_VARIABLE,
        metavar="STUDY",
        help="A shipped study, one in the database, or a .toml file.",
    ),
]
SomeStudies = Annotated[
    list[str] | None, typer.Argument(metavar="STUDY", help="All in the database if left out.")
]
Storage = Annotated[
    str,
    typer.Option(
        "--storage",
        envvar=VARIABLE,
        show_envvar=True,
        callback=choose_storage,
        metavar="URL",
        help="Database URL: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE. Process lists show options: "
        "put a password into the environment variable, or into a file that PAIRSEARCH_STORAGE_FILE names.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A setting of this machine for the problem, such as where its data are. Repeat it for several settings.",
    ),
]
DataKind = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="KIND",
        help="Short for --set data=KIND: which data the problem takes, or auto, which leaves it to the study, or for a "
        "new one to the problem.",
        show_default="what the study is bound to, or the problem's own default",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="Short for --set data_dir=FOLDER: where the problem looks for them.",
        show_default="the problem's own default",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="PyTorch device to train on: cpu, cuda, cuda:1 ...")
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        max=LARGEST,
        help="Only the first N configurations of each study's order.",
        show_default="all",
    ),
]
Lease = Annotated[
    float,
    typer.Option(
        "--lease",
        metavar="SECONDS",
        min=1,
        max=LONGEST_LEASE,
        callback=a_number,
        help="Seconds after which a silent worker's configuration is free.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=LARGEST,
        help="Worker processes; each computes on one core.",
        show_default="the cores that this process may use; 1 on another device than the CPU",
    ),
]
Models = Annotated[
    Path | None,
    typer.Option(
        "--models",
        metavar="FOLDER",
        help="Folder for the trained models of the rounds. If it is given, stored rounds without a file are trained "
        "again.",
        show_default=str(DEFAULT_MODELS),
    ),
]
NoModels = Annotated[bool, typer.Option("--no-models", help="Keep no trained models.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print results and errors only, no progress.")]


def machine(texts: list[str] | None, data: str | None, data_dir: Path | None, **options: Any) -> Machine:
    """Return how this machine trains, from `--set`, its short forms, and options by the fields of `Machine`.

    The short forms are for settings that any problem may have. A problem without them refuses them.

    Raises:
        typer.BadParameter: a text is not NAME=VALUE, or a setting has two values.
    """
    settings: dict[str, str] = {}
    short = {"data": data, "data_dir": None if data_dir is None else str(data_dir)}
    pairs = [text.partition("=")[::2] for text in texts or []]
    pairs += [(name, value) for name, value in short.items() if value is not None]
    for name, value in pairs:
        if not name.isidentifier() or not value:
            raise typer.BadParameter(f"--set {name}: expected NAME=VALUE")
        if settings.setdefault(name, value) != value:
            raise typer.BadParameter(f"--set {name}: {settings[name]} and {value} given; expected one")
    return Machine(settings=settings, **options)


def console(*, error: bool = False, quiet: bool = False) -> Console:
    """Return a console on standard output or standard error.

    It prints texts from a database that others may write to: markup is not interpreted, and control characters are
    escaped.

    Args:
        error: whether to use standard error, because standard output is for JSON.
        quiet: whether to print nothing.
    """
    stream = sys.stderr if error else output()
    encoding = getattr(stream, "encoding", None) or "utf-8"

    def shown(text: str) -> str:
        return plain(printable(text, "\n"), encoding)

    # Rich is imported only if something is shown.
    from rich.console import Console  # noqa: PLC0415
    from rich.segment import Segment  # noqa: PLC0415

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - passes the error that Rich has caught on to `Boundary`

        def render_str(self, text: str, **options: Any) -> Text:
            # Escaping comes before Rich measures the text.
            return super().render_str(shown(text), **options)

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                # Rich's own control codes, which move the cursor, are marked as such.
                yield segment if segment.control else Segment(shown(segment.text), segment.style)

    # A log or a pipe has no width, so it gets one at which tables fit.
    width = None if stream.isatty() or "COLUMNS" in os.environ else 160
    return Screen(file=stream, stderr=error, width=width, quiet=quiet, markup=False, emoji=False)


def print_lines(screen: Console, lines: Iterable[str]) -> None:
    """Print each line as it is: neither folded nor highlighted."""
    for line in lines:
        screen.print(line, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON for programs, in plain ASCII."""
    _write(json.dumps(value, indent=2))


def say(line: str) -> None:
    """Print a line with control characters escaped."""
    _write(printable(line))


def teller(*, error: bool = False, quiet: bool = False) -> Callable[[str], None]:
    """Return a function that prints lines of progress: to standard error if `error`, not at all if `quiet`."""

    def tell(line: str) -> None:
        if not quiet:
            _write(printable(line), error=error)

    return tell


def say_error(line: str) -> None:
    """Print an error as one line, with passwords masked and control characters escaped."""
    _write(f"error: {printable(conceal(line))}", error=True)


def _write(line: str, *, error: bool = False) -> None:
    # Not `typer.echo`, which would write UTF-8 to a stream of another encoding.
    print(line, file=sys.stderr if error else output(), flush=True)


def show_checks(checks: Iterable[Check], *, as_json: bool, wrong: str = "FAIL") -> None:
    """Print each check as soon as it is done, or all of them as JSON.

    Args:
        checks: the checks.
        as_json: whether to print JSON.
        wrong: the mark of a failed check.

    Raises:
        typer.Exit: a check failed; the exit code is WORK_FAILED.
    """
    marks = {None: "    ", True: "ok  ", False: wrong}
    shown = []
    for check in checks:
        shown.append(check)
        if not as_json:
            print_lines(console(), [f"{marks[check.good]} {check.name}: {check.finding}"])
    if as_json:
        print_json([{"check": check.name, "good": check.good, "finding": check.finding} for check in shown])
    if any(check.good is False for check in shown):
        raise typer.Exit(ExitCode.WORK_FAILED)
