"""Workers on Kubernetes and on Slurm, as far as that can be seen without a cluster."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import programs
import pytest
import yaml
from stack import ROOT

from pairsearch.search.common.errors import ExitCode

MANIFEST = ROOT / "studies" / "deploy" / "worker-job.yaml"
SCRIPT = ROOT / "studies" / "deploy" / "worker.slurm"
OWN = ROOT / "tests" / "faults" / "own_problem"


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    """The Kubernetes Job."""
    (found,) = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    assert (found["apiVersion"], found["kind"]) == ("batch/v1", "Job")
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def pod(job: dict[str, Any]) -> dict[str, Any]:
    """Its pods."""
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    """The container of a pod."""
    (found,) = pod["containers"]
    assert isinstance(found, dict)
    return found


def test_pods_run_without_root_rights_or_a_writable_root(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "\nUSER 10001:10001\n" in dockerfile


def test_the_database_url_is_a_file_that_the_pod_s_group_alone_reads(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    folder = mounts["storage"]["mountPath"]
    assert mounts["storage"]["readOnly"] is True
    assert volumes["storage"]["secret"] == {"secretName": "pairsearch", "defaultMode": 0o440}
    assert environment["PAIRSEARCH_STORAGE_FILE"] == f"{folder}/storage"
    assert "--from-file=storage=" in MANIFEST.read_text(encoding="utf-8")
    assert not {"PAIRSEARCH_STORAGE", "PGPASSWORD"} & set(environment)
    assert "://" not in " ".join(container["args"])


def test_what_a_worker_writes_has_a_volume(pod: dict[str, Any], container: dict[str, Any]) -> None:
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert "emptyDir" in volumes[mounts[environment["PAIRSEARCH_DATA"]]]
    assert "emptyDir" in volumes[mounts["/tmp"]]  # noqa: S108 - a path inside the container
    assert environment["NUMBA_CACHE_DIR"].startswith("/tmp/")  # noqa: S108 - as above
    assert set(mounts.values()) == set(volumes)


def test_a_pod_reads_a_user_s_study_where_it_is_mounted(
    tmp_path: Path, pod: dict[str, Any], container: dict[str, Any]
) -> None:
    (volume,) = [volume["configMap"] for volume in pod["volumes"] if volume["name"] == "studies"]
    assert volume["optional"] is True, "the paper's studies need none"
    assert f"kubectl create configmap {volume['name']} " in MANIFEST.read_text(encoding="utf-8")
    assert {"name": "studies", "mountPath": "/studies", "readOnly": True} in container["volumeMounts"]
    # A config map is mounted as links into a hidden folder, which is itself a link.
    shutil.copytree(OWN, tmp_path / "..first")
    (tmp_path / "..data").symlink_to("..first")
    for name in ("climb.toml", "climb.py"):
        (tmp_path / name).symlink_to(Path("..data", name))
    (tmp_path / "elsewhere").mkdir()
    made = programs.run(tmp_path / "elsewhere", "create", str(tmp_path / "climb.toml"))
    assert (made.code, made.err) == (0, "")
    worked = programs.run(tmp_path / "elsewhere", "worker", str(tmp_path / "climb.toml"), "--max-trials", "1")
    assert "worker ends: 1 finished" in worked.out


def test_a_pod_is_a_worker_on_one_core(container: dict[str, Any]) -> None:
    assert container["args"][0] == "worker"
    assert "command" not in container, "the image's entry point"
    assert container["resources"]["requests"]["cpu"] == container["resources"]["limits"]["cpu"] == "1"
    assert {"name": "OMP_NUM_THREADS", "value": "1"} in container["env"]


def test_a_pod_that_fails_is_replaced_but_not_one_with_bad_input(
    job: dict[str, Any], pod: dict[str, Any], container: dict[str, Any]
) -> None:
    spec = job["spec"]
    assert pod["restartPolicy"] == "Never", "the policy below asks for it"
    assert spec["parallelism"] > 1
    assert "completions" not in spec, "the first worker that ends well says that nothing is left"
    assert spec["backoffLimit"] > spec["parallelism"]
    disruption, bad_input = spec["podFailurePolicy"]["rules"]
    assert disruption == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    assert bad_input["action"] == "FailJob"
    assert bad_input["onExitCodes"] == {
        "containerName": container["name"], "operator": "In", "values": [ExitCode.BAD_INPUT],
    }  # fmt: skip


def test_a_pod_has_more_time_to_stop_than_an_epoch_takes(pod: dict[str, Any]) -> None:
    assert pod["terminationGracePeriodSeconds"] > 60


def options() -> dict[str, str]:
    text = SCRIPT.read_text(encoding="utf-8")
    return {name: value or "" for name, value in re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, re.M)}


def test_a_slurm_task_is_one_core_that_is_told_before_its_time_is_over() -> None:
    found = options()
    assert (found["ntasks"], found["cpus-per-task"]) == ("1", "1")
    assert re.fullmatch(r"1-\d+", found["array"])
    assert found["signal"] == "B:USR1@120"
    assert "requeue" in found
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/bin/bash"
    code = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    assert max(n for n, line in enumerate(lines) if line.startswith("#SBATCH")) < min(code)


@pytest.mark.parametrize("script", ["secrets.sh", "worker.slurm"])
def test_a_script_is_sound(script: str) -> None:
    path = ROOT / "studies" / "deploy" / script
    subprocess.run(["bash", "-n", path], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", path], check=True)


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """A compute node's environment, and a study whose configurations take longer than any test waits."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "pairsearch"
    # What a task of the array would find in the environment's folder, with its threads told for the test.
    program.write_text(
        f'#!/bin/sh\necho "threads: $OMP_NUM_THREADS"\nexec {sys.executable} -m pairsearch "$@"\n'
    )
    program.chmod(0o755)
    scontrol = folder / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    (tmp_path / "storage").write_text(f"sqlite:///{tmp_path}/pairsearch.db\n")
    shutil.copy(OWN / "climb.py", tmp_path)
    (tmp_path / "climb.toml").write_text(
        (OWN / "climb.toml").read_text().replace("epochs = 4", "epochs = 100000")
    )
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", str(tmp_path)),
        "PAIRSEARCH_STORAGE_FILE": str(tmp_path / "storage"),
        "SLURM_JOB_ID": "4711",
        "SLURM_ARRAY_TASK_ID": "1",
    }


