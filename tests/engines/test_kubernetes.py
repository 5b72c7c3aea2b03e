"""Workers on Kubernetes: what the API is asked for, by its published schemas, and what it answers, by a stub of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import certifi
import kubernetes_api
import kubernetes_validate
import programs
import promise
import pytest
import yaml
from gathered import PASSWORD
from kubernetes_api import IMAGE, Stub, made

from pairsearch.search.common.errors import InputError
from pairsearch.search.database.connection import open_database
from pairsearch.search.database.urls import parse_url
from pairsearch.search.engines import kubernetes_cluster
from pairsearch.search.engines.contract import Count, EngineError, Order
from pairsearch.search.engines.kubernetes_bodies import LARGEST, SHIPPED, Manifest, config_map
from pairsearch.search.engines.kubernetes_job import KubernetesJob
from pairsearch.search.engines.orders import storage_for

CONTEXT = "arn:aws:eks:north:1:cluster/stub"
FILES = {"own/wine.toml": b'name = "wine"\n', "own/wine.py": b"\xff"}
MADE = SimpleNamespace(metadata=SimpleNamespace(name="one", uid="4711", labels={"of": "us"}))


def ordered(*words: str, **changes: Any) -> Order:
    """An order for workers."""
    return Order(
        **{"words": words or ("worker", "b1"), "environment": {}, "folder": Path(), "files": FILES} | changes
    )


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    """A cluster of the test's own."""
    with kubernetes_api.cluster(tmp_path) as found:
        yield found


def test_bodies_keep_to_every_published_schema() -> None:
    options = {
        "image": IMAGE, "secret": "other", "data": "claim", "cpu": "500m", "memory": "3Gi", "gpus": "1"
    }  # fmt: skip
    bodies = [
        yaml.safe_load(SHIPPED.read_text(encoding="utf-8")),
        Manifest({"image": IMAGE}).job(ordered(environment={"OF": "ours"}), 3),
        Manifest(options).job(ordered(), 3),
        config_map(ordered(), MADE),
    ]
    # The schemas before want conditions of pods in every rule, as no server does.
    versions = {one for one in kubernetes_validate.utils.all_versions() if one >= "1.29"}
    assert len(versions) > 5
    for version in versions:
        for body in bodies:
            kubernetes_validate.validate(body, version, strict=True)


def test_a_job_is_the_shipped_one_with_an_order_in_it() -> None:
    shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    environment = {
        "PAIRSEARCH_STORAGE_FILE": "/srv/storage",
        "PAIRSEARCH_STORAGE": "postgresql://me:open-sesame@here/db",
        "PAIRSEARCH_DATA": "/srv/data",
        "MKL_NUM_THREADS": "1",
    }
    order = ordered(
        "worker", "own/wine.toml", "--set", "x=$(HOME)", environment=environment, name="pairsearch-My_1."
    )
    options = {"image": "mine:1", "secret": "other", "data": "claim", "memory": "3Gi", "gpus": "2"}
    manifest = Manifest(options)
    job = manifest.job(order, 3)
    name = job["metadata"]["name"]
    assert re.fullmatch("pairsearch-my-1-[0-9a-f]{8}", name)
    assert name != Manifest(options).job(order, 3)["metadata"]["name"]
    assert manifest.secret == ("other", "storage")
    # What is to be changed, changed by hand.
    shipped["metadata"]["name"] = name
    shipped["spec"] |= {"parallelism": 3, "backoffLimit": 3}
    pod = shipped["spec"]["template"]["spec"]
    container, (storage, data, studies, _) = pod["containers"][0], pod["volumes"]
    container |= {
        "image": "mine:1", "args": ["worker", "own/wine.toml", "--set", "x=$$(HOME)"], "workingDir": "/studies"
    }  # fmt: skip
    container["env"].append({"name": "MKL_NUM_THREADS", "value": "1"})
    container["resources"] = {
        "requests": {"cpu": "1", "memory": "3Gi", "nvidia.com/gpu": "2"},
        "limits": {"cpu": "1", "memory": "3Gi", "nvidia.com/gpu": "2"},
    }
    storage["secret"]["secretName"] = "other"
    del data["emptyDir"]
    data["persistentVolumeClaim"] = {"claimName": "claim"}
    items = [{"key": "file-0", "path": "own/wine.toml"}, {"key": "file-1", "path": "own/wine.py"}]
    studies["configMap"] = {"name": name, "items": items}
    assert job == shipped
    assert "open-sesame" not in yaml.safe_dump([job, config_map(order, MADE)])


