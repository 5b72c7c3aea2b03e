"""Options and arguments that several commands share."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pairsearch.search.common.errors import InputError
from pairsearch.search.common.files import a_folder, shared_folder
from pairsearch.search.common.gpus import places
from pairsearch.search.common.machine import Machine
from pairsearch.search.common.redaction import conceal_places
from pairsearch.search.setup import storage_url
from pairsearch.search.setup.storage_url import FILE_VARIABLE, VARIABLE

DEFAULT_STORAGE = storage_url.DEFAULT_STORAGE
DEFAULT_MODELS = Path("pairsearch-models")
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
    """
    source = context.get_parameter_source(parameter.name or "")
    if source is not None and source.name == "COMMANDLINE":
        _warn_of_passwords("--storage", [value], f"the URL by {VARIABLE} or {FILE_VARIABLE}")
        return value
    return storage_url.environment_storage() if os.environ.get(FILE_VARIABLE) else value


def not_secret(values: list[str] | None) -> list[str] | None:
    """Warn of passwords in URIs of trackers (Typer's callback of `--to`)."""
    variables = "it by the variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    _warn_of_passwords("--to", values or [], variables)
    return values


def _warn_of_passwords(option: str, values: Sequence[str], otherwise: str) -> None:
    if any(conceal_places(value) != value for value in values):
        typer.echo(
            f"warning: other people can read the password of {option} in the process list: give {otherwise}",
            err=True,
        )


def pairs(option: str, texts: Sequence[str] | None) -> list[tuple[str, str]]:
    """Split values NAME=VALUE of an option."""
    split = [(name, value) for name, _, value in (text.partition("=") for text in texts or ())]
    for text, (name, value) in zip(texts or (), split, strict=True):
        if not name or not value:
            raise typer.BadParameter(f"{option} {text}: expected NAME=VALUE")
    return split


def count(*names: str, help: str, default: bool | str = True, least: int = 1, most: int = LARGEST) -> Any:
    """Return an option that is a number of something, by default up to what a column of the database holds."""
    return typer.Option(*names, metavar="N", min=least, max=most, help=help, show_default=default)


def folder(name: str, *, help: str, default: bool | str = True, shared: bool = False) -> Any:
    """Return an option that names a folder; `shared`, one that workers share."""

    def parsed(text: str) -> Path | None:
        try:
            return shared_folder(text) if shared else a_folder(text)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    return typer.Option(name, metavar="FOLDER", parser=parsed, help=help, show_default=default)


STUDIES_VARIABLE = "PAIRSEARCH_STUDIES"
"""Studies, separated by spaces, of `create`, `worker`, `run`, `retry` and `evaluate` if they are given none."""
ANY_STUDY = "A shipped study, one in the database, or a .toml file."
Study = Annotated[str, typer.Argument(metavar="STUDY", help=ANY_STUDY)]
Studies = Annotated[list[str], typer.Argument(envvar=STUDIES_VARIABLE, metavar="STUDY", help=ANY_STUDY)]
StoredStudy = Annotated[str, typer.Argument(metavar="STUDY", help="A study in the database.")]
StoredStudies = Annotated[list[str], typer.Argument(metavar="STUDY", help="Studies in the database.")]
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
Trade = Annotated[
    str | None,
    typer.Option(
        "--trade",
        metavar="FIGURE,FIGURE,...",
        help="Show the Pareto front over these figures too: of the folds, `seconds`, and facts that are numbers. Less "
        "is better, unless the problem says otherwise of a figure, or `NAME:max` does here.",
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
    folder(
        "--data-dir",
        help="Short for --set data_dir=FOLDER: where the problem looks for them.",
        default="the problem's own default",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="PyTorch device to train on: cpu, cuda, cuda:1 ...")
]
Gpus = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        metavar="GPU,...",
        help="GPUs that workers have to themselves: numbers, UUIDs or names of MIG devices.",
        show_default="with --device cuda, all that are visible",
    ),
]
PerGpu = Annotated[int | None, count("--per-gpu", help="Workers that share a GPU.", default="1")]
Limit = Annotated[
    int | None, count("--limit", help="Only the first N configurations of each study's order.", default="all")
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
    count(
        help="Worker processes; each computes on one core.",
        default="the cores that this process may use; one for each GPU",
    ),
]
RoundWorkers = Annotated[
    int | None,
    count(
        "--workers",
        help="Processes that train rounds, this one among them.",
        default="the cores that this process may use where training takes longer than starting them",
    ),
]
Models = Annotated[
    Path | None,
    folder(
        "--models",
        help="Folder for the trained models of the rounds. If it is given, stored rounds without a file are trained "
        "again.",
        default=str(DEFAULT_MODELS),
    ),
]
LargeModels = Annotated[
    Path | None,
    folder(
        "--models",
        help="Folder that workers share, for models of rounds that are too large for the database; made at need.",
        default="they are not kept",
        shared=True,
    ),
]
Checkpoints = Annotated[
    Path | None,
    folder(
        "--checkpoints",
        help="Folder that workers share, for checkpoints above 1 MB; made at need.",
        default="the database, up to 64 MB each",
        shared=True,
    ),
]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ENGINE",
        help="Have workers on a cluster instead of here: slurm, ray, dask or k8s, or an engine of another package.",
        show_default="this machine",
    ),
]
At = Annotated[
    str | None,
    typer.Option("--at", metavar="ADDRESS", help="Where the engine is.", show_default="its usual place"),
]
EngineOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="An option of the engine, as its how-to page names them, or files=FILE,... for further files that travel "
        "with a study. Repeat it for several.",
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Return as soon as the engine has the workers.")]
NoModels = Annotated[bool, typer.Option("--no-models", help="Keep no trained models.")]
To = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="TRACKER=PLACE",
        callback=not_secret,
        help="A tracker to export to: mlflow=URI, tensorboard=FOLDER or wandb=FOLDER. Repeat it for several.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print results and errors only, no progress.")]


def machine(
    texts: list[str] | None,
    data: str | None,
    data_dir: Path | None,
    *,
    device: str = "cpu",
    gpus: str | None = None,
    per_gpu: int | None = None,
    **options: Any,
) -> Machine:
    """Return how this machine trains, from `--set`, its short forms, and options by the fields of `Machine`.

    The short forms are for settings that any problem may have. A problem without them refuses them.

    Raises:
        InputError: see `places`.
    """
    settings: dict[str, str] = {}
    short = {"data": data, "data_dir": None if data_dir is None else str(data_dir)}
    for name, value in (*pairs("--set", texts), *short.items()):
        if value is not None and settings.setdefault(name, value) != value:
            raise typer.BadParameter(f"--set {name}: {settings[name]} and {value} given; expected one")
    named = None if gpus is None else [one.strip() for one in gpus.split(",")]
    return Machine(device, settings, gpus=places(device, named, per_gpu), **options)
