"""A stub of Kubernetes' API server on loopback, for there is no cluster here.

It answers what the engine asks, refuses bodies that the published schema does not have, and acts as the controller of
Jobs: pods are local processes, which see volumes as folders of their own.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import kubernetes_validate
import programs
import pytest
import yaml

from pairsearch.search.engines.contract import Engine
from pairsearch.search.engines.kubernetes_job import KubernetesJob

IMAGE = "registry.example.org/pairsearch:latest"
PATHS = re.compile(r"/(?:api/v1|apis/batch/v1)/namespaces/([^/]+)/(\w+)(?:/([^/]+))?(?:/log)?")
KINDS = {"jobs": "Job", "configmaps": "ConfigMap"}
LABEL = "batch.kubernetes.io/job-name"
REFUSED = {"namespace": "nowhere"}, '^Kubernetes refused: namespaces "nowhere" not found$'


@contextmanager
def engine(folder: Path) -> Iterator[Callable[..., Engine]]:
    """Start it for the block, with workers that wait for a database; yields what makes an `Engine` of options."""
    with cluster(folder):
        yield made


def made(address: str | None = None, **options: str) -> Engine:
    """The engine of a cluster."""
    return KubernetesJob(address, {"image": IMAGE} | options)


@contextmanager
def cluster(folder: Path) -> Iterator[Stub]:
    """Start it for the block, in which KUBECONFIG names it. Processes of pods have ended when this returns."""
    programs.together(time.sleep, 1, 0)  # what pods are forked from imports for seconds
    stub = Stub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, stub))
    server.daemon_threads = True
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(server.server_port)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(2) as pool:
        patched.setenv("KUBECONFIG", str(folder / "kubeconfig"))
        pool.submit(server.serve_forever, 0.05)
        controller = pool.submit(stub.control)
        try:
            yield stub
        finally:
            server.shutdown()
            server.server_close()
            stub.ended.set()
            controller.result()
            for pod in stub.pods:
                pod.kill()


def kubeconfig(port: int) -> dict[str, Any]:
    """The configuration of a client, with contexts as clouds name them too."""
    context = {"cluster": "stub", "user": "tester"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stub", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "tester", "user": {"token": "a-token"}}],
        "contexts": [
            {"name": "arn:aws:eks:north:1:cluster/stub", "context": context | {"namespace": "science"}},
            {"name": "plain", "context": context},
        ],
        "current-context": "arn:aws:eks:north:1:cluster/stub",
    }


class Refused(Exception):  # noqa: N818
    """What the API answers in place of a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def body(self) -> dict[str, Any]:
        """A Status."""
        return {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": str(self), "code": self.code
        }  # fmt: skip


@dataclass(eq=False)
class Pod:
    """A pod of a Job."""

    job: dict[str, Any]
    name: str
    folder: Path
    created: float = field(default_factory=time.time)
    process: Any = None
    deadline: float | None = None

    @property
    def phase(self) -> str:
        """As the API names it."""
        code = None if self.process is None else self.process.exitcode
        if code is None:
            return "Pending" if self.process is None else "Running"
        return "Failed" if code else "Succeeded"

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.phase in ("Pending", "Running")

    def start(self, mounts: dict[str, dict[str, bytes]]) -> None:
        """Start its worker, with files by mount path."""
        (container,) = self.job["spec"]["template"]["spec"]["containers"]
        for path, files in mounts.items():
            self.inside(path).mkdir(parents=True)
            for name, content in files.items():
                self.inside(path, name).parent.mkdir(parents=True, exist_ok=True)
                self.inside(path, name).write_bytes(content)
        environment = {
            one["name"]: str(self.inside(one["value"]))
            if one["value"].startswith(tuple(mounts))
            else one["value"]
            for one in container["env"]
        }
        words = [word.replace("$$", "$") for word in container["args"]]
        self.process = programs.start_forked(
            self.inside(container["workingDir"]), *words, streams=("out", "out"), **environment
        )

    def inside(self, *path: str) -> Path:
        """Where a path of the pod is on this machine."""
        return self.folder / "/".join(path).lstrip("/")

    def log(self) -> str:
        """What it has printed."""
        (container,) = self.job["spec"]["template"]["spec"]["containers"]
        return self.inside(container["workingDir"], "out").read_text(encoding="utf-8")

    def stop(self) -> None:
        """Have it end within its grace period."""
        grace = self.job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        self.deadline = self.deadline or time.monotonic() + grace
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.join()

    def view(self) -> dict[str, Any]:
        """As the API shows it."""
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.created))
        labels = {LABEL: self.job["metadata"]["name"]}
        return {
            "metadata": {"name": self.name, "creationTimestamp": created, "labels": labels},
            "status": {"phase": self.phase},
        }