def test_a_copy_of_the_job_brings_what_options_do_not(stub: Stub, tmp_path: Path) -> None:
    copy, text = tmp_path / "mine.yaml", SHIPPED.read_text(encoding="utf-8")
    copy.write_text(text.replace("restartPolicy:", "nodeSelector: {disk: ssd}\n      restartPolicy:"))
    engine = KubernetesJob(None, {"template": str(copy)})
    engine.check(ordered(), 1)
    assert '"nodeSelector": {"disk": "ssd"}' in stub.requests[-3]
    copy.write_text(text.replace("restartPolicy:", "nodeSelektor: {disk: ssd}\n      restartPolicy:"))
    with pytest.raises(
        InputError,
        match=r"^--on k8s: body\.spec\.template\.spec\.nodeSelektor: Extra inputs are not permitted$",
    ):
        engine.check(ordered(), 1)
    for broken, why in (("[", "is no such Job: while"), ("kind: Pod", "is no such Job: 'spec'")):
        copy.write_text(broken)
        with pytest.raises(InputError, match=f"^--option template={copy}: expected a copy .*: {why}"):
            _ = engine.storage_file
    with pytest.raises(InputError, match="No such file"):
        _ = made(template="nowhere.yaml").storage_file


def test_what_is_missing_is_said_in_a_line(stub: Stub) -> None:
    other = {"secret": "other"}
    with pytest.raises(InputError, match="k8s has no such option: expected one of image, namespace, secret"):
        made(partition="long")
    with pytest.raises(
        InputError, match=r"cannot share sqlite:///here\.db: give the URL of a PostgreSQL server"
    ):
        storage_for(made(), parse_url("sqlite:///here.db"))
    with pytest.raises(InputError, match="needs --option image="):
        KubernetesJob(None, {}).check(ordered(), 1)
    with pytest.raises(InputError, match=f"have {LARGEST + 1} bytes, and a config map takes {LARGEST}"):
        made().submit(ordered(files={"large": bytes(LARGEST + 1)}), 1)
    made().check(ordered(files={"large": bytes(LARGEST)}), 1)
    with pytest.raises(
        EngineError, match=r'secrets "other" not found: `kubectl create secret generic other --from'
    ):
        made(**other).check(ordered(), 1)
    stub.secrets["other"] = {"password": b"open-sesame"}
    with pytest.raises(EngineError, match=r"the secret other of .*/science has no key storage: `kubectl"):
        made(**other).check(ordered(), 1)
    # Whoever may not read secrets may use them.
    stub.forbidden = {"get secrets"}
    made(**other).check(ordered(), 1)
    with pytest.raises(
        EngineError, match=r'Job .* is invalid: resources.cpu.: Invalid value: "much": quantities must'
    ):
        made(cpu="much").check(ordered(), 1)
    # A Job whose config map is refused does not stay.
    stub.forbidden = {"create configmaps"}
    with pytest.raises(
        EngineError, match=r'^Kubernetes refused: configmaps is forbidden: User "tester" cannot create'
    ):
        made().submit(ordered(), 1)
    assert not stub.stored


