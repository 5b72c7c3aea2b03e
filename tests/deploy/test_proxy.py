"""The real Caddy with the shipped Caddyfile, before a real dashboard whose role may only read."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import programs
import pytest
from availability import unavailable
from stack import ROOT, Stack

CADDYFILE = ROOT / "studies" / "deploy" / "Caddyfile"
SECRET = "open sesame"  # noqa: S105 - of a proxy that lives for one test

pytestmark = pytest.mark.xdist_group("deploy")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(port: int, path: str, method: str = "GET", *, login: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    if login is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - http, as above
            return int(response.status), response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def listens(port: int, *, alive: bool) -> bool:
    assert alive, "it ended"
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def caddy() -> str:
    """Caddy's program."""
    found = shutil.which("caddy")
    if found is None:
        unavailable("caddy is not installed (https://caddyserver.com/docs/install): no proxy to test")
    return found


@pytest.fixture(scope="module")
def dashboard(stack: Stack) -> Iterator[int]:
    """The port of the `dashboard` service's command, on a database that it may only read."""
    port = free_port()
    process = stack.start(f"dashboard --host 127.0.0.1 --port {port}")
    try:
        programs.wait_for(lambda: listens(port, alive=process.is_alive()), "the dashboard")
        yield port
    finally:
        process.terminate()
        process.join(60)


@pytest.fixture(scope="module")
def proxy(caddy: str, dashboard: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the proxy."""
    folder = tmp_path_factory.mktemp("proxy")
    hashed = subprocess.run(
        [caddy, "hash-password"], input=f"{SECRET}\n", capture_output=True, text=True, check=True
    ).stdout
    users = folder / "users"
    users.write_text(f"pairsearch {hashed}")
    text = CADDYFILE.read_text(encoding="utf-8")
    if older(caddy):
        # The directive's name before Caddy 2.8; the image has a later one.
        text = text.replace("basic_auth", "basicauth")
    config = folder / "Caddyfile"
    config.write_text(text)
    port = free_port()
    process = subprocess.Popen(
        [caddy, "run", "--adapter", "caddyfile", "--config", config],
        env=os.environ
        | {
            "DASHBOARD_SITE": f"http://127.0.0.1:{port}",
            "DASHBOARD_USERS": f'"{users}"',
            "DASHBOARD_UPSTREAM": f"127.0.0.1:{dashboard}",
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        programs.wait_for(lambda: listens(port, alive=process.poll() is None), "the proxy")
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=60)


def older(caddy: str) -> bool:
    version = subprocess.run([caddy, "version"], capture_output=True, text=True, check=True).stdout
    numbers = re.search(r"(\d+)\.(\d+)", version)
    assert numbers is not None, version
    return (int(numbers[1]), int(numbers[2])) < (2, 8)


@pytest.mark.parametrize("path", ["/", "/dashboard/", "/api/studies", "/nothing"])
@pytest.mark.parametrize("login", [None, "pairsearch:", "pairsearch:wrong", f"stranger:{SECRET}"])
def test_nobody_passes_without_the_password(proxy: int, path: str, login: str | None) -> None:
    status, body = answer(proxy, path, login=login)
    assert (status, body) == (401, "")


def test_with_the_password_the_dashboard_answers(proxy: int) -> None:
    login = f"pairsearch:{SECRET}"
    status, page = answer(proxy, "/dashboard/", login=login)
    assert (status, "<html" in page.lower()) == (200, True)
    status, studies = answer(proxy, "/api/studies", login=login)
    assert (status, '"tiny"' in studies) == (200, True)


def test_the_dashboard_reads_and_cannot_write(dashboard: int) -> None:
    status, studies = answer(dashboard, "/api/studies")
    found = re.search(r'"study_id": (\d+)', studies)
    assert status == 200
    assert found is not None
    assert answer(dashboard, f"/api/studies/{found[1]}?after=0")[0] == 200
    # It refuses without falling over, and the study is still there.
    assert answer(dashboard, f"/api/studies/{found[1]}", "DELETE")[0] == 500
    assert answer(dashboard, "/api/studies") == (200, studies)
