"""Writes runs to MLflow: an experiment for each study, whose runs are nested."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from typing import Any

# The client prints nothing, and gives up soon; what the user has set stays.
for variable, value in {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}.items():
    os.environ.setdefault(variable, value)

from mlflow import MlflowClient  # noqa: E402 - it reads them
from mlflow.entities import Metric, Param, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

from pairsearch.search.common.redaction import learn  # noqa: E402
from pairsearch.search.ledger.studies import StoredStudy  # noqa: E402
from pairsearch.search.tracking.contract import Run, Tracker  # noqa: E402

ID, PARENT_ID, STATE = "pairsearch.id", "pairsearch.parent", "pairsearch.state"
"""Tags: our ids of a run and of the one that it is nested in, as MLflow chooses its own; and what is written last."""
PARENT = "mlflow.parentRunId"
# What MLflow takes: runs, metrics and parameters in a call, characters of a parameter's value, a tag's and its name.
PAGE, METRICS, PARAMS, LONGEST_PARAM, LONGEST_TAG, LONGEST_TAG_NAME = 1000, 800, 100, 6000, 8000, 250
OURS = ("mlflow.", "pairsearch.")
"""Tags that mean something to MLflow, or here."""


class MLflow(Tracker):
    """A server of MLflow's, or a database of one."""

    errors = (MlflowException, OSError)

    def __init__(self, place: str) -> None:
        learn(filter(None, map(os.environ.get, ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"))))
        self._client = MlflowClient(place)
        self._experiment = ""
        self._ids: dict[str, str] = {}

    def known(self, study: StoredStudy) -> dict[str, str]:
        found = self._client.get_experiment_by_name(study.name)
        self._experiment = (
            self._client.create_experiment(study.name) if found is None else found.experiment_id
        )
        runs: dict[str, Any] = {}
        for run in sorted(self._stored(), key=lambda run: (run.info.status == "RUNNING", run.info.run_id)):
            # Of several, which exporters wrote at the same time, one is kept.
            if runs.setdefault(run.data.tags[ID], run) is not run:
                self._client.delete_run(run.info.run_id)
        self._ids = {name: run.info.run_id for name, run in runs.items()}
        for run in runs.values():
            parent = self._ids.get(run.data.tags.get(PARENT_ID, ""))
            if parent not in (None, run.data.tags.get(PARENT)):
                self._client.set_tag(run.info.run_id, PARENT, parent)
        return {
            name: run.data.tags[STATE]
            for name, run in runs.items()
            if STATE in run.data.tags and run.info.status != "RUNNING"
        }

    def _stored(self) -> Iterator[Any]:
        token = None
        while token != "":
            page = self._client.search_runs([self._experiment], max_results=PAGE, page_token=token)
            yield from (run for run in page if ID in run.data.tags)
            token = page.token or ""

    def write(self, run: Run) -> None:
        said = {_taken(name): text[:LONGEST_TAG] for name, text in run.tags.items()}
        run_id = self._ids.pop(run.id, None)
        if run_id is not None and run.nested:
            self._client.delete_run(run_id)
        elif run_id is not None:  # others are nested in it
            self._client.update_run(run_id, status="RUNNING")
            for name in self._client.get_run(run_id).data.tags.keys() - said.keys():
                if not name.startswith(OURS):
                    self._client.delete_tag(run_id, name)
        if run_id is None or run.nested:
            run_id = self._create(run)
        self._ids[run.id] = run_id
        if run.report is not None:
            self._client.log_artifact(run_id, str(run.report))
        ended = round(run.ended * 1000)
        metrics = [
            Metric(name, value, ended, step) for step, of in run.points.items() for name, value in of.items()
        ]
        params = [Param(name, str(value)[:LONGEST_PARAM]) for name, value in run.params.items()]
        tags = [RunTag(name, text) for name, text in {**said, STATE: run.state}.items()]
        while metrics[METRICS:] or params[PARAMS:]:
            self._client.log_batch(run_id, metrics[:METRICS], params[:PARAMS])
            metrics, params = metrics[METRICS:], params[PARAMS:]
        self._client.log_batch(run_id, metrics, params, tags)
        self._client.set_terminated(run_id, "FAILED" if run.state == "failed" else "FINISHED", ended)

    def _create(self, run: Run) -> str:
        began, tags = round((run.ended - run.seconds) * 1000), {ID: run.id}
        if run.parents:
            parent = run.parents[-1]
            if parent not in self._ids:  # the study's, which is written when all others are
                made = self._client.create_run(self._experiment, began, {ID: parent}, run.study)
                self._ids[parent] = made.info.run_id
            tags |= {PARENT_ID: parent, PARENT: self._ids[parent]}
        return str(self._client.create_run(self._experiment, began, tags, run.name).info.run_id)


def _taken(name: str) -> str:
    """Return the name of a tag as MLflow takes it: facts have any names, which it may refuse, or take for paths."""
    taken = re.sub(r"[^\w/. :-]", "_", name)[:LONGEST_TAG_NAME]
    if posixpath.normpath(taken) == taken and not taken.startswith(("/", ".", *OURS)):
        return taken
    return re.sub("[/.]", "_", taken) or "_"