class Stub:
    """A cluster.

    Attributes:
        secrets: contents by name and key; one has the URL of a database where nobody answers.
        slots: pods that run at once.
        paused: whether its controller creates no pods.
        forbidden: what its user may not do, such as `create jobs`.
        requests: all that it was sent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = {"pairsearch": {"storage": b"postgresql://nobody@127.0.0.1:1/nowhere"}}
        self.slots, self.paused = 8, False
        self.forbidden: set[str] = set()
        self.requests: list[str] = []
        self.stored: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.pods: list[Pod] = []
        self.lock, self.ended = threading.RLock(), threading.Event()

    def jobs(self) -> list[dict[str, Any]]:
        """Those that are not deleted."""
        return [one for (kind, *_), one in self.stored.items() if kind == "jobs"]

    def answer(self, verb: str, path: str, query: dict[str, str], body: Any) -> Any:
        """What the API answers."""
        found = PATHS.fullmatch(path)
        assert found is not None, path
        namespace, kind, name = found.groups()
        if f"{verb} {kind}" in self.forbidden:
            raise Refused(403, f'{kind} is forbidden: User "tester" cannot {verb} resource "{kind}"')
        if namespace not in ("science", "default"):
            raise Refused(404, f'namespaces "{namespace}" not found')
        if verb == "create":
            return self.create(kind, namespace, body, query)
        if path.endswith("/log"):
            (pod,) = [one for one in self.pods if one.name == name]
            return "\n".join(pod.log().splitlines()[-int(query["tailLines"]) :]).encode() + b"\n"
        if kind == "pods":
            names = re.fullmatch(rf"{re.escape(LABEL)} in \((.+)\)", query["labelSelector"])
            assert names is not None
            chosen = [
                one
                for one in self.pods
                if one.job["metadata"]["namespace"] == namespace
                and one.job["metadata"]["name"] in names[1].split(",")
            ]
            return {"kind": "PodList", "apiVersion": "v1", "items": [one.view() for one in chosen]}
        if kind == "secrets" and name in self.secrets:
            data = {key: base64.b64encode(content).decode() for key, content in self.secrets[name].items()}
            return {"kind": "Secret", "apiVersion": "v1", "data": data}
        if (kind, namespace, name) not in self.stored:
            raise Refused(404, f'{kind} "{name}" not found')
        if verb == "get":
            return self.stored[kind, namespace, name]
        assert query == {"propagationPolicy": "Background"}, query
        return self.delete(self.stored.pop((kind, namespace, name)))

    def create(
        self, kind: str, namespace: str, body: dict[str, Any], query: dict[str, str]
    ) -> dict[str, Any]:
        """Store an object if it is valid."""
        assert query.pop("fieldValidation") == "Strict"
        name = body["metadata"]["name"]
        try:
            kubernetes_validate.validate(body, kubernetes_validate.utils.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            raise Refused(422, f'{KINDS[kind]} "{name}" is invalid: {error.message}') from None
        if why := next(mistakes(body), ""):
            raise Refused(422, f'{KINDS[kind]} "{name}" is invalid: {why}')
        if (kind, namespace, name) in self.stored:
            raise Refused(409, f'{kind} "{name}" already exists')
        body["metadata"] |= {"uid": str(uuid.uuid4()), "namespace": namespace}
        if query != {"dryRun": "All"}:
            assert not query, query
            self.stored[kind, namespace, name] = body | ({"status": {}} if kind == "jobs" else {})
        return body

    def delete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Have what belongs to a deleted object end."""
        uid = body["metadata"]["uid"]
        for key, one in list(self.stored.items()):
            if any(owner["uid"] == uid for owner in one["metadata"].get("ownerReferences", ())):
                del self.stored[key]
        for pod in self.pods:
            if pod.job is body:
                pod.stop()
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def control(self) -> None:
        """Do a controller's work until the end."""
        while not self.ended.wait(0.05):
            with self.lock:
                for job in self.jobs():
                    self.reconcile(job)
                for pod in list(self.pods):
                    self.keep(pod)

    def reconcile(self, job: dict[str, Any]) -> None:
        """Create pods that a Job is to have, and write its status."""
        spec, name = job["spec"], job["metadata"]["name"]
        mine = [pod for pod in self.pods if pod.job is job]
        alive = [pod for pod in mine if pod.alive]
        failed = [pod for pod in mine if pod.phase == "Failed"]
        succeeded = sum(pod.phase == "Succeeded" for pod in mine)
        conditions = job["status"].get("conditions", [])
        bad = any(pod.process.exitcode == 2 for pod in failed)
        if conditions:
            pass
        elif bad or len(failed) > spec["backoffLimit"]:
            conditions.append({"type": "Failed", "status": "True"})
            for pod in alive:
                pod.stop()
        elif succeeded and not alive:
            conditions.append({"type": "Complete", "status": "True"})
        elif not succeeded and not self.paused:
            for _ in range(spec["parallelism"] - len(alive)):
                pod = Pod(job, f"{name}-{uuid.uuid4().hex[:5]}", self.folder / "pods" / uuid.uuid4().hex)
                alive.append(pod)
                self.pods.append(pod)
        ready = sum(pod.phase == "Running" for pod in alive)
        counts = {"active": len(alive), "succeeded": succeeded, "failed": len(failed)}
        known = {key: number for key, number in counts.items() if number}
        job["status"] = {"conditions": conditions, "ready": ready} | known

    def keep(self, pod: Pod) -> None:
        """Start a pod where there is room, or see it to its end."""
        if pod.deadline is not None:
            if time.monotonic() > pod.deadline:
                pod.kill()
            if pod.process is None or (not pod.alive and pod.job not in self.jobs()):
                self.pods.remove(pod)
        elif pod.process is None and sum(one.phase == "Running" for one in self.pods) < self.slots:
            mounts = self.mounts(pod.job)
            if mounts is not None:
                pod.start(mounts)

    def mounts(self, job: dict[str, Any]) -> dict[str, dict[str, bytes]] | None:
        """Files by mount path and name; None where one of the volumes is not there yet."""
        pod = job["spec"]["template"]["spec"]
        files: dict[str, dict[str, bytes]] = {}
        for volume in pod["volumes"]:
            files[volume["name"]] = {}
            if secret := volume.get("secret"):
                if secret["secretName"] not in self.secrets:
                    return None
                files[volume["name"]] = self.secrets[secret["secretName"]]
            if chosen := volume.get("configMap"):
                found = self.stored.get(("configmaps", job["metadata"]["namespace"], chosen["name"]))
                if found is None:
                    return None
                for item in chosen["items"]:
                    files[volume["name"]][item["path"]] = base64.b64decode(found["binaryData"][item["key"]])
        return {one["mountPath"]: files[one["name"]] for one in pod["containers"][0]["volumeMounts"]}


