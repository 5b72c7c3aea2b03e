"""A namespace of a Kubernetes cluster, found by the kubeconfig, and what is asked of its API."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from pydantic import ValidationError

from pairsearch.search.common.errors import InputError
from pairsearch.search.engines.contract import EngineError

IN_CLUSTER = "in-cluster"
"""The cluster of the pod that this runs in, in place of a context's name."""
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# Seconds to connect, and to wait for an answer.
TIMEOUT = (10.0, 30.0)


class RefusedError(EngineError):
    """The API's own words."""

    def __init__(self, error: client.ApiException) -> None:
        self.status: int = error.status
        try:
            message = yaml.safe_load(error.body or "")["message"]  # JSON is YAML
        except (yaml.YAMLError, LookupError, TypeError):
            message = error.body or error.reason
        super().__init__(f"Kubernetes refused: {message}")


class Cluster:
    """A namespace of a cluster.

    Args:
        given: `CONTEXT` or `CONTEXT/NAMESPACE`; None for the kubeconfig's current context, or where there is no
            kubeconfig for the cluster of the pod that this runs in.
        namespace: another one than the address or its context has.

    Raises:
        InputError: there is no such context, or no cluster at all.
    """

    def __init__(self, given: str | None, namespace: str | None = None) -> None:
        configuration = client.Configuration()
        context, own = _found(given, configuration)
        self._namespace = namespace or own
        self.address = f"{context}/{self._namespace}"
        configuration.retries = False  # the fleet asks again
        api = client.ApiClient(configuration)
        self.batch, self.core = client.BatchV1Api(api), client.CoreV1Api(api)

    def ask(self, call: Callable[..., Any], *name: str, **more: Any) -> Any:
        """Call a function of the API for this namespace, and return what it does.

        Raises:
            InputError: the client refused what it was to send, which a user's template had.
            EngineError: the API refused (`RefusedError`), or did not answer.
        """
        try:
            return call(*name, namespace=self._namespace, _request_timeout=TIMEOUT, **more)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"--on k8s: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except client.ApiException as error:
            raise RefusedError(error) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise EngineError(f"Kubernetes at {self.address} does not answer: {error}") from None


def _found(address: str | None, configuration: client.Configuration) -> tuple[str, str]:
    """Return context and namespace of an address; how to reach them goes into the configuration."""
    file = os.environ.get("KUBECONFIG")
    try:
        listed, current = config.list_kube_config_contexts(file)
        contexts = {one["name"]: one["context"].get("namespace", "default") for one in listed}
        given = address or current["name"]
    except (config.ConfigException, yaml.YAMLError) as why:
        try:
            config.load_incluster_config(configuration)
            contexts = {IN_CLUSTER: NAMESPACE_FILE.read_text(encoding="utf-8").strip()}
        except (config.ConfigException, OSError):
            raise InputError(
                f"--on k8s: neither KUBECONFIG nor ~/.kube/config names a cluster: {why}"
            ) from None
        given = address or IN_CLUSTER
    # The names that some clouds give have slashes.
    context, _, namespace = (given, "", "") if given in contexts else given.rpartition("/")
    if context not in contexts:
        raise InputError(
            f"--at {given}: no such context: expected CONTEXT or CONTEXT/NAMESPACE, of {', '.join(contexts)}"
        )
    if context != IN_CLUSTER:
        config.load_kube_config(file, context, configuration)
    return context, namespace or contexts[context]