def test_an_address_is_a_context_and_a_namespace(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made().address == f"{CONTEXT}/science"
    assert made(namespace="default").address == f"{CONTEXT}/default"
    assert made("plain").address == "plain/default"
    assert made(f"{CONTEXT}/default").address == f"{CONTEXT}/default"
    assert not made().local
    (one,) = made("plain").submit(ordered(), 2)
    # Whoever asks later has the address alone.
    assert KubernetesJob("plain/default", {}).count([one])[one].alive == 2
    assert KubernetesJob(CONTEXT, {}).count([one])[one].alive == 0
    KubernetesJob("plain/default", {}).stop([one])
    assert not stub.stored
    with pytest.raises(InputError, match=f"^--at other: no such context: expected .*, of {CONTEXT}, plain$"):
        made("other")
    configured = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    configured["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(configured))
    with pytest.raises(
        EngineError, match=f"^Kubernetes at {CONTEXT}/science does not answer: .*Connection refused"
    ):
        made().count([one])
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    with pytest.raises(
        InputError, match=r"^--on k8s: neither KUBECONFIG nor ~/.kube/config names a cluster: "
    ):
        made()


def test_a_pod_finds_its_own_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("token", "ca.crt", "namespace"):
        (tmp_path / name).write_text("science\n")
    where = "kubernetes.config.incluster_config.SERVICE"
    monkeypatch.setattr(f"{where}_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(f"{where}_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(kubernetes_cluster, "NAMESPACE_FILE", tmp_path / "namespace")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    shutil.copy(certifi.where(), tmp_path / "ca.crt")
    assert made().address == "in-cluster/science"
    assert made("in-cluster/other").address == "in-cluster/other"


def test_pods_are_counted_from_their_order_to_their_end(stub: Stub) -> None:
    engine = made()
    stub.paused = True
    (one,) = engine.submit(ordered("worker", "b1", "--patience", "600"), 3)
    assert engine.count([one]) == {one: Count(3, 0)}, "a quota may keep a Job from creating pods"
    stub.paused, stub.slots = False, 2
    programs.wait_for(lambda: engine.count([one])[one] == Count(1, 2), "two that run and one that waits")
    killed = next(pod for pod in stub.pods if pod.phase == "Running")
    os.kill(killed.process.pid, signal.SIGKILL)
    programs.wait_for(lambda: len(stub.pods) == 4, "the successor of one that was killed")
    assert engine.count([one])[one].alive == 3
    # One that ends well has no successor.
    ended = next(pod for pod in stub.pods if pod.phase == "Running")
    ended.stop()
    programs.wait_for(lambda: engine.count([one])[one].alive == 2, "the end of one")
    assert len(stub.pods) == 4
    engine.stop([one])
    assert not stub.stored
    programs.wait_for(lambda: engine.count([one])[one].alive == 0, "the end of those that ran")
    assert not stub.pods


def test_a_job_that_fails_starts_no_more_and_its_last_line_is_known(stub: Stub) -> None:
    engine = made()
    (one,) = engine.submit(ordered("worker", "--no-such-option"), 2)
    programs.wait_for(lambda: engine.count([one])[one].alive == 0, "the end of the Job")
    assert "No such option: --no-such-option" in engine.last_line([one])
    stub.forbidden = {"get pods"}
    with pytest.raises(EngineError, match="pods is forbidden"):
        engine.last_line([one])


def test_a_study_is_searched_and_evaluated_on_kubernetes(
    stub: Stub, tmp_path: Path, postgresql_url: str
) -> None:
    stub.secrets["pairsearch"] = {"storage": postgresql_url.encode()}
    file = promise.create_own(tmp_path / "study", postgresql_url, rest=0)
    there = file.name, "--on", "k8s", "--workers", "2", "--option", f"image={IMAGE}"
    told = {"KUBECONFIG": os.environ["KUBECONFIG"], "PAIRSEARCH_STORAGE": postgresql_url}
    said = []
    for command in (("run", *there), ("evaluate", *there, "--top", "1"), ("status", "climb")):
        ended = programs.run(file.parent, *command, **told)
        assert (ended.code, ended.err) == (0, ""), ended
        said.append(ended.out)
    assert "k8s: 2 workers submitted (pairsearch-climb-" in said[0]
    assert f"climb: k8s at {CONTEXT}/science: 0 workers pending, 0 running, 4 ended" in said[2]
    assert not [pod for pod in stub.pods if pod.alive]
    database = open_database(postgresql_url)
    promise.assert_kept(database, points=promise.OWN_POINTS)
    database.close()
    assert PASSWORD in postgresql_url
    assert PASSWORD not in "".join([*said, *stub.requests, *(pod.log() for pod in stub.pods)])