def mistakes(body: dict[str, Any]) -> Iterator[str]:
    """What the API refuses although the schema has it."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", body["metadata"]["name"]):
        yield "metadata.name: Invalid value: a lowercase RFC 1123 label must consist of ..."
    if body["kind"] == "ConfigMap":
        for key in body["binaryData"]:
            if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key):
                yield f"data[{key}]: Invalid value: a valid config key must consist of ..."
        if sum(map(len, map(base64.b64decode, body["binaryData"].values()))) > 2**20:
            yield "Too long: must have at most 1048576 bytes"
        return
    pod = body["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for name in {one["name"] for one in container["volumeMounts"]} - {one["name"] for one in pod["volumes"]}:
        yield f"volumeMounts[0].name: Not found: {name}"
    for amounts in container["resources"].values():
        for resource, amount in amounts.items():
            if not re.fullmatch(r"[0-9.]+(m|k|[KMGT]i?)?", amount):
                yield f'resources[{resource}]: Invalid value: "{amount}": quantities must match ...'
    for volume in pod["volumes"]:
        for item in volume.get("configMap", {}).get("items", ()):
            if item["path"].startswith("/") or ".." in item["path"].split("/"):
                yield f'configMap.items[0].path: Invalid value: "{item["path"]}": must be a relative path'


class Handler(BaseHTTPRequestHandler):
    """Hands requests to a stub."""

    protocol_version = "HTTP/1.1"
    VERBS = {"GET": "get", "POST": "create", "DELETE": "delete"}  # noqa: RUF012

    def __init__(self, stub: Stub, *arguments: Any) -> None:
        self.stub = stub
        super().__init__(*arguments)

    def serve(self) -> None:
        """Answer one."""
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        url = urlsplit(self.path)
        with self.stub.lock:
            self.stub.requests.append(f"{self.command} {self.path} {sent}")
            try:
                code, answer = 200, self.stub.answer(
                    self.VERBS[self.command], url.path, dict(parse_qsl(url.query)), json.loads(sent or "null")
                )  # fmt: skip
            except Refused as refused:
                code, answer = refused.code, refused.body
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, bytes) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = serve  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Print nothing."""
