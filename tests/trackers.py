"""Reads what trackers have, each by its own means."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import programs
from availability import needed


@dataclass(frozen=True)
class Seen:
    """A run in a tracker: its texts, values of parameters, points by figure, and the name of what it is nested in."""

    tags: dict[str, str]
    params: dict[str, object]
    points: dict[str, dict[int, float]]
    parent: str | None = None


def by_epoch(points: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Points by epoch, of which each has one."""
    listed = list(points)
    assert len(dict(listed)) == len(listed), "two points in an epoch"
    return dict(listed)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A real server on a port of its own, with SQLite behind it; its URI, which answers soon."""
    needed("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = (
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    )
    command = ("server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *words)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command], stdout=log, stderr=log, cwd=folder,
            env=programs.environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def answers(uri: str) -> bool:
    """Whether a server is up."""
    try:
        with urlopen(f"{uri}/health") as reply:  # noqa: S310 - our own server
            return bool(reply.status == 200)
    except OSError:
        return False


def in_mlflow(uri: str, study: str) -> dict[str, Seen]:
    """The runs of an experiment by MLflow's own ids."""
    mlflow = needed("mlflow")
    client = mlflow.MlflowClient(uri)
    found = client.get_experiment_by_name(study)
    runs = [] if found is None else client.search_runs([found.experiment_id])
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED"}
    return {
        run.info.run_id: Seen(
            tags=run.data.tags,
            params=run.data.params,
            points={
                name: by_epoch(
                    (one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)
                )
                for name in run.data.metrics
            },
            parent=run.data.tags.get("mlflow.parentRunId"),
        )
        for run in runs
    }


def in_tensorboard(folder: str, study: str) -> dict[str, Seen]:
    """The runs below a study's folder by their own folders, as TensorBoard reads them."""
    accumulator = needed("tensorboard.backend.event_processing.event_accumulator")
    metadata = needed("tensorboard.plugins.hparams.metadata")
    found = {}
    top = Path(folder) / study
    for file in sorted(top.rglob("*tfevents*")):
        read = accumulator.EventAccumulator(str(file.parent)).Reload()
        summaries = read.summary_metadata
        params = {}
        if metadata.SESSION_START_INFO_TAG in summaries:
            content = summaries[metadata.SESSION_START_INFO_TAG].plugin_data.content
            started = metadata.parse_session_start_info_plugin_data(content)
            params = {
                name: getattr(value, value.WhichOneof("kind")) for name, value in started.hparams.items()
            }
        tensors = {tag: read.Tensors(tag) for tag in read.Tags()["tensors"]}
        texts = {
            tag.removeprefix("tags/"): events[0].tensor_proto.string_val[0].decode()
            for tag, events in tensors.items()
            if tag.startswith("tags/")
        }
        points = {
            tag: by_epoch((one.step, one.tensor_proto.float_val[0]) for one in events)
            for tag, events in tensors.items()
            if tag not in summaries or summaries[tag].plugin_data.plugin_name == "scalars"
        }
        assert str(file.parent) not in found, "two files of a run"
        parent = None if file.parent == top else str(file.parent.parent)
        found[str(file.parent)] = Seen(texts, params, points, parent)
    return found


def in_wandb(folder: str, study: str) -> dict[str, Seen]:
    """The offline runs of a project by their ids, from the records that `wandb sync` sends."""
    internal = needed("wandb.proto.wandb_internal_pb2")
    found = {}
    for file in sorted(Path(folder, "wandb").glob("offline-run-*/run-*.wandb")):
        points: dict[str, dict[int, float]] = {}
        for content in needed("pairsearch.search.tracking.to_wandb").records(file.read_bytes()):
            record = internal.Record.FromString(content)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = record.run
            elif kind == "history":
                values = {
                    "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for item in record.history.item
                }
                for name, value in values.items():
                    if not name.startswith("_") and isinstance(value, float | int):
                        points.setdefault(name, {})[values["_step"]] = value
            elif kind == "exit":
                assert record.exit.exit_code == 0
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        tags = config.pop("pairsearch")
        config.pop("_wandb", None)
        assert run.project == study
        assert run.run_id not in found, "two folders of a run"
        found[run.run_id] = Seen(tags | {"group": run.run_group, "type": run.job_type}, config, points)
    return found
