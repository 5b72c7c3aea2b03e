"""Workers on Kubernetes, by its official client: a Job, and a config map with the files of its studies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from pairsearch.search.common.errors import PairsearchError
from pairsearch.search.engines.contract import Count, Engine, EngineError, Order, take
from pairsearch.search.engines.kubernetes_bodies import OPTIONS, Manifest, config_map
from pairsearch.search.engines.kubernetes_cluster import Cluster, RefusedError

# Has the cluster refuse fields that it does not know.
STRICT = {"field_validation": "Strict"}
# Conditions of a Job that starts no further pods.
ENDING = {"Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"}


class KubernetesJob(Engine):
    """A namespace of a cluster, `CONTEXT` or `CONTEXT/NAMESPACE` of the kubeconfig; by default its current context.

    Without a kubeconfig it is the cluster of the pod that this runs in.
    """

    name: ClassVar[str] = "k8s"

    def __init__(self, address: str | None, options: Mapping[str, str]) -> None:
        known = take(options, *OPTIONS, engine="k8s")
        self._cluster = Cluster(address, known.get("namespace"))
        # Whoever counts and ends workers later has only the address.
        super().__init__(self._cluster.address, known)

    @property
    def storage_file(self) -> str:
        """Where the secret is mounted."""
        return Manifest(self.options).storage_file

    def check(self, order: Order, workers: int) -> None:
        """Have the cluster say whether it would create all, and look for the secret where that is allowed."""
        self._create(order, workers, dry_run="All")
        name, key = Manifest(self.options).secret
        hint = f"`kubectl create secret generic {name} --from-file={key}=FILE` makes one of a file"
        try:
            found = self._cluster.ask(self._cluster.core.read_namespaced_secret, name)
        except RefusedError as error:
            if error.status == 403:
                return
            raise EngineError(f"{error}: {hint}") from None
        if key not in (found.data or {}):
            raise EngineError(f"the secret {name} of {self.address} has no key {key}: {hint}")

    def submit(self, order: Order, workers: int) -> dict[str, int]:
        """Create a Job. When it is deleted its config map is too."""
        return {self._create(order, workers): workers}

    def _create(self, order: Order, workers: int, **how: str) -> str:
        body = Manifest(self.options).job(order, workers)
        made = self._cluster.ask(self._cluster.batch.create_namespaced_job, body=body, **STRICT, **how)
        name: str = made.metadata.name
        try:
            self._cluster.ask(
                self._cluster.core.create_namespaced_config_map, body=config_map(order, made), **STRICT, **how
            )
        except PairsearchError:
            if not how:
                self.stop([name])
            raise
        return name

    def count(self, ids: Collection[str]) -> dict[str, Count]:
        """Count by the status of Jobs; where one is deleted, its pods that have not ended."""
        return {one: self._counted(one) for one in ids}

    def _counted(self, one: str) -> Count:
        try:
            job = self._cluster.ask(self._cluster.batch.read_namespaced_job, one)
        except RefusedError as error:
            if error.status != 404:
                raise
            return Count(0, sum(pod.status.phase in ("Pending", "Running") for pod in self._pods([one])))
        active, running = job.status.active or 0, job.status.ready or 0
        ending = any(each.type in ENDING and each.status == "True" for each in job.status.conditions or ())
        if not ending and not job.status.succeeded:
            # Pods that the Job has yet to create: after a failure it waits, and a quota may let it have no more. After
            # a success it creates none, as it has no number of completions.
            active = max(active, job.spec.parallelism)
        return Count(active - running, running)

    def stop(self, ids: Collection[str]) -> None:
        """Delete Jobs. Their pods have the time to hand back that stands in the template."""
        for one in ids:
            try:
                self._cluster.ask(
                    self._cluster.batch.delete_namespaced_job, one, propagation_policy="Background"
                )
            except RefusedError as error:
                if error.status != 404:
                    raise

    def last_line(self, ids: Collection[str]) -> str:
        """Return the last line in the log of the pod that failed last."""
        failed = [pod for pod in self._pods(ids) if pod.status.phase == "Failed"]
        # One that its Job has ended after others has mostly printed nothing.
        for pod in sorted(failed, key=lambda pod: pod.metadata.creation_timestamp, reverse=True):
            # What the client makes of a log depends on whether it looks like JSON.
            log = self._cluster.ask(
                self._cluster.core.read_namespaced_pod_log,
                pod.metadata.name,
                tail_lines=1,
                _preload_content=False,
            )
            if line := str(log.data.decode("utf-8", "replace").strip()):
                return line
        return ""

    def _pods(self, ids: Collection[str]) -> list[Any]:
        if not ids:
            return []
        selector = f"batch.kubernetes.io/job-name in ({','.join(ids)})"
        return list(self._cluster.ask(self._cluster.core.list_namespaced_pod, label_selector=selector).items)
