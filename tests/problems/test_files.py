"""The files of a problem are known by SHA-256: changed ones are refused, and nothing is imported for a name alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from project import FIT, Project, values

NEIGHBOUR = """
def fit(params, run, report):
    import {name}
    report(1, loss=float(params["x"] + {name}.offset))
"""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def neighbour(project: Project) -> Path:
    """A problem that imports another file, with a name that no other test uses: a process has one module of a name."""
    file = project.folder / f"offsets_{abs(hash(project.folder))}.py"
    file.write_text("offset = 0\n")
    project.write(NEIGHBOUR.format(name=file.stem), epochs=1)
    return file


@pytest.mark.parametrize(
    ("project", "which"),
    [("postgresql", "the problem's file"), ("sqlite", "a neighbour")],
    indirect=["project"],
)
def test_a_worker_with_another_file_is_refused_once_there_is_a_result(project: Project, which: str) -> None:
    other = neighbour(project)
    file = project.folder / "mine.py" if which == "the problem's file" else other
    project.create()
    # While there is no result `create` accepts a changed file, but a worker alone does not.
    first = sha256(file)
    file.write_text(file.read_text() + "# mended\n")
    assert sha256(file) in project.run("worker", "mine.toml").complaint
    created = project.run("create", "mine.toml")
    assert (created.code, created.err) == (0, "")
    assert project.run("worker", "mine.toml", "--max-trials", "1").code == 0
    held = sha256(file)
    file.write_text(file.read_text() + "# again\n")
    for command in ("worker", "run", "create", "evaluate"):
        complaint = project.run(command, "mine.toml").complaint
        assert f"{file.name} is {held} there and {sha256(file)} here" in complaint
        assert "allow_changed_files = true" in complaint
        assert first not in complaint
    if file == other:
        mine = project.folder / "mine.py"
        with_it = mine.read_text()
        mine.write_text(FIT)
        assert f"{other.name} is {held} there and absent here" in project.run("worker", "mine.toml").complaint
        mine.write_text(with_it)
    toml = project.folder / "mine.toml"
    toml.write_text("allow_changed_files = true\n" + toml.read_text())
    for command in ("create", "worker"):
        ended = project.run(command, "mine.toml")
        assert ended.code == 0, ended.err
    assert project.states() == {"finished": 2}
    origins = [json.loads(text)["files"] for text in values(project.rows("provenances", "facts"))]
    assert {f"{file.name} {digest}" in origin for origin in origins for digest in (held,)} == {True, False}
    assert any(f"{file.name} {sha256(file)}" in origin for origin in origins)
    exported = project.run("export", "mine", "--format", "json")
    assert exported.code == 0
    assert held in (project.folder / "mine-configurations.json").read_text()


def test_a_study_that_is_known_by_its_name_never_runs_code_of_a_user_s(on_sqlite: Project) -> None:
    on_sqlite.write(FIT)
    assert on_sqlite.search().finished == 2
    (on_sqlite.folder / "mine.py").write_text("open('trace', 'w').close()\n" + FIT)
    (on_sqlite.folder / "mine.toml").unlink()
    for command in (("worker",), ("run",), ("create",), ("evaluate",), ("check",)):
        complaint = on_sqlite.run(*command, "mine").complaint
        assert "code of yours, which is not run because a database names it" in complaint, command
        assert "name the definition's .toml file" in complaint
    for command in ("status", "best", "export", "retry"):
        assert on_sqlite.run(command, "mine").code == 0, command
    assert on_sqlite.run("export", "mine", "--format", "csv").code == 0
    assert not (on_sqlite.folder / "trace").exists()


def test_a_package_s_init_counts_among_the_files(on_sqlite: Project) -> None:
    name = f"package_{abs(hash(on_sqlite.folder))}"
    (on_sqlite.folder / name / "deep").mkdir(parents=True)
    (on_sqlite.folder / name / "__init__.py").write_text("")
    (on_sqlite.folder / name / "tools.py").write_text("offset = 1\n")
    on_sqlite.write(
        "from ..tools import offset\n" + FIT.replace("report(", "report("),
        f"{name}/deep/problem.py",
        problem=f"{name}.deep.problem:fit",
    )
    assert on_sqlite.search().finished == 2
    files = on_sqlite.study().traits.files
    assert files.keys() == {f"{name}/__init__.py", f"{name}/deep/problem.py", f"{name}/tools.py"}


def test_two_problems_whose_neighbours_share_a_name_are_not_mixed_up(on_sqlite: Project) -> None:
    for place, offset in (("one", 1), ("two", 2)):
        folder = on_sqlite.folder / place
        folder.mkdir()
        (folder / "shared_by_two.py").write_text(f"offset = {offset}\n")
        own = Project(folder, on_sqlite.url)
        own.write(NEIGHBOUR.format(name="shared_by_two"), name="mine.py", epochs=1)
        toml = folder / "mine.toml"
        toml.write_text(toml.read_text().replace('"mine"', f'"{place}"'))
    complaint = on_sqlite.run("create", "one/mine.toml", "two/mine.toml").complaint
    assert "are both module shared_by_two, of which a process can have one" in complaint
    assert not list(on_sqlite.folder.glob("*.db"))
    for place in ("one", "two"):
        on_sqlite.run("create", f"{place}/mine.toml")
        assert on_sqlite.run("worker", f"{place}/mine.toml").code == 0
    best = {
        place: on_sqlite.told("best", place, "--top", "1")["ranked"][0]["value"] for place in ("one", "two")
    }
    assert best == {"one": 2.0, "two": 3.0}


def test_a_file_that_changes_under_a_running_python_is_not_taken_for_the_new_one(on_sqlite: Project) -> None:
    on_sqlite.write(FIT)
    on_sqlite.create()
    on_sqlite.write(FIT + "# another\n")
    with pytest.raises(
        ValueError, match=r"mine\.py was changed after this process imported it: start Python anew"
    ):
        on_sqlite.create()
