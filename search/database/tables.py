"""The tables of the service, beside Optuna's in the same database: studies, the ledger, runs, curves.

Times are seconds since 1970 (UTC) on the database's clock. Figures are JSON objects by name; a figure that was not
finite or not reported is null. Epochs are 1-based, folds and rounds 0-based.

The tables use SQLAlchemy Core and not its ORM: rows are written in bulk and read into dataclasses, and commands that
only read start a tenth of a second sooner.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from pairsearch.search.database.column_types import LARGEST, constrain
from pairsearch.search.database.states import JobState, State

# Every change of the tables adds one; a database of another version is refused.
SCHEMA_VERSION = 6

metadata = MetaData(
    naming_convention={"ix": "ix_%(column_0_label)s", "ck": "%(table_name)s_%(constraint_name)s_check"}
)
# A column that every row has a value in.
required = partial(Column[Any], nullable=False)
# The kinds of runs that workers train.
TRAINED = ("fold", "round")

schema = Table(
    "pairsearch_schema",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, doc="Always 1."),
    required("version", Integer, doc="Version of these tables."),
    info={"about": "One row with the version of these tables in the database."},
)

studies = Table(
    "pairsearch_studies",
    metadata,
    Column("id", Integer, primary_key=True),
    required("name", String(64), unique=True, doc="Name of the study, in Optuna too."),
    required("optuna_study_id", Integer, doc="Optuna's id of the study; 0 where it has none."),
    required("definition", Text, doc="JSON: the definition as it was last created."),
    required(
        "choices",
        Text,
        doc="JSON: the values of each parameter in the order of Optuna's distributions; it is only appended to.",
    ),
    required(
        "problem",
        Text,
        doc="JSON: the traits of the problem when the study was last created (`studies.problem.Traits`).",
    ),
    required("created_at", Double, doc="When the study was created."),
    Column(
        "stopped_at",
        Double,
        doc="When `pairsearch stop` told its workers to end; none once others have begun.",
    ),
    info={"about": "A row is a study, bound to its definition, its problem and its data."},
)

provenances = Table(
    "pairsearch_provenances",
    metadata,
    Column("id", Integer, primary_key=True),
    required("digest", String(64), unique=True, doc="SHA-256 of the facts, in hexadecimal."),
    required("facts", Text, doc="JSON: versions, commit, host and processor."),
    info={"about": "A row is a program on a machine that computed results."},
)

configurations = Table(
    "pairsearch_configurations",
    metadata,
    Column("id", Integer, primary_key=True),
    required("study_id", ForeignKey(studies.c.id), doc="Its study."),
    required("key", Text, doc="The parameters as one line of text; unique in its study."),
    required("rank", Integer, doc="Position in the order in which workers claim, from 0."),
    required("params", Text, doc="JSON: the value of each parameter."),
    required(
        "state",
        String(16),
        info={"values": State},
        doc="`pending`, `running` (a worker holds a job of it), `finished`, `diverged`, `pruned` or `failed`.",
    ),
    required("errors", Integer, doc="How many attempts at its jobs ended in an exception."),
    required(
        "lapses", Integer, doc="How many attempts at its jobs lost their lease, mostly with their worker."
    ),
    required("claims", Integer, doc="How often a worker claimed one of its jobs."),
    Column("worker", Text, doc="Who claimed one of its jobs last: host and process."),
    Column("started_at", Double, doc="When the last attempt began."),
    Column("finished_at", Double, doc="When the result was stored."),
    Column("trial_id", Integer, doc="Optuna's id of its trial, while it is trained and when it has ended."),
    Column(
        "value",
        Double,
        info={"least": -LARGEST},
        doc="Mean of the study's metric over the folds; for finished configurations only.",
    ),
    Column("figures", Text, doc="JSON: the mean of each figure over the folds, after the last epoch."),
    Column("seconds", Double, doc="Time of the training, all folds together."),
    Column("reason", Text, doc="Why the configuration diverged, was pruned or failed."),
    Column("provenance_id", ForeignKey(provenances.c.id), doc="What computed the last of its folds."),
    UniqueConstraint("study_id", "key"),
    CheckConstraint("state <> 'finished' or value is not null", name="finished"),
    CheckConstraint(
        "state = 'pending' or state = 'running' or state = 'failed' "
        "or (seconds is not null and provenance_id is not null)",
        name="covered",
    ),
    Index("pairsearch_configurations_state", "study_id", "state", "rank"),
    info={"about": "A row is a configuration of a study, under a unique constraint, with its result."},
)

jobs = Table(
    "pairsearch_jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    required("study_id", ForeignKey(studies.c.id), doc="Its study."),
    required("key", Text, doc="Key of its configuration."),
    required("kind", String(8), info={"values": TRAINED}, doc="`fold` or `round`."),
    required("first", Integer, doc="Number of its first run, from 0."),
    required(
        "count", Integer, info={"least": 1}, doc="How many runs it has, one after the other or together."
    ),
    required(
        "rank",
        Integer,
        info={"least": -1},
        doc="Rank of its configuration; −1 for rounds, which workers claim before folds.",
    ),
    Column(
        "params", Text, doc="JSON: the value of each parameter; for rounds only, which may be of any point."
    ),
    required(
        "state",
        String(16),
        info={"values": JobState},
        doc="`pending`, `running`, `done`, `failed`, or `dropped`: its configuration ended without it.",
    ),
    required("errors", Integer, doc="How many attempts ended in an exception, and count."),
    required("lapses", Integer, doc="How many attempts lost their lease, mostly with their worker."),
    required("claims", Integer, doc="How often a worker claimed it."),
    Column("claim", String(32), doc="Token of the last claim, until the next; a write counts only with it."),
    Column("worker", Text, doc="Who claimed it last: host and process."),
    Column("lease_expires", Double, doc="When the lease runs out unless it is renewed."),
    UniqueConstraint("study_id", "key", "kind", "first"),
    Index("pairsearch_jobs_claim", "study_id", "state", "lapses", "errors", "rank", "id"),
    info={"about": "The ledger: a row is what a worker claims, some folds or rounds of a configuration."},
)

failures = Table(
    "pairsearch_failures",
    metadata,
    Column("id", Integer, primary_key=True),
    required("job_id", ForeignKey(jobs.c.id), index=True, doc="The job."),
    required("claim", String(32), unique=True, doc="Token of the claim that failed."),
    required("worker", Text, doc="Who tried: host and process."),
    required("reason", Text, doc="What was raised, in one line; or that it took too long."),
    Column("traceback", Text, doc="Traceback of the exception; none where a time limit ended the attempt."),
    required(
        "counts",
        Integer,
        info={"values": (0, 1)},
        doc="1 where the attempt counts; 0 where its worker was at fault.",
    ),
    required("failed_at", Double, doc="When it was reported."),
    info={"about": "A row is an attempt at a job that ended in an exception or at a time limit."},
)

runs = Table(
    "pairsearch_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    required("study_id", ForeignKey(studies.c.id), doc="Its study."),
    required("key", Text, doc="Key of its configuration."),
    required(
        "kind",
        String(8),
        info={"values": (*TRAINED, "mean")},
        doc="`fold`, `round`, or `mean` for the mean curves of folds that were loaded without theirs.",
    ),
    required("run", Integer, doc="Number of the fold or round, from 0; 0 for a mean."),
    required("epochs", Integer, doc="How many epochs have figures."),
    required(
        "figures",
        Text,
        doc="JSON: the value of each figure after the last epoch; empty where the run diverged.",
    ),
    Column("diverged_epoch", Integer, info={"least": 1}, doc="Epoch, from 1, in which the run diverged."),
    Column(
        "seconds",
        Double,
        doc="Time of its training; runs that were trained together share their time evenly. Loaded folds have none.",
    ),
    Column("worker", Text, doc="Who trained it: host and process."),
    Column("finished_at", Double, doc="When it was stored."),
    Column(
        "facts",
        Text,
        doc="JSON: facts of the problem about the configuration, as texts. Loaded folds have none.",
    ),
    Column("provenance_id", ForeignKey(provenances.c.id), doc="What computed it."),
    UniqueConstraint("study_id", "key", "kind", "run"),
    CheckConstraint(
        "kind <> 'round' or (seconds is not null and facts is not null and provenance_id is not null)",
        name="round",
    ),
    info={
        "about": "A row is a trained model: a fold of a configuration, or a round of its final evaluation."
    },
)

curves = Table(
    "pairsearch_curves",
    metadata,
    # No foreign key: it would be checked for every row, and the curves of a trial are inserted with their runs in one
    # transaction anyway.
    Column("run_id", Integer, primary_key=True, autoincrement=False, doc="Id of the run."),
    Column("figure", String(64), primary_key=True, doc="Name of the figure."),
    required("points", Text, doc="JSON array: a number or null for each epoch."),
    info={"about": "A row is one figure of a run over its epochs."},
)

checkpoints = Table(
    "pairsearch_checkpoints",
    metadata,
    Column("study_id", ForeignKey(studies.c.id), primary_key=True, doc="Its study."),
    Column("key", Text, primary_key=True, doc="Key of its configuration."),
    Column("kind", String(8), primary_key=True, info={"values": TRAINED}, doc="`fold` or `round`."),
    Column("run", Integer, primary_key=True, autoincrement=False, doc="Number of the fold or round, from 0."),
    required("epoch", Integer, doc="The epoch after which it was saved."),
    required("curves", Text, doc="JSON: the points of each figure up to that epoch, by name."),
    required("seconds", Double, doc="Time of the training up to there."),
    Column("content", LargeBinary, doc="The state (`studies.checkpoint_file`); none where a file has it."),
    Column(
        "file", Text, doc="Name of the file in the workers' `--checkpoints` folder that has a large state."
    ),
    required("saved_at", Double, doc="When it was saved."),
    info={"about": "A row is what a run that is not stored yet needs to go on where it was."},
)

models = Table(
    "pairsearch_models",
    metadata,
    Column("run_id", ForeignKey(runs.c.id), primary_key=True, autoincrement=False, doc="Id of the round."),
    required("content", LargeBinary, doc="The model as a file in safetensors format."),
    info={"about": "A row is the trained model of a round, up to the size that its definition allows."},
)

superseded = Table(
    "pairsearch_superseded",
    metadata,
    Column("id", Integer, primary_key=True),
    required("job_id", ForeignKey(jobs.c.id), doc="Its job."),
    required("claim", String(32), doc="Token of the claim under which it was trained."),
    required("worker", Text, doc="Who trained it: host and process."),
    Column(
        "value", Double, info={"least": -LARGEST}, doc="The study's metric; null where training diverged."
    ),
    required("arrived_at", Double, doc="When it arrived."),
    info={"about": "A row is a result that arrived after its lease was lost; it is kept and counts nowhere."},
)

submissions = Table(
    "pairsearch_submissions",
    metadata,
    Column("id", Integer, primary_key=True),
    required("study_id", ForeignKey(studies.c.id), index=True, doc="Its study."),
    required("engine", String(64), doc="The engine, as `run --on` names it."),
    required("address", Text, doc="Where it is, as `--at` gave it; empty for its usual place."),
    required("native_id", Text, doc="What the engine calls these workers."),
    required("workers", Integer, info={"least": 1}, doc="How many workers they are."),
    required("submitted_at", Double, doc="When they were submitted."),
    Column("ended_at", Double, doc="When all of them were seen to have ended."),
    info={"about": "A row is workers of a study that a cluster's engine starts, counts and ends."},
)

constrain(metadata)
