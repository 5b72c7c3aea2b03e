"""The commands of the real program from end to end on the digits: what they do, print and return."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import programs
import pytest
import tiny

from pairsearch.search.cli.commands import examining
from pairsearch.search.common.machine import Machine
from pairsearch.search.database.connection import open_database
from pairsearch.studies.pairs import problem
from pairsearch.studies.pairs.problem import Pairs

DIGITS = ("--data", "digits")

# One test process makes the searched study for all of them.
pytestmark = pytest.mark.xdist_group("commands")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `pairsearch.db` holds the tiny study, searched to its end: a slice of it, then the rest."""
    folder = tmp_path_factory.mktemp("searched")
    tiny.write_toml(folder / "tiny.toml", paper=tiny.PAPER)
    ended = programs.run(folder, "run", "tiny.toml", "--workers", "1", "--limit", "3", *DIGITS)
    assert (ended.code, ended.err) == (0, ""), ended
    assert "tiny: 3/3 done" in ended.out
    assert "tiny: best by val_loss" in ended.out
    rest = programs.run(folder, "worker", "tiny")
    assert "worker ends: 5 finished" in rest.out
    return folder


def answer(folder: Path, *arguments: str) -> object:
    ended = programs.run(folder, *arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_status_tells_progress(searched: Path) -> None:
    [found] = answer(searched, "status", "tiny")
    assert found["study"] == "tiny"
    assert (found["total"], found["covered"]) == (8, 8)
    assert found["counts"] == {
        "pending": 0,
        "running": 0,
        "finished": 8,
        "diverged": 0,
        "pruned": 0,
        "failed": 0,
    }
    assert found["failures"] == {}
    assert found["best"]["rank"] == 1
    assert answer(searched, "status") == [found]
    assert "8/8" in programs.run(searched, "status").out


def test_best_ranks_configurations(searched: Path) -> None:
    found = answer(searched, "best", "tiny", "--top", "3")
    ranked = found["ranked"]
    assert [entry["rank"] for entry in ranked] == [1, 2, 3]
    assert [entry["value"] for entry in ranked] == sorted(entry["value"] for entry in ranked)
    assert set(ranked[0]) == {"rank", "params", "value", "figures", "seconds"}
    assert list(ranked[0]["figures"]) == ["train_loss", "val_loss", "val_error"]
    assert ranked[0]["figures"]["val_loss"] == ranked[0]["value"]
    assert set(ranked[0]["params"]) == {"batch_size", "learning_rate", "weight_decay"}
    assert found["verdict"]["considered"] == 8
    assert found["verdict"]["winner"] == ranked[0]["params"]
    everything = answer(searched, "best", "tiny")
    assert (len(everything["ranked"]), everything["verdict"]) == (8, found["verdict"])


def test_studies_lists_what_is_shipped_and_what_is_there(searched: Path, tmp_path: Path) -> None:
    found = answer(searched, "studies")
    assert {entry["name"]: entry["configurations"] for entry in found["shipped"]} == {
        "b1": 64,
        "b2": 192,
        "ws": 192,
        "wsal": 960,
        "pretrained": 384,
        "svm-digits": 47,
    }
    assert [entry["study"] for entry in found["database"]] == ["tiny"]
    assert answer(tmp_path, "studies")["database"] == []
    assert list(tmp_path.glob("*.db")) == []


def test_running_again_finds_nothing_to_do(searched: Path) -> None:
    again = programs.run(searched, "run", "tiny.toml", *DIGITS)
    assert (again.code, again.err) == (0, "")
    created = programs.run(searched, "create", "tiny.toml", *DIGITS)
    assert created.out == "tiny: was there, 0 configurations inserted\n"


def test_evaluate_resumes_and_never_repeats_a_finished_round(searched: Path) -> None:
    first = answer(searched, "evaluate", "tiny", "--rounds", "2")
    [row] = first
    assert (row["study"], row["rounds"], row["diverged"]) == ("tiny", 2, 0)
    assert row["facts"] == {"parameters": "48,730"}
    assert list(row["figures"]) == ["train_error", "test_error"]
    assert set(row["figures"]["test_error"]) == {"mean", "std"}
    database = open_database(f"sqlite:///{searched / 'pairsearch.db'}")
    rounds = "where kind = 'round' order by id"
    before = tiny.rows(database, "runs", rest=rounds)
    assert len(before) == 2
    more = programs.run(searched, "evaluate", "tiny", "--rounds", "3")
    assert "1 trained in" in more.out
    assert "Table 1" in more.out
    assert tiny.rows(database, "runs", rest=rounds)[: len(before)] == before
    database.close()
    assert "all stored before" in programs.run(searched, "evaluate", "tiny", "--rounds", "3").out


def test_evaluate_paper_takes_the_paper_s_configuration_and_needs_no_search(tmp_path: Path) -> None:
    tiny.write_toml(tmp_path / "tiny.toml", paper=tiny.PAPER)
    [row] = answer(tmp_path, "evaluate", "tiny.toml", "--paper", "--rounds", "1", *DIGITS)
    assert row["params"] == {"batch_size": 25, "learning_rate": 1e-4, "weight_decay": 0.1}
    assert row["paper"]["figures"]["test_error"] == {"mean": 0.2, "std": 0.01}
    assert row["figures"]["test_error"]["std"] is None


def test_a_worker_ends_at_max_trials_and_another_goes_on(tmp_path: Path) -> None:
    tiny.write_toml(tmp_path / "tiny.toml")
    assert programs.run(tmp_path, "create", "tiny.toml", *DIGITS).code == 0
    first = programs.run(tmp_path, "worker", "tiny", "--max-trials", "3")
    assert (first.code, first.err) == (0, "")
    assert "worker ends: 3 finished, 0 handed back, 0 superseded, 0 failed" in first.out
    second = programs.run(tmp_path, "worker", "tiny")
    assert "worker ends: 5 finished" in second.out


def test_auto_says_first_which_data_it_took_and_why(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file, so that nothing can be downloaded into it")
    tiny.write_toml(tmp_path / "tiny.toml")
    ended = programs.run(tmp_path, "create", "tiny.toml", "--data", "auto", "--data-dir", "root")
    assert ended.out.startswith("data: digits: chosen because MNIST is not at hand")
    # The study is bound to the digits now, and a worker needs not be told.
    assert programs.run(tmp_path, "worker", "tiny", "--max-trials", "1").code == 0


def test_doctor_passes_a_sound_installation_with_or_without_a_database(
    searched: Path, tmp_path: Path
) -> None:
    checks = {check["check"]: check for check in answer(searched, "doctor", *DIGITS)}
    assert [name for name, check in checks.items() if check["good"] is False] == []
    assert "tiny (digits" in checks["database"]["finding"]
    assert "1,297 training and 500 test images" in checks["tiny data"]["finding"]
    assert checks["tiny subnormals"]["finding"] == "flushed to zero while training"
    assert checks["tiny kernels"]["finding"].startswith("compiled: loaded and run in ")
    assert re.fullmatch(
        r"problem pairs, data digits \w{12}, can be trained on cpu; memory for some \d+ workers",
        checks["tiny"]["finding"],
    )
    ended = programs.run(tmp_path, "doctor")
    assert (ended.code, ended.err) == (0, "")
    assert f"database: no database at {tmp_path}/pairsearch.db: `pairsearch create` makes one" in ended.out
    assert not re.search("MNIST|digits|kernels|pairs[^e]", ended.out), "no study needs them"
    assert ended.out.endswith("`pairsearch doctor STUDY` checks what the problem of a study needs\n")


def test_doctor_checks_the_studies_that_it_is_given(searched: Path, tmp_path: Path) -> None:
    tiny.write_toml(tmp_path / "other.toml", name="other", data="digits")
    checks = {check["check"] for check in answer(tmp_path, "doctor", "other.toml", "svm-digits")}
    assert {"other", "other kernels", "svm-digits"} <= checks
    refused = programs.run(searched, "doctor", "tiny", "--data", "mnist")
    assert refused.code == 1
    assert "FAIL tiny: study tiny in the database differs: its data is digits" in refused.out
    unknown = programs.run(searched, "doctor", "absent")
    assert unknown.code == 2
    assert "unknown study 'absent'" in unknown.complaint


def test_doctor_finds_memory_short(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "available_memory", lambda: Pairs.worker_bytes - 1)
    *_, last = examining.examine(sqlite_url, ["b1"], Machine(settings={"data": "digits"}))
    assert (last.name, last.good) == ("b1", False)
    assert last.finding.endswith("memory for some 0 workers")


def test_doctor_finds_what_keeps_a_machine_from_training(searched: Path) -> None:
    """Kernels that cannot run, or a library that is broken, are findings: never a traceback."""
    broken = searched / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text("raise OSError('libcudart.so.99: cannot open shared object file')\n")
    for variables, name, finding in (
        ({"NUMBA_DISABLE_JIT": "1"}, "tiny kernels", "RuntimeError: NUMBA_DISABLE_JIT is set"),
        ({"PYTHONPATH": str(broken)}, "tiny", "libcudart.so.99: cannot open"),
    ):
        started = programs.start(searched, "doctor", *DIGITS, "--json", **variables)
        out, err = started.communicate(timeout=programs.PATIENCE)
        assert (started.returncode, err) == (1, "")
        checks = {check["check"]: check for check in json.loads(out)}
        assert not checks[name]["good"]
        assert finding in checks[name]["finding"]
        assert not checks["tiny"]["good"], "a worker cannot train it"
        assert {"versions", "database", "memory", "threads"} <= checks.keys()


def test_doctor_finds_what_keeps_it_from_the_studies(tmp_path: Path) -> None:
    (tmp_path / "sqlalchemy.py").write_text("raise OSError('libpq.so.5: cannot open shared object file')\n")
    # A process of its own: those that are forked have imported it.
    started = programs.start(tmp_path, "doctor", "b1", PYTHONPATH=str(tmp_path))
    out, err = started.communicate(timeout=programs.PATIENCE)
    assert (started.returncode, err) == (1, "")
    assert "FAIL database: libpq.so.5: cannot open shared object file" in out
    assert "FAIL studies: libpq.so.5" in out


def test_doctor_says_that_kernels_were_damaged(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cache of the kernels warns of (tests/models/test_checkedcache.py) is part of the finding."""

    def train_a_little(*_: object) -> str:
        logging.getLogger("pairsearch.jit.cache").warning("the compiled kernels are damaged")
        return "compiled"

    monkeypatch.setattr(problem, "train_a_little", train_a_little)
    checks = examining.examine(sqlite_url, ["b1"], Machine(settings={"data": "digits"}))
    (kernels,) = [check for check in checks if check.name == "b1 kernels"]
    assert kernels.good
    assert kernels.finding.startswith("compiled: loaded")
    assert kernels.finding.endswith("; the compiled kernels are damaged"), "once"


def test_usage_errors_are_exit_code_2(tmp_path: Path) -> None:
    for arguments in (
        ("no-such-command",),
        ("run",),
        ("best", "tiny", "--top", "0"),
        ("status", "--no-such"),
    ):
        assert programs.run(tmp_path, *arguments).code == 2


@pytest.mark.parametrize("command", ["status", "best", "retry"])
def test_a_definition_s_file_names_its_study(searched: Path, command: str) -> None:
    by_file = programs.run(searched, command, "tiny.toml")
    assert (by_file.code, by_file.err) == (0, "")
    assert by_file.out == programs.run(searched, command, "tiny").out