@pytest.mark.parametrize(
    ("number", "asked"),
    [(signal.SIGUSR1, "requeue 4711\n"), (signal.SIGTERM, "")],
    ids=["limit", "cancelled"],
)
def test_a_slurm_task_hands_its_configuration_back_and_is_queued_again_at_its_time_limit_alone(
    tmp_path: Path, node: dict[str, str], number: signal.Signals, asked: str
) -> None:
    assert programs.run(tmp_path, "create", "climb.toml").code == 0
    # Slurm runs a copy of the script, and signals that process alone.
    copy = shutil.copy(SCRIPT, tmp_path / "slurm_script")
    task = subprocess.Popen(
        ["bash", copy, "climb.toml"],
        cwd=tmp_path, env=node, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    connection = sqlite3.connect(tmp_path / "pairsearch.db")

    def states() -> set[str]:
        return {state for (state,) in connection.execute("select state from pairsearch_configurations")}

    end = time.monotonic() + 120
    while "running" not in states():
        assert task.poll() is None, task.communicate()
        assert time.monotonic() < end, "no configuration was claimed"
        time.sleep(0.05)
    task.send_signal(number)
    out, err = task.communicate(timeout=120)
    assert (task.returncode, err) == (0, "")
    assert "threads: 1" in out
    assert "worker ends: 0 finished, 1 handed back" in out
    assert states() == {"pending"}
    (tmp_path / "asked").touch()
    assert (tmp_path / "asked").read_text() == asked
    connection.close()


@pytest.mark.parametrize(
    ("left_out", "arguments", "message"),
    [
        ("PAIRSEARCH_STORAGE_FILE", ["b1"], "PAIRSEARCH_STORAGE_FILE: is not set"),
        ("SLURM_JOB_ID", [], "usage: sbatch"),
    ],
)
def test_a_slurm_task_that_lacks_something_says_what(
    tmp_path: Path, node: dict[str, str], left_out: str, arguments: list[str], message: str
) -> None:
    del node[left_out]
    done = subprocess.run(
        ["bash", SCRIPT, *arguments], cwd=tmp_path, env=node, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert done.stdout == ""
