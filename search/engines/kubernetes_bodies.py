"""What Kubernetes is asked to create: the Job of `studies/deploy/worker-job.yaml`, filled in, and its config map."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pairsearch.search.common.errors import InputError
from pairsearch.search.engines.contract import Order
from pairsearch.search.setup.storage_url import FILE_VARIABLE, VARIABLE

SHIPPED = files("pairsearch.studies") / "deploy" / "worker-job.yaml"
RESOURCES = {"cpu": "cpu", "memory": "memory", "gpus": "nvidia.com/gpu"}
"""Kubernetes' names of resources by those of our options."""
OPTIONS = ("image", "namespace", "secret", "data", "template", *RESOURCES)
# Bytes that a config map may have.
LARGEST = 2**20


class Manifest:
    """The shipped Job, or a user's changed copy of it, filled in by `OPTIONS`.

    Raises:
        InputError: the copy cannot be read, or lacks what a worker needs.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options, path = options, options.get("template")
        try:
            self._job = yaml.safe_load((Path(path) if path else SHIPPED).read_text(encoding="utf-8"))
            self._spec, self._metadata = self._job["spec"], self._job["metadata"]
            pod = self._spec["template"]["spec"]
            self._container = pod["containers"][0]
            self._volumes = {one["name"]: one for one in pod["volumes"]}
            self._data, self._studies = self._volumes["data"], self._volumes["studies"]
            self._secret = self._volumes["storage"]["secret"]
            self._known = {one["name"]: one.get("value") for one in self._container["env"]}
            mounts = {one["name"]: one["mountPath"] for one in self._container["volumeMounts"]}
            self._folder = mounts["studies"]
            self.storage_file = str(self._known[FILE_VARIABLE])
            """The path at which workers find the database's URL."""
        except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
            why = (isinstance(error, OSError) and error.strerror) or f"is no such Job: {error}"
            raise InputError(
                f"--option template={path}: expected a copy of worker-job.yaml, with its container, its volumes and "
                f"their mounts: {why}"
            ) from None

    @property
    def secret(self) -> tuple[str, str]:
        """The name of the secret, and the key in it that has the database's URL."""
        name = self._options.get("secret", self._secret["secretName"])
        return name, PurePosixPath(self.storage_file).name

    def job(self, order: Order, workers: int) -> dict[str, Any]:
        """Return the Job of an order, by a name that no other has; raises InputError where its image is not known."""
        options = self._options
        if not options.keys() & {"image", "template"}:
            raise InputError(
                "--on k8s needs --option image=REGISTRY/NAME:TAG, an image that the cluster can pull: "
                "`pairsearch deploy` writes its Dockerfile"
            )
        name = re.sub(r"[^a-z0-9]+", "-", order.name.lower()).strip("-")
        self._metadata["name"] = name = f"{name}-{uuid.uuid4().hex[:8]}"
        # The cluster gives up where our own fleet would, and does not start what always fails for days.
        self._spec |= {"parallelism": workers, "backoffLimit": workers}
        if "image" in options:
            self._container["image"] = options["image"]
        # Kubernetes would put a variable in the place of $(NAME).
        self._container["args"] = [word.replace("$", "$$") for word in order.words]
        # The pod's own paths come before those of this machine, and its secret before any URL.
        others = {
            name: value for name, value in order.environment.items() if name not in (*self._known, VARIABLE)
        }
        self._container["env"] += [{"name": name, "value": value} for name, value in others.items()]
        self._container["workingDir"] = self._folder
        # It is not optional, so that pods wait for it.
        items = [{"key": key, "path": path} for key, path in _keys(order).items()]
        self._studies["configMap"] = {"name": name, "items": items}
        self._secret["secretName"], _ = self.secret
        if "data" in options:
            self._data.clear()
            self._data.update(name="data", persistentVolumeClaim={"claimName": options["data"]})
        amounts = {RESOURCES[one]: options[one] for one in RESOURCES if one in options}
        for kind in ("requests", "limits"):
            self._container.setdefault("resources", {}).setdefault(kind, {}).update(amounts)
        return dict(self._job)


def config_map(order: Order, job: Any) -> dict[str, Any]:
    """Return the config map of an order's files; raises InputError where it would be too large.

    It belongs to the created Job, and is deleted with it.
    """
    size = sum(map(len, order.files.values()))
    if size > LARGEST:
        raise InputError(
            f"--on k8s: the files that travel with the studies have {size} bytes, and a config map takes {LARGEST}: "
            "put large ones into the image, or into the volume claim that --option data=NAME mounts"
        )
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job.metadata.name, "uid": job.metadata.uid}
    content = {key: base64.b64encode(order.files[path]).decode("ascii") for key, path in _keys(order).items()}
    labels = job.metadata.labels or {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": job.metadata.name, "labels": labels, "ownerReferences": [owner]},
        "binaryData": content,
    }


def _keys(order: Order) -> dict[str, str]:
    """Return paths by their keys in the config map, where no slash may be."""
    return {f"file-{number}": path for number, path in enumerate(order.files)}
