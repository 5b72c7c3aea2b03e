"""Makes the order for workers on an engine: their words, files and environment, none of which has a secret."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy.engine import URL

from pairsearch.search.common import threads
from pairsearch.search.common.errors import InputError
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.urls import mask, parse_url
from pairsearch.search.engines.contract import Engine, Order
from pairsearch.search.setup.arguments import StudyArgument
from pairsearch.search.setup.storage_url import FILE_VARIABLE, VARIABLE, read_storage_file
from pairsearch.search.workers.pool import worker_words
from pairsearch.studies.loading import Loaded

LOOPBACK = ("localhost", "::1")
PATIENCE = "600"
"""Seconds for which a worker waits for the database, at its start too."""
DATA = "PAIRSEARCH_DATA"
# Bytes; larger files do not travel, as engines keep each in memory: workers have to see them at the same path.
LARGEST_FILE = 2**26


@dataclass(frozen=True, slots=True)
class Cluster:
    """An engine, and how many workers are to be on it.

    Args:
        also: further files that travel with the studies, relative to the working directory.
        detach: whether commands return as soon as the workers are submitted.
    """

    engine: Engine
    workers: int
    also: tuple[str, ...] = ()
    detach: bool = False


def order_for(
    cluster: Cluster,
    url: URL,
    given: Sequence[StudyArgument],
    loaded: Mapping[str, Loaded],
    machine: Machine,
    limit: int | None,
) -> Order:
    """Return what workers of studies need on a cluster, after asking whether its engine would take it.

    Args:
        loaded: the problems by the name of their study.
        limit: see `worker_words`.

    Raises:
        EngineError: the engine would refuse it, or cannot be reached.
        InputError: the engine would show a password, its workers would not reach the database, or a file is missing.
    """
    storage = storage_for(cluster.engine, url)
    here = given[0].here
    files = {here / name for name in cluster.also}
    for one in given:
        files |= loaded[one.name].files
        if one.text.endswith(".toml"):
            files.add(here / one.text)
    given_files = [here / value for value in machine.settings.values() if not Path(value).is_absolute()]
    # Those of `os.path` take a text that is too long for a name as one that does not exist.
    files |= set(filter(os.path.isfile, given_files))
    files = {path.resolve() for path in files}
    folder = Path(os.path.commonpath([here.resolve(), *(path.parent for path in files)]))

    def inside(text: str) -> str:
        """Return a name of a file or folder, relative to the workers' folder if it travels, else absolute."""
        path = (here / text).resolve()
        return path.relative_to(folder).as_posix() if path in files else str(path)

    settings = {
        name: inside(value) if os.path.exists(here / value) else value  # noqa: PTH110
        for name, value in machine.settings.items()
    }
    studies = [inside(one.text) if one.text.endswith(".toml") else one.text for one in given]
    words = worker_words(studies, replace(machine, settings=settings), limit)
    # An empty one counts as none: of the other variable, which a cluster's machine may have.
    environment = (
        dict.fromkeys(threads.VARIABLES, "1") | dict.fromkeys((VARIABLE, FILE_VARIABLE), "") | storage
    )
    if data := os.environ.get(DATA):
        environment[DATA] = str(here / data)
    try:
        contents = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(files)
            if path.stat().st_size <= LARGEST_FILE
        }
    except OSError as error:
        raise InputError(f"cannot read {error.filename}, which workers need: {error.strerror}") from None
    names = "-".join(one.name for one in given)
    order = Order(
        words=("worker", *words, "--submitted", "--patience", PATIENCE),
        environment=environment,
        folder=folder,
        files=contents,
        name=f"pairsearch-{names}"[:40].rstrip("-_."),
    )
    cluster.engine.check(order, cluster.workers)
    return order


def storage_for(engine: Engine, url: URL) -> dict[str, str]:
    """Return the variable that tells an engine's workers where the database is.

    Raises:
        InputError: its URL has a password and no file that only its owner can read, or the workers would not reach it.
    """
    if not engine.local and url.get_backend_name() == "sqlite":
        raise InputError(
            f"--on {engine.name}: workers on other machines cannot share {mask(url)}: give the URL of a "
            "PostgreSQL server that they reach"
        )
    if engine.storage_file is not None:
        return {FILE_VARIABLE: engine.storage_file}
    if not engine.local:
        host = url.host or str(url.query.get("host", ""))
        if not host or host in LOOPBACK or host.startswith(("127.", "/")):
            raise InputError(
                f"--on {engine.name}: workers on other machines do not reach {mask(url)}: name the server's host as "
                "they know it"
            )
    text = url.render_as_string(hide_password=False)
    if (name := os.environ.get(FILE_VARIABLE)) and parse_url(read_storage_file(Path(name))) == url:
        if stat.S_IMODE(Path(name).stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(
                f"{FILE_VARIABLE} names {name}, which others can read: `chmod 600 {name}` before --on {engine.name}"
            )
        return {FILE_VARIABLE: str(Path(name).absolute())}
    if mask(url) != text:
        raise InputError(
            f"--on {engine.name} would show the password of {mask(url)}: write the URL into a file with mode 0600 that "
            f"workers see, named by {FILE_VARIABLE}, or leave the password out of the URL and put it into ~/.pgpass"
        )
    return {VARIABLE: text}
