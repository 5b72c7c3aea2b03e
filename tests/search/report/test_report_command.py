"""The report command of the real program: files, refusals, what is left behind, image files."""

from __future__ import annotations

import importlib.util
import sys
import webbrowser
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import programs
import pytest
import reported
from availability import unavailable

import pairsearch
from pairsearch.search.cli.commands.reporting import PAGE, report
from pairsearch.search.common.errors import InputError, WorkError
from pairsearch.search.database.connection import open_database
from pairsearch.search.ledger.studies import get_study
from pairsearch.search.report import document, images
from pairsearch.search.report.content import Figure, View

NO_KALEIDO = "kaleido is not installed: pip install 'pairsearch[images]' brings it"

# One test process makes the study for all of them.
pytestmark = pytest.mark.xdist_group("report")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `pairsearch.db` holds a study that is half done and one that was just created."""
    found = tmp_path_factory.mktemp("reported")
    database = open_database(f"sqlite:///{found / 'pairsearch.db'}", create=True)
    reported.finish(database, reported.create(database), 16)
    reported.create(database, name="fresh")
    database.close()
    return found


def test_it_writes_one_page_and_says_where(folder: Path, tmp_path: Path) -> None:
    ended = programs.run(folder, "report", "pairs", "fresh", "pairs", "--out", str(tmp_path))
    assert (ended.code, ended.err) == (0, "")
    path = tmp_path / "pairsearch-report.html"
    assert ended.out == f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)\n"
    assert list(tmp_path.iterdir()) == [path]
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>pairsearch report: pairs, fresh</title>" in page


def test_it_replaces_an_earlier_report_in_the_working_directory(folder: Path) -> None:
    path = folder / PAGE
    path.write_text("an earlier one")
    assert programs.run(folder, "report", "fresh").code == 0
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_database_that_may_only_be_read_is_enough(folder: Path, tmp_path: Path) -> None:
    storage = "sqlite:///file:pairsearch.db?mode=ro&uri=true"
    before = (folder / "pairsearch.db").read_bytes()
    assert programs.run(folder, "report", "pairs", "--out", str(tmp_path), "--storage", storage).code == 0
    assert (folder / "pairsearch.db").read_bytes() == before


def test_an_unknown_study_is_refused(folder: Path, tmp_path: Path) -> None:
    complaint = programs.run(folder, "report", "pairs", "nobody", "--out", str(tmp_path)).complaint
    assert "study nobody is not in" in complaint
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_lacks_a_traded_figure_is_named(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'pairsearch.db'}"
    table = {"x": [1, 2, 3], "fold0": [0.1, 0.2, 0.3], "fold1": [0.2, 0.1, 0.4]}
    pairsearch.load({**table, "seconds": [3.0, 2.0, 1.0]}, name="timed", storage=storage)
    pairsearch.load(table, name="untimed", storage=storage)
    pairsearch.load(table, name="other", metric="accuracy", storage=storage)
    for studies, words in {
        (
            "timed",
            "untimed",
        ): "untimed: no finished configuration has all of score, seconds: choose other figures",
        ("timed", "other"): "other has no figure 'score' to trade: expected some of accuracy, seconds; ",
    }.items():
        ended = programs.run(tmp_path, "report", *studies, "--trade", "score,seconds")
        assert ended.complaint.startswith(f"error: {words}")
    assert not (tmp_path / PAGE).exists()


def test_a_folder_that_cannot_be_written_to_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out, what in (("missing/folder", "there is no such folder"), ("file", "it is a file")):
        complaint = programs.run(folder, "report", "pairs", "--out", str(tmp_path / out)).complaint
        assert what in complaint
    (tmp_path / "taken" / PAGE).mkdir(parents=True)
    complaint = programs.run(folder, "report", "pairs", "--out", str(tmp_path / "taken")).complaint
    assert "it is a folder" in complaint
    assert [path.name for path in (tmp_path / "taken").iterdir()] == [PAGE]


def test_open_shows_the_page(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: shown.append(address) is None)
    report(["fresh"], out=tmp_path, open_=True, storage=f"sqlite:///{folder / 'pairsearch.db'}")
    assert shown == [(tmp_path / PAGE).as_uri()]


def test_images_without_kaleido_or_a_browser_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("kaleido") is None:
        unavailable(NO_KALEIDO)
    from choreographer.browsers.chromium import Chromium  # noqa: PLC0415

    with monkeypatch.context() as patched:
        patched.setattr(Chromium, "find_browser", lambda **options: None)
        with pytest.raises(InputError, match="apt-get install chromium"):
            report(["fresh"], out=tmp_path, images=True)
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(InputError, match=r"pip install 'pairsearch\[images\]'"):
        report(["fresh"], out=tmp_path, images=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("failure", "expected", "words"),
    [
        ("ChromeNotFoundError", InputError, "the browser that BROWSER_PATH names is not there"),
        ("BrowserFailedError", WorkError, "the figures could not be drawn: it ended$"),
        ("KaleidoError", WorkError, "the figures could not be drawn: it ended$"),
        ("TimeoutError", WorkError, "the figures could not be drawn: TimeoutError$"),
    ],
)
def test_images_that_cannot_be_drawn_leave_nothing_and_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str, expected: type[Exception], words: str
) -> None:
    names = (
        "ChromeNotFoundError",
        "BrowserClosedError",
        "BrowserFailedError",
        "KaleidoError",
        "JavascriptError",
    )
    errors = SimpleNamespace(**{name: type(name, (Exception,), {}) for name in names})

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError if failure == "TimeoutError" else getattr(errors, failure)("it\n ended")

    kaleido = SimpleNamespace(write_fig_from_object_sync=fail)
    monkeypatch.setattr(images, "check_renderer", lambda: (kaleido, errors))
    with pytest.raises(expected, match=words):
        images.write([], tmp_path / "figures", images.ImageFormat.SVG)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "scale"), [("svg", 1), ("png", 2)])
def test_images_are_drawn_as_large_as_their_figure_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, scale: int
) -> None:
    asked: list[dict[str, Any]] = []

    def draw(jobs: list[dict[str, Any]], **options: Any) -> None:
        for job in jobs:
            Path(job["path"]).write_text(str(job["fig"]))
        asked.append(options | {"jobs": jobs})

    errors = SimpleNamespace()
    kaleido = SimpleNamespace(write_fig_from_object_sync=draw)
    monkeypatch.setattr(images, "check_renderer", lambda: (kaleido, errors))
    views = (View("a", {"a": 1}), View("b", {"b": 2}))
    figures = [
        Figure("one", "", "", "", views, height=300),
        Figure("two", "", "", "", views[:1], least_width=1200),
    ]
    written = images.write(figures, tmp_path, images.ImageFormat(kind))
    assert {path.name: path.read_text() for path in written} == {
        f"one-1.{kind}": "{'a': 1}", f"one-2.{kind}": "{'b': 2}", f"two.{kind}": "{'a': 1}",
    }  # fmt: skip
    (options,) = asked
    assert (options["cancel_on_error"], options["kopts"]) == (True, {"mathjax": False})
    assert [job["opts"] for job in options["jobs"]] == [
        {"format": kind, "width": width, "height": height, "scale": scale}
        for width, height in ((1000, 300), (1000, 300), (1200, 420))
    ]


def test_a_browser_of_one_s_own_is_looked_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("kaleido") is None:
        unavailable(NO_KALEIDO)
    from choreographer.browsers.chromium import Chromium  # noqa: PLC0415

    monkeypatch.setattr(Chromium, "find_browser", lambda *, skip_local: not skip_local)
    kaleido, errors = images.check_renderer()
    assert (kaleido.__name__, errors.__name__) == ("kaleido", "kaleido.errors")


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_every_view_of_a_figure_becomes_an_image_file(
    chromium: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, start: bytes
) -> None:
    if importlib.util.find_spec("kaleido") is None:
        unavailable(NO_KALEIDO)
    monkeypatch.setenv("BROWSER_PATH", chromium)
    with closing(open_database(f"sqlite:///{folder / 'pairsearch.db'}")) as database:
        composed = document.compose_stored(database, [get_study(database, "pairs")])
    figures = [figure for figure in composed.figures if figure.name in ("pairs-val-loss", "pairs-parallel")]
    written = images.write(figures, tmp_path / "figures", images.ImageFormat(kind))
    assert [path.name for path in written] == [
        f"pairs-val-loss-1.{kind}",
        f"pairs-val-loss-2.{kind}",
        f"pairs-val-loss-3.{kind}",
        f"pairs-parallel.{kind}",
    ]
    assert sorted(tmp_path.rglob("*.*")) == sorted(written)
    for path in written:
        assert path.read_bytes().startswith(start)
