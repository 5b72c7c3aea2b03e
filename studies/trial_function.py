"""The problem of an Optuna objective: a function of one argument, `trial`.

Optuna itself is not imported: `Trial` answers what an objective asks its trial, from the point of the grid that is
trained. An objective that checks the class of its trial does not run here.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pairsearch.studies.configuration import Configuration, Params, Value
from pairsearch.studies.errors import ProblemError, ReportError
from pairsearch.studies.place import Place
from pairsearch.studies.problem import Impossible, Metric, OneByOne, Run, RunReport, Stopped

log = logging.getLogger(__name__)

PRUNED = "TrialPruned"
"""The name of Optuna's exception, by which it is recognised."""
STEP_TOLERANCE = 1e-8
"""How far a number may lie from a multiple of `step`, in steps."""


class TrialFunction(OneByOne):
    """A problem that calls an objective of Optuna's for each run.

    The function takes a trial and the settings, and returns the metric, or all of `values`. `epochs` says for how many
    epochs a fold and a round train; only a rehearsal has fewer.
    """

    # What an objective keeps is its own business.
    gives_weights = False
    ends_by_itself = True

    def __init__(
        self,
        function: Callable[..., Any],
        settings: Mapping[str, Any],
        metric: str,
        values: Sequence[str],
        epochs: Mapping[str, int],
    ) -> None:
        self.metrics = {name: Metric() for name in values}
        self._function = function
        self._settings = dict(settings)
        self._metric = metric
        self._values = tuple(values) or (metric,)
        self._epochs = epochs
        self._unused: set[str] = set()
        self._described: Trial | None = None

    def describe(self, params: Params) -> Mapping[str, str]:
        """Return the user attributes that the point's last run has set, as texts."""
        trial = self._described
        if trial is None or trial.key != Configuration(params).key:
            return {}
        return {name: str(value) for name, value in trial.user_attrs.items()}

    def fit(self, params: Params, run: Run, report: RunReport) -> None:
        """Call the objective once."""
        trial = Trial(params, run, self._metric, report, rehearsed=run.epochs < self._epochs[run.kind])
        returned: dict[str, Any] = {}
        try:
            given = self._function(trial, **self._settings)
        except Stopped:
            if not trial.cut_short:
                raise
        except Exception as error:
            if trial.refused is not None:
                raise trial.refused from None
            if not any(one.__name__ == PRUNED for one in type(error).__mro__):
                raise
            if not trial.stopped:
                said = str(error) or f"raised {PRUNED}, though should_prune() was false"
                raise Impossible(said) from error
        else:
            # The objective caught what a suggestion raised.
            if trial.refused is not None:
                raise trial.refused
            if not trial.stopped:
                returned = self._returned(given)
        self._described = trial
        for name in params.keys() - trial.params.keys() - self._unused if not trial.stopped else ():
            self._unused.add(name)
            log.warning(
                "the objective does not suggest %s at every point: points that differ in nothing else are trained for "
                "nothing; a [[grid]] of its own, or `where`, leaves them out",
                name,
            )
        trial.end(returned)

    def _returned(self, given: Any) -> dict[str, Any]:
        """Return the figures by name; raises ReportError where the objective returned another number of them."""
        values = list(given) if isinstance(given, list | tuple) else [given]
        if len(values) != len(self._values):
            raise ReportError(
                f"the objective returned {len(values)} values, expected {len(self._values)} "
                f"({', '.join(self._values)}): `values` in the definition names them in their order"
            )
        return dict(zip(self._values, map(_as_float, values), strict=True))


