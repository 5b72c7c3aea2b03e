"""What workers on a cluster are told, and that no password is among it."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pairsearch.search.common.errors import InputError
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.urls import parse_url
from pairsearch.search.engines.contract import Count, Engine, Order, is_here
from pairsearch.search.engines.executor import Executed
from pairsearch.search.engines.orders import Cluster, order_for, storage_for
from pairsearch.search.setup import opening
from pairsearch.search.setup.arguments import look_up

SECRET = "hunter2-hunter2"  # noqa: S105 - of no database
URL = f"postgresql://someone:{SECRET}@db.example.org/runs"
DEFINITION = """
name = "mine"
problem = "code/mine.py:fit"
metric = "error"
[grid]
a = [1, 2]
"""
PROBLEM = """
import helper

def fit(params, run, report):
    report(1, error=params["a"])
"""


class Elsewhere(Engine):
    """An engine whose workers are on other machines; none is started."""

    name = "elsewhere"

    def check(self, order: Order, workers: int) -> None:
        pass

    def submit(self, order: Order, workers: int) -> dict[str, int]:
        raise NotImplementedError

    def count(self, ids: Collection[str]) -> dict[str, Count]:
        raise NotImplementedError

    def stop(self, ids: Collection[str]) -> None:
        raise NotImplementedError


CLUSTER = Cluster(Elsewhere(None, {}), 1)


@pytest.fixture
def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAIRSEARCH_STORAGE", "PAIRSEARCH_STORAGE_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "sqlite:////data/runs.db",
            "cannot share sqlite:////data/runs.db: give the URL of a PostgreSQL server",
        ),
        ("postgresql://u@localhost/d", "do not reach postgresql.*name the server's host"),
        ("postgresql://u@127.0.0.1/d", "do not reach"),
        ("postgresql:///d?host=/run/postgresql", "do not reach"),
        (URL, r"would show the password of .*mode 0600.*PAIRSEARCH_STORAGE_FILE.*\.pgpass"),
        ("postgresql://u@h/d?password=" + SECRET, "would show the password"),
    ],
)
def test_what_workers_would_not_reach_or_would_show_is_refused(url: str, message: str, clear: None) -> None:
    with pytest.raises(InputError, match=message) as caught:
        storage_for(Elsewhere(None, {}), parse_url(url))
    assert SECRET not in str(caught.value)


def test_a_url_without_a_password_is_told_and_a_file_with_one_is_named(
    clear: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Elsewhere(None, {})
    told = storage_for(there, parse_url("postgresql://u@db.example.org/d"))
    assert told == {"PAIRSEARCH_STORAGE": "postgresql+psycopg://u@db.example.org/d"}
    with ThreadPoolExecutor(1) as threads:
        told = storage_for(Executed(threads), parse_url(f"sqlite:///{tmp_path}/runs.db"))
    assert told == {"PAIRSEARCH_STORAGE": f"sqlite:///{tmp_path}/runs.db"}
    file = tmp_path / "storage"
    file.write_text(URL)
    file.chmod(0o640)
    monkeypatch.setenv("PAIRSEARCH_STORAGE_FILE", str(file))
    with pytest.raises(InputError, match="others can read: `chmod 600"):
        storage_for(there, parse_url(URL))
    file.chmod(0o600)
    assert storage_for(there, parse_url(URL)) == {"PAIRSEARCH_STORAGE_FILE": str(file)}
    # However it is written.
    file.write_text(URL + "?host=/run/x")
    assert storage_for(there, parse_url(URL + "?host=/run/x")) == {"PAIRSEARCH_STORAGE_FILE": str(file)}
    # A URL that was given beside the file is another one.
    with pytest.raises(InputError, match="would show the password"):
        storage_for(there, parse_url(URL.replace("runs", "others")))


def test_a_table_that_a_definition_names_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table.csv").write_text("x,y\n" + "1,0\n2,1\n" * 20)
    (tmp_path / "tree.toml").write_text(
        'name = "tree"\nproblem = "estimator"\nmetric = "accuracy"\n[settings]\ndata = "table.csv"\n'
        'target = "y"\nestimator = "sklearn.tree.DecisionTreeClassifier"\n[grid]\nmax_depth = [1, 2]\n'
    )
    monkeypatch.chdir(tmp_path)
    given = look_up("tree.toml")
    loaded = {"tree": opening.load(None, given, Machine())}
    url = parse_url("postgresql://u@db.example.org/d")
    order = order_for(CLUSTER, url, [given], loaded, Machine(), None)
    assert sorted(order.files) == ["table.csv", "tree.toml"]


def test_the_files_of_a_study_travel_and_settings_become_absolute(
    clear: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "code").mkdir(parents=True)
    (here / "mine.toml").write_text(DEFINITION)
    (here / "code/mine.py").write_text(PROBLEM)
    (here / "code/helper.py").write_text("")
    (here / "table.csv").write_text("1\n")
    (here / "more.csv").write_text("1\n")
    monkeypatch.chdir(here)
    given = look_up("mine.toml")
    loaded = {"mine": opening.load(None, given, Machine())}
    url, machine = (
        parse_url("postgresql://u@db.example.org/d"),
        Machine(settings={"folder": "code", "n": "3", "more": "more.csv"}),
    )
    order = order_for(replace(CLUSTER, also=("table.csv",)), url, [given], loaded, machine, None)
    assert sorted(order.files) == ["code/helper.py", "code/mine.py", "mine.toml", "more.csv", "table.csv"]
    assert order.folder == here
    assert order.words[:2] == ("worker", "mine.toml")
    assert "--submitted" in order.words
    assert order.environment["PAIRSEARCH_STORAGE_FILE"] == ""
    assert f"folder={here / 'code'}" in order.words
    assert {"n=3", "more=more.csv"} <= set(order.words)
    assert order.name == "pairsearch-mine"
    with pytest.raises(InputError, match=r"cannot read .*none\.csv"):
        order_for(replace(CLUSTER, also=("none.csv",)), url, [given], loaded, machine, None)
    # From another folder, names are relative to what both have in common.
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    given = look_up("../here/mine.toml")
    order = order_for(CLUSTER, url, [given], loaded, Machine(), 3)
    assert order.folder == tmp_path
    assert order.words[1] == "here/mine.toml"
    assert "here/code/mine.py" in order.files


def test_only_addresses_of_this_machine_are_here() -> None:
    assert [is_here(host) for host in ("127.0.0.1", "::1", "198.51.100.7", "no-such-host.invalid")] == [
        True,
        True,
        False,
        False,
    ]
