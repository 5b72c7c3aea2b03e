"""The words of a command, and how figures are read from what a program prints or writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pairsearch.studies import loading
from pairsearch.studies.command.figures import Curve, Followed, SkippedError, of_json, reader
from pairsearch.studies.command.kept import Kept
from pairsearch.studies.command.words import Words, as_text
from pairsearch.studies.definition import parse
from pairsearch.studies.errors import ProblemError
from pairsearch.studies.loading import Loaded, check_trainable

RAW: dict[str, Any] = {
    "name": "script",
    "problem": "command",
    "metric": "loss",
    "folds": 2,
    "epochs": 3,
    "metrics": {"loss": {}, "accuracy": {"maximise": True}},
    "grid": {"lr": [1e-3], "net": ["a b"]},
}


def load(folder: Path | None, settings: Mapping[str, Any], **changes: Any) -> Loaded:
    return loading.load(parse(RAW | {"settings": dict(settings)} | changes, "script"), folder)


def test_a_value_is_one_argument_and_braces_are_doubled() -> None:
    words = Words(["run", "{name}", "--x={x}", "{{}}{{{x}}}", "", "{fold}{device}"])
    filled = words.filled({"name": "a b; $(rm *) '\"", "x": 0.1}, {"fold": "3", "device": "cpu"})
    assert filled == ["run", "a b; $(rm *) '\"", "--x=0.1", "{}{0.1}", "", "3cpu"]


def test_flags_and_overrides_are_words_of_their_own() -> None:
    params = {"lr": 1e-05, "n": 3, "fast": True, "name": "a b", "net": "res/18"}
    assert Words(["{flags}", "end"]).filled(params, {}) == [
        *("--lr=1e-05", "--n=3", "--fast=true", "--name=a b", "--net=res/18", "end")
    ]
    assert Words(["{hydra}"]).filled(params, {}) == [
        "lr=1e-05",
        "n=3",
        "fast=true",
        "name='a b'",
        "net=res/18",
    ]


@pytest.mark.parametrize(
    ("text", "override"),
    [
        ("1", "'1'"),
        ("null", "'null'"),
        ("it's", r"'it\'s'"),
        ("back\\", r"'back\\'"),
        ("a,b", "'a,b'"),
        ("", "''"),
    ],
)
def test_a_text_stays_a_text_for_hydra(text: str, override: str) -> None:
    assert Words(["{hydra}"]).filled({"x": text}, {}) == [f"x={override}"]


@pytest.mark.parametrize("value", [0.1, 1e-300, 1 / 3, -0.5, 1e22, 5e-324, 2.0])
def test_a_float_reads_back_as_the_same(value: float) -> None:
    assert float(as_text(value)) == value


def test_other_values_as_texts() -> None:
    assert [as_text(value) for value in (True, False, 12, "text")] == ["true", "false", "12", "text"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["true", "{lr}"], "grid.net: settings.command uses it nowhere: write {net} in one of its words, or {flags}"),
        (["true", "{flags}", "{lrr}"], "there is no {lrr} here: expected one of lr, net, fold, folds"),
        (["true", "{}"], "settings.command: there is no {} here"),
        (["true", "x{flags}"], "'x{flags}': {flags} stands for several words: make it a word by itself"),
        (["true", "{lr"], "'{lr': a brace stands alone: write {{ or }} for one"),
        (["true", "lr}"], "a brace stands alone"),
        (["no-such-program", "{flags}"], "there is no program 'no-such-program' on this machine"),
        (["./no-such.sh", "{flags}"], "there is no program './no-such.sh' on this machine"),
        ("python train.py", "settings.command: expected a list of words"),
        ([], "settings.command: expected a list of words"),
        (["true", 1], "settings.command: expected a list of words"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_command_is_refused_in_a_line(
    tmp_path: Path, command: object, message: str
) -> None:
    with pytest.raises(ProblemError) as caught:
        check_trainable(load(tmp_path, {"command": command}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"figures": "metrics.csv"}, "settings.figures: expected a file under {out} or {checkpoint}"),
        ({"figures": "{out}/{x}.csv"}, "settings.figures: there is no {x} here"),
        (
            {"figures": "{checkpoint}/m.csv"},
            "settings.figures: a word of settings.command has to name {checkpoint}",
        ),
        ({"figures": "loss=(?P<loss>"}, "settings.figures: 'loss=(?P<loss>' is no regular expression"),
        ({"figures": "loss=(.*)"}, "with a named group for a figure, such as (?P<loss>"),
        ({"first_epoch": 2}, "settings.first_epoch: "),
        ({"grace": -1.0}, "settings.grace: "),
        ({"comand": []}, "settings.comand: unknown setting: expected one of command, figures"),
    ],
)
def test_what_is_wrong_with_other_settings_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProblemError) as caught:
        check_trainable(load(tmp_path, {"command": ["true", "{flags}"]} | settings))
    assert message in str(caught.value)


def test_a_parameter_that_is_named_as_something_of_the_run_is_refused_where_it_is_ambiguous(
    tmp_path: Path,
) -> None:
    ambiguous = {"grid": {"epochs": [1, 2]}}
    with pytest.raises(ProblemError, match="is something of the run, and a parameter of the grid too"):
        check_trainable(load(tmp_path, {"command": ["true", "{epochs}"]}, **ambiguous))
    check_trainable(load(tmp_path, {"command": ["true", "{flags}"]}, **ambiguous))


def test_a_placeholder_of_another_table_of_the_grid_is_refused(tmp_path: Path) -> None:
    grid = [{"lr": [0.1]}, {"lr": [0.1], "momentum": [0.9]}]
    with pytest.raises(ProblemError, match=r"there is no \{momentum\} here"):
        check_trainable(load(tmp_path, {"command": ["true", "{lr}", "{momentum}"]}, grid=grid))
    check_trainable(load(tmp_path, {"command": ["true", "{flags}"]}, grid=grid))


def test_a_program_is_not_run_because_a_database_names_it() -> None:
    with pytest.raises(
        ProblemError, match="it is a program of yours, which is not run because a database names it"
    ):
        load(None, {"command": ["true", "{flags}"]})


def test_the_user_is_told_what_the_program_has_to_find_out_by_itself(tmp_path: Path) -> None:
    told = load(tmp_path, {"command": ["true", "{flags}"]}).problem.notes
    assert ["{fold} nor {seed}" in told[0], "{kind}" in told[1]] == [True, True]
    assert not load(tmp_path, {"command": ["true", "{flags}", "{fold}", "{kind}"]}).problem.notes


def test_the_files_that_a_command_names_are_recorded(tmp_path: Path) -> None:
    for name in (
        "a/train.py",
        "a/beside.py",
        "root.py",
        "c.yaml",
        "run.sh",
        "pkg/main.py",
        "pkg/__init__.py",
        "other",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "a/train.py").write_text("import beside, root, json")
    (tmp_path.parent / "outside").touch()

    def files(*command: str) -> set[str]:
        return {*load(tmp_path, {"command": [*command, "{flags}"]}).traits.files}

    assert files("python", "a/train.py", "--config=c.yaml") == {
        "a/train.py",
        "a/beside.py",
        "root.py",
        "c.yaml",
    }
    assert files("sh", "-c", "set -e; python 'a/train.py' <other; ./run.sh") == {
        *("a/train.py", "a/beside.py", "root.py", "other", "run.sh")
    }
    assert files("python", "-m", "pkg.main") == {"pkg/__init__.py", "pkg/main.py"}
    assert files(str(tmp_path / "run.sh"), "../outside", "a", "/etc/passwd") == {"run.sh"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"epoch": 1, "loss": 0.5}', {"epoch": 1, "loss": 0.5}),
        ('  {"loss": NaN}\r', {"loss": math.nan}),
        ('{"loss": nan, "x": -inf, "y":+Infinity}', {"loss": math.nan, "x": -math.inf, "y": math.inf}),
        ('{"loss": -nan}', {"loss": math.nan}),
        ('{"loss": 0.5', None),
        ("epoch 3", None),
        ("[1, 2]", None),
        ("", None),
        ("{" * 100_000 + "}", None),
    ],
)  # fmt: skip
def test_a_line_is_figures_where_it_is_a_json_object(line: str, found: object) -> None:
    assert repr(of_json(line)) == repr(found)


class Gathered:
    """A curve, and what it has reported."""

    def __init__(self, first: int = 1, *, single: bool = False, required: bool = True) -> None:
        self.reports: list[tuple[int, dict[str, float]]] = []
        self.curve = Curve(
            lambda epoch, **figures: self.reports.append((epoch, figures)),
            *(["loss", "accuracy"], "loss", "epoch", first, single, required),
        )

    def take(self, *lines: Mapping[str, Any]) -> Gathered:
        for line in lines:
            self.curve.take(line)
            self.report(self.curve.now)
        return self

    def report(self, before: float = math.inf) -> list[tuple[int, dict[str, float]]]:
        while self.curve.report_next(before):
            pass
        return self.reports


def test_the_last_line_of_each_epoch_counts() -> None:
    gathered = Gathered().take(
        {"epoch": 1, "loss": 3}, {"epoch": 1, "loss": 2, "accuracy": 0.5}, {"epoch": 2, "loss": 1}
    )
    assert gathered.reports == [(1, {"loss": 2.0, "accuracy": 0.5})]
    assert gathered.report()[1:] == [(2, {"loss": 1.0})]


def test_lines_without_an_epoch_belong_to_the_one_that_was_stated_last() -> None:
    gathered = Gathered().take(
        {"epoch": "1"}, {"accuracy": "0.5"}, {"loss": "2"}, {"epoch": 2.0}, {"loss": 1}
    )
    assert gathered.report() == [(1, {"loss": 2.0, "accuracy": 0.5}), (2, {"loss": 1.0})]


def test_without_any_epoch_one_begins_where_a_figure_comes_again() -> None:
    gathered = Gathered().take(
        {"loss": 3}, {"accuracy": 0}, {"loss": 2}, {"accuracy": 1}, {"accuracy": 2}, {"loss": 1}
    )
    assert gathered.report() == [
        (1, {"loss": 3.0, "accuracy": 0.0}), (2, {"loss": 2.0, "accuracy": 1.0}), (3, {"loss": 1.0, "accuracy": 2.0}),
    ]  # fmt: skip


def test_a_definition_of_one_epoch_has_the_last_figures() -> None:
    assert Gathered(single=True).take({"loss": 3}, {"loss": 2}).report() == [(1, {"loss": 2.0})]


def test_an_epoch_may_count_from_0() -> None:
    assert Gathered(0).take({"epoch": 0, "loss": 2}, {"epoch": 1, "loss": 1}).report() == [
        (1, {"loss": 2.0}), (2, {"loss": 1.0}),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'epoch' is 0, and the first is 1: write first_epoch = 0 under"):
        Gathered().take({"epoch": 0, "loss": 2})


def test_an_epoch_of_a_fold_without_the_metric_is_left_out_and_one_of_a_round_is_not() -> None:
    lines = [{"epoch": 1, "accuracy": 1}, {"epoch": 2, "loss": 1}]
    assert Gathered().take(*lines).report() == [(2, {"loss": 1.0})]
    assert Gathered(required=False).take(*lines).report() == [(1, {"accuracy": 1.0}), (2, {"loss": 1.0})]


def test_null_is_nan_for_the_metric_as_javascript_writes_it_and_nothing_for_others() -> None:
    ((epoch, figures),) = Gathered().take({"epoch": 1, "loss": None, "accuracy": None}).report()
    assert (epoch, repr(figures)) == (1, "{'loss': nan}")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"epoch": 1, "loss": "0.5,"}], "figure 'loss' is no number: got '0.5,'"),
        ([{"epoch": 1, "loss": True}], "figure 'loss' is no number: got 'True'"),
        ([{"epoch": 1, "loss": [1]}], "figure 'loss' is no number"),
        ([{"epoch": 1, "loss": 10**400}], "figure 'loss' is no number"),
        ([{"epoch": 1.5, "loss": 1}], "'epoch' is no epoch: expected a whole number, got '1.5'"),
        ([{"epoch": math.nan, "loss": 1}], "'epoch' is no epoch"),
        (
            [{"epoch": 2, "loss": 1}, {"epoch": 1, "loss": 1}],
            "epoch 1 came after epoch 2: each epoch counts once",
        ),
    ],
)
def test_what_is_no_figure_is_an_error(lines: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Gathered().take(*lines)
    assert message in str(caught.value)


def test_after_a_checkpoint_epochs_may_be_repeated_and_have_to_be_stated() -> None:
    gathered = Gathered()
    gathered.curve.restore(2, {3: {"loss": 3.0}}, 1)
    gathered.take({"epoch": 2, "loss": 9}, {"epoch": 3, "accuracy": 0.5}, {"epoch": 4, "loss": 4})
    assert gathered.report() == [(3, {"loss": 3.0, "accuracy": 0.5}), (4, {"loss": 4.0})]
    again = Gathered()
    again.curve.restore(2, {}, 1)
    with pytest.raises(ValueError, match=r"a program with \{checkpoint\} states its epochs"):
        again.take({"loss": 1})


def test_after_a_checkpoint_epochs_lie_no_further_apart_than_before() -> None:
    first = Gathered().take(*({"epoch": epoch, "loss": epoch} for epoch in (1, 4, 6)))
    for begins, skips in ((7, False), (9, False), (10, True)):
        gathered = Gathered()
        gathered.curve.restore(first.curve.reported, first.curve.pending, first.curve.stride)
        # It may repeat an epoch of which it was not known that it was complete.
        gathered.take({"epoch": 6, "loss": 6})
        if not skips:
            gathered.take({"epoch": begins, "loss": 1}, {"epoch": begins + 10, "loss": 2})
            continue
        with pytest.raises(
            SkippedError, match=r"^the program went on after epoch 6 with epoch 10: print the"
        ):
            gathered.take({"epoch": begins, "loss": 1})


def test_a_pattern_takes_named_groups_wherever_they_stand() -> None:
    read = reader(r"epoch (?P<epoch>\d+)|loss[=:] ?(?P<loss>\S+)|acc (?P<accuracy>\S+)", ["loss", "accuracy"])
    assert read is not None
    assert [read(line) for line in ("epoch 3/10", "val loss: nan, acc 0.5", "done")] == [
        {"epoch": "3"}, {"loss": "nan,", "accuracy": "0.5"}, None,
    ]  # fmt: skip


def follow(path: Path) -> tuple[Followed, Gathered]:
    gathered = Gathered()
    return Followed(path, gathered.curve.begin_again), gathered


def test_a_file_is_followed_line_by_line_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    followed, gathered = follow(path)
    assert [*followed.read(ended=False)] == []
    with path.open("w") as file:
        for part, found in (
            ('{"epoch": 1, ', []), ('"loss": 1}\n{"epo', [{"epoch": 1, "loss": 1}]), ('ch": 2, "loss": 2}', []),
        ):  # fmt: skip
            file.write(part)
            file.flush()
            assert [*followed.read(ended=False)] == found
    assert [*followed.read(ended=True)] == [{"epoch": 2, "loss": 2}]
    assert gathered.curve.known == 0


@pytest.mark.parametrize("stated", [True, False])
def test_a_table_that_is_written_anew_with_more_columns_counts_once(tmp_path: Path, stated: bool) -> None:
    path = tmp_path / "metrics.csv"
    followed, gathered = follow(path)

    def write(*rows: str) -> None:
        path.write_text("".join(f"{row if stated else row.partition(',')[2]}\n" for row in rows))
        gathered.take(*followed.read(ended=False))

    write("epoch,loss", "1,3", "2,2")
    assert gathered.reports == [(1, {"loss": 3.0})]
    write("epoch,loss,accuracy", "1,3,", "2,2,", "3,1,0.5")
    assert gathered.report() == [(1, {"loss": 3.0}), (2, {"loss": 2.0}), (3, {"loss": 1.0, "accuracy": 0.5})]


def test_the_files_of_a_checkpoint_come_back_and_are_read_once_they_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path / "one", {"a/b": b"1", "c": b"2"})
    assert (tmp_path / "one/a/b").read_bytes() == b"1"
    monkeypatch.setattr("pairsearch.studies.command.kept.SETTLED_SECONDS", 0.0)
    assert not kept.changed()
    (tmp_path / "one/c").write_bytes(b"333")
    monkeypatch.setattr("pairsearch.studies.command.kept.SETTLED_SECONDS", 3600.0)
    assert not kept.changed()
    monkeypatch.setattr("pairsearch.studies.command.kept.SETTLED_SECONDS", 0.0)
    assert kept.changed()
    assert kept.files == {"a/b": b"1", "c": b"333"}
    kept.took(3600.0)
    (tmp_path / "one/c").write_bytes(b"4444")
    assert not kept.changed()
    with pytest.raises(ValueError, match=r"'\.\./x' is no name of a file in it"):
        Kept(tmp_path / "two", {"../x": b""})
    assert not (tmp_path / "x").exists()


def test_a_command_trains_one_model_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    command = [
        "python",
        "train.py",
        "--lr",
        "{lr}",
        "--layers",
        "{layers}",
        "--seed",
        "{seed}",
        "--fold",
        "{fold}",
    ]
    loaded = load(tmp_path, {"command": command}, grid={"lr": [1e-3, 1e-2], "layers": [2, 3]})
    check_trainable(loaded)
    assert json.loads(json.dumps(loaded.traits.to_json()))["files"].keys() == {"train.py"}
    assert not loaded.traits.together
