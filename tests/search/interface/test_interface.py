"""`import pairsearch`: what the commands do, with results as objects."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go
import programs
import pyarrow as pa
import pytest
import tiny

import pairsearch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("interface")
    tiny.write_toml(made / "tiny.toml", paper=tiny.PAPER)
    return made


@pytest.fixture(scope="module")
def searched(folder: Path) -> str:
    """The database of a study that was created and searched."""
    storage = f"sqlite:///{folder / 'pairsearch.db'}"
    told = []
    with pairsearch.create(str(folder / "tiny.toml"), storage=storage, data="digits") as study:
        assert (study.progress().covered, study.best(), study.verdict().verdict) == (0, [], None)
        progress = study.run(workers=1, on_progress=told.append)
    assert (progress.covered, progress.total, progress.failures) == (8, 8, {})
    assert told[0].covered == 0
    assert told[-1] == progress
    return storage


@pytest.fixture
def study(searched: str) -> Iterator[pairsearch.Study]:
    with pairsearch.open("tiny", storage=searched) as opened:
        yield opened


def test_it_tells_what_the_commands_tell(study: pairsearch.Study, searched: str, folder: Path) -> None:
    assert (study.name, study.definition.epochs, pairsearch.list_studies(storage=searched)) == (
        "tiny",
        2,
        ["tiny"],
    )
    best = study.best(3)
    assert [entry.rank for entry in best] == [1, 2, 3]
    assert study.progress().best == best[0]
    judged = study.verdict(alpha=0.05).verdict
    assert judged is not None
    assert judged.winner == best[0].configuration.key
    shown = programs.run(folder, "best", "tiny", "--top", "1", "--json", PAIRSEARCH_STORAGE=searched)
    assert f'"value": {best[0].value!r}' in shown.out


def test_what_is_searched_is_left_alone_when_it_runs_again(study: pairsearch.Study) -> None:
    before = study.configurations()
    study.run(workers=1)
    assert study.configurations().equals(before)


def test_tables_are_those_of_an_export(study: pairsearch.Study) -> None:
    configurations, curves = study.configurations(), study.curves()
    assert isinstance(configurations, pa.Table)
    assert (configurations.num_rows, curves.num_rows) == (8, 8 * 2 * 2)
    assert configurations.schema.field("learning_rate").type == pa.float64()
    assert configurations.schema.field("batch_size").type == pa.int64()
    frame = configurations.to_pandas().sort_values("value")
    assert list(frame["configuration"])[:3] == [entry.configuration.key for entry in study.best(3)]


def test_figures_are_plotly_s_and_the_report_is_a_page(study: pairsearch.Study, tmp_path: Path) -> None:
    figures = study.figures()
    assert {"tiny-val-loss", "tiny-parallel", "tiny-seconds"} <= set(figures)
    assert all(isinstance(figure, go.Figure) for figure in figures.values())
    page = study.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "Trade-offs" not in page
    traded = study.report(tmp_path / "page.html", trade="val_error,seconds")
    assert "Trade-off between val_error and seconds" in traded.read_text(encoding="utf-8")
    with pytest.raises(pairsearch.Error, match="tiny has no figure 'speed' to trade"):
        study.report(tmp_path / "other.html", trade="val_error,speed")
    assert not (tmp_path / "other.html").exists()
    with pytest.raises(pairsearch.Error, match="cannot write to folder"):
        study.report(tmp_path / "absent" / "page.html")


def test_it_evaluates_and_keeps_models(study: pairsearch.Study, tmp_path: Path) -> None:
    (found,) = study.evaluate(models=tmp_path / "models")
    assert found.key == study.best(1)[0].configuration.key
    assert (found.rounds, list(found.figures)) == (2, ["train_error", "test_error"])
    files = sorted((tmp_path / "models").glob("*.safetensors"))
    written = study.models(tmp_path / "again")
    assert [(file.name, file.read_bytes()) for file in written] == [
        (file.name, file.read_bytes()) for file in files
    ]
    assert len(written) == 2
    assert study.evaluate() == [found], "kept, not trained again"
    (paper,) = study.evaluate(paper=True, rounds=1)
    assert (paper.rounds, paper.key) == (1, study.definition.paper.configuration.key)


def test_errors_are_its_own_and_leave_nothing(tmp_path: Path, searched: str) -> None:
    storage = f"sqlite:///{tmp_path / 'absent.db'}"
    with pytest.raises(pairsearch.Error, match="no database at"):
        pairsearch.open("tiny", storage=storage)
    with pytest.raises(pairsearch.Error, match="study b1 is not in"):
        pairsearch.open("b1", storage=searched)
    with pytest.raises(pairsearch.DefinitionError, match="cannot be read"):
        pairsearch.create("absent.toml", storage=storage)
    with pytest.raises(pairsearch.DefinitionError, match="'letters' given"):
        pairsearch.create("b1", storage=storage, data="letters")
    assert list(tmp_path.iterdir()) == []


def test_the_storage_is_that_of_the_environment(
    study: pairsearch.Study, searched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pairsearch.Error, match=f"no database at {tmp_path}/pairsearch\\.db"):
        pairsearch.list_studies()
    monkeypatch.setenv("PAIRSEARCH_STORAGE", searched)
    assert pairsearch.list_studies() == ["tiny"]
    (tmp_path / "url").write_text(searched)
    monkeypatch.setenv("PAIRSEARCH_STORAGE_FILE", "url")
    with pytest.raises(pairsearch.Error, match="both set"):
        pairsearch.list_studies()
    monkeypatch.delenv("PAIRSEARCH_STORAGE")
    assert pairsearch.list_studies() == ["tiny"]


def test_its_names_are_documented_and_loaded_when_they_are_used() -> None:
    for name in pairsearch.__all__:
        assert getattr(pairsearch, name).__doc__, name
    assert set(pairsearch.__all__) <= set(dir(pairsearch))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        pairsearch.nothing  # noqa: B018
    code = (
        "import sys, pairsearch; assert not {'torch', 'numpy', 'sqlalchemy', 'optuna'} & set(sys.modules); "
    )
    code += "pairsearch.open; assert not {'torch', 'optuna', 'plotly'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
