"""The command `report`, which writes results as an HTML page."""

from __future__ import annotations

import webbrowser
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from pairsearch.search.cli import options
from pairsearch.search.cli.progress import steps
from pairsearch.search.cli.streams import say
from pairsearch.search.cli.terminal import console
from pairsearch.search.common.files import made_folder, usable_folder
from pairsearch.search.report import page
from pairsearch.search.report.document import compose_stored
from pairsearch.search.report.images import ImageFormat, check_renderer
from pairsearch.search.report.images import write as write_images
from pairsearch.search.results.chosen_figures import choice
from pairsearch.search.setup.opening import open_stored

PAGE = "pairsearch-report.html"
IMAGES = "pairsearch-report-images"


def report(
    study: options.StoredStudies,
    out: Annotated[
        Path,
        options.folder("--out", help="Folder to write to; made at need.", default="the working directory"),
    ] = Path(),
    open_: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Write the figures as image files too; needs Chrome or Chromium.")
    ] = False,
    image_format: Annotated[
        ImageFormat, typer.Option(metavar="|".join(ImageFormat), help="Format of the image files.")
    ] = ImageFormat.SVG,
    claims: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Claims to decide by what is there, as `pairsearch claims` does: a file, or `paper`.",
        ),
    ] = None,
    trade: options.Trade = None,
    storage: options.Storage = options.DEFAULT_STORAGE,
) -> None:
    traded = None if trade is None else choice(trade)
    usable_folder(out)
    if images:
        check_renderer()
    database, stored = open_stored(storage, study)
    with steps(console(error=True)) as tell, closing(database):
        composed = compose_stored(database, stored, tell, claims, traded)
        tell("writing the page")
        path = page.write(composed, made_folder(out) / PAGE).absolute()
        if images:
            tell("drawing the image files")
            folder = out / IMAGES
            written = write_images(composed.figures, folder, image_format)
    if images:
        say(f"figures: {len(written)} files in {folder.absolute()}")
    say(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if open_ and not webbrowser.open(path.as_uri()):
        say("no browser could be started: open the file yourself")