class Trial:
    """What an objective gets as its trial: the values of one point, for one run.

    Attributes:
        run: which fold or round is trained (`pairsearch.Run`); Optuna's trials have none.
        key: identifies the point.
        params: the values that were suggested so far, by name.
        user_attrs: what was set by `set_user_attr`.
        number: a number of this point's run alone, the same each time it is trained. It counts nothing.
        stopped: whether the training is to end.
        refused: why a suggestion could not be answered, None if all could.
        cut_short: whether a rehearsal has ended the run after its fewer epochs.
    """

    def __init__(
        self, params: Params, run: Run, metric: str, report: RunReport, *, rehearsed: bool = False
    ) -> None:
        self.run = run
        self.params: dict[str, Any] = {}
        self.user_attrs: dict[str, Any] = {}
        self.stopped = False
        self.cut_short = False
        self.refused: Impossible | None = None
        self.key = Configuration(params).key
        identity = f"{self.key} {run.kind} {run.index}"
        # It may serve as a seed, which is below 2**31 for some.
        self.number = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") >> 1
        self._values = params
        self._metric = metric
        self._report = report
        self._rehearsed = rehearsed
        self._first_step: int | None = None
        # What was reported last, which goes to the service with the next call: the value that is returned takes the
        # place of that of the last epoch.
        self._epoch = 0
        self._pending: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"trial.{name}: a trial has suggest_categorical, suggest_float, suggest_int, report, should_prune, "
            "set_user_attr, user_attrs, params, number and run here"
        )

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        """Do what `suggest_float` does."""
        return self.suggest_float(name, low, high)

    suggest_loguniform = suggest_uniform

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        """Do what `suggest_float` does with steps of `q`."""
        return self.suggest_float(name, low, high, step=q)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return the choice that the point has. A text of the grid stands for None, True or others of that text too.

        It raises `Impossible` where the grid lacks the name, or the point has another value.
        """
        value = self._value(name)
        same = (one for one in choices if isinstance(one, bool) == isinstance(value, bool) and one == value)
        meant = (one for one in choices if not isinstance(one, str) and str(one) == value)
        for choice in (*same, *meant):
            self.params[name] = choice
            return choice
        raise self._outside(name, f"one of {', '.join(map(repr, choices))}")

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the number that the point has; raises as `suggest_categorical`."""
        return float(self._number(name, float, low, high, step))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the integer that the point has; raises as `suggest_categorical`."""
        return int(self._number(name, int, low, high, step))

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep a fact about the point, which tables show and trade-offs count."""
        self.user_attrs[key] = value

    def report(self, value: Any, step: int) -> None:
        """Report the metric after a step. Steps count epochs, from 0 if the first one is 0; one again is left out.

        Raises:
            Stopped: the training has to end; let it pass.
            ReportError: the step is lower than the last one.
        """
        if self.stopped:
            raise Stopped
        step = int(step)
        if self._first_step is None:
            self._first_step = step
        epoch = step + (self._first_step == 0)
        if epoch == self._epoch:
            return
        if epoch < self._epoch:
            raise ReportError(f"report: expected a step above that of the last report, got {step}")
        self._flush()
        self._epoch, self._pending = epoch, {self._metric: _as_float(value)}
        if self._rehearsed and epoch >= self.run.epochs:
            self.cut_short = True
            raise Stopped

    def should_prune(self) -> bool:
        """Whether the training is to end: by the pruner, the time limit or a signal. Raise `TrialPruned` then."""
        if not self.stopped and self._epoch < self.run.epochs:
            with suppress(Stopped):
                self._flush()
        return self.stopped

    def end(self, returned: Mapping[str, Any]) -> None:
        """Report what the objective returned, after the last epoch; raises `Stopped` where it had to end before."""
        if self.stopped:
            raise Stopped
        if self._epoch < self.run.epochs:
            self._flush()
        # A report of a later epoch is refused by the service, except in a rehearsal, which has ended the run by it.
        last = self.run.epochs if self.cut_short else max(self._epoch, self.run.epochs)
        self._report(last, **{**self._pending, **returned})

    def _flush(self) -> None:
        """Hand what was reported last to the service."""
        if self._pending:
            figures, self._pending = self._pending, {}
            try:
                self._report(self._epoch, **figures)
            except Stopped:
                self.stopped = True
                raise

    def _value(self, name: str) -> Value:
        if name not in self._values:
            self.refused = Impossible(
                f"the objective suggests {name!r}, which the point lacks: it has {', '.join(self._values)}"
            )
            raise self.refused
        return self._values[name]

    def _outside(self, name: str, expected: str) -> Impossible:
        value = self._values[name]
        self.refused = Impossible(f"the grid has {name} = {value!r}, and the objective suggests {expected}")
        return self.refused

    def _number(self, name: str, kind: type, low: float, high: float, step: float | None) -> int | float:
        """Return a number of the point in a range, by the type that was asked for."""
        value = self._value(name)
        steps = 0.0
        good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if good and step is not None:
            steps = (value - low) / step  # type: ignore[operator] # it is a number
        if not good or not math.isclose(steps, round(steps), rel_tol=0, abs_tol=STEP_TOLERANCE):
            in_steps = "" if step is None or (kind is int and step == 1) else f" in steps of {step!r}"
            whole = "an integer " if kind is int else ""
            raise self._outside(name, f"{whole}from {low!r} to {high!r}{in_steps}")
        self.params[name] = kind(value)
        return self.params[name]  # type: ignore[no-any-return] # the type makes numbers


def _as_float(value: Any) -> Any:
    """Return what `float` makes of a value, as Optuna does, or of an array's only item; other values as they are."""
    if getattr(value, "size", None) == 1 and hasattr(value, "item"):
        value = value.item()
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return value


def check_guarded(problem: str, place: Place) -> None:
    """Refuse a problem's file that searches by Optuna when it is imported, which each worker would do.

    So no statement outside of functions and of `if __name__ == "__main__":` may call `.optimize(...)`.
    """
    file, _, _ = problem.partition(":")
    if not file.endswith(".py") or place.folder is None:
        return
    try:
        code = place.file(file).read_text(encoding="utf-8")
        statements = ast.parse(code).body if "optuna" in code else []
    except (OSError, SyntaxError, ValueError):
        # The import says it better.
        return
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "optimize":
                raise ProblemError(
                    f"{file}, line {node.lineno}, calls optimize whenever the file is imported: put the call below "
                    'if __name__ == "__main__":'
                )
