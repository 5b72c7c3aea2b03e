"""What the compose files promise about who gets in, what is kept, and in which order services start."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from stack import ROOT, VARIABLE, merged, parsed, resolved

PROGRAM = ("create", "worker", "dashboard", "evaluate")
PAGE = ROOT / "docs" / "how-to" / "compose.md"
Services = dict[str, dict[str, Any]]


def seconds(duration: str) -> int:
    assert duration.endswith("s"), duration
    return int(duration.removesuffix("s"))


def secrets_of(service: dict[str, Any]) -> set[str]:
    return {entry if isinstance(entry, str) else entry["source"] for entry in service.get("secrets", [])}


def test_these_are_the_services(services: Services) -> None:
    assert set(services) == {"postgres", "proxy", *PROGRAM}


def test_the_database_publishes_no_port_and_is_on_an_internal_network_alone(
    compose: dict[str, Any], services: Services
) -> None:
    assert "ports" not in services["postgres"]
    assert services["postgres"]["networks"] == ["database"]
    assert compose["networks"]["database"]["internal"] is True


def test_the_dashboard_is_reached_through_the_proxy_alone(
    compose: dict[str, Any], services: Services
) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert services["proxy"]["ports"] == ["127.0.0.1:8080:8080"]
    assert services["dashboard"]["networks"] == ["database", "dashboard"]
    assert compose["networks"]["dashboard"]["internal"] is True
    assert [name for name, s in services.items() if "dashboard" in s["networks"]] == ["dashboard", "proxy"]
    assert "database" not in services["proxy"]["networks"]
    assert "--host 0.0.0.0 --port 8080" in services["dashboard"]["command"]


def test_the_host_has_no_address_in_an_internal_network(compose: dict[str, Any]) -> None:
    for name in ("database", "dashboard"):
        options = compose["networks"][name]["driver_opts"]
        assert options == {"com.docker.network.bridge.inhibit_ipv4": "true"}


def test_only_those_that_must_are_on_a_network_that_leads_outside(services: Services) -> None:
    assert [name for name, service in services.items() if "outside" in service["networks"]] == [
        "create",
        "proxy",
    ]


def test_the_database_counts_as_healthy_only_when_it_listens_by_tcp(services: Services) -> None:
    assert " --host=127.0.0.1 " in services["postgres"]["healthcheck"]["test"][1]


def test_services_start_in_order(services: Services) -> None:
    assert services["create"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("worker", "dashboard", "evaluate"):
        assert services[name]["depends_on"] == {"create": {"condition": "service_completed_successfully"}}


def test_evaluation_starts_only_when_asked_for(services: Services) -> None:
    assert [name for name, service in services.items() if "profiles" in service] == ["evaluate"]


def test_database_and_data_are_kept_in_named_volumes(compose: dict[str, Any], services: Services) -> None:
    assert "database:/var/lib/postgresql/data" in services["postgres"]["volumes"]
    assert set(compose["volumes"]) == {"database", "data", "studies"}
    assert services["create"]["volumes"] == ["data:/data", "studies:/studies:ro"]
    for name in ("worker", "evaluate"):
        assert services[name]["volumes"] == ["data:/data:ro", "studies:/studies:ro"]


def test_a_folder_with_a_user_s_studies_is_read_by_those_that_train_and_by_no_other(
    compose_text: str,
) -> None:
    settings = {"STUDIES": "/studies/wine.toml", "STUDIES_FOLDER": "./mine", "PACKAGES": "pandas xgboost"}
    given = resolved(parsed(compose_text), settings)["services"]
    readers = [name for name, service in given.items() if "./mine:/studies:ro" in service.get("volumes", [])]
    assert readers == ["create", "worker", "evaluate"]
    assert all(given[name]["environment"]["PAIRSEARCH_STUDIES"] == "/studies/wine.toml" for name in readers)
    assert given["create"]["build"]["args"]["PACKAGES"] == "pandas xgboost"


def test_a_command_has_no_variable(compose_text: str) -> None:
    """Docker Compose splits a command after it has filled variables in, podman-compose before."""
    commands = [service.get("command", "") for service in parsed(compose_text)["services"].values()]
    assert not any("$" in command for command in commands)


def test_compiled_kernels_are_shared_with_no_other_container(services: Services) -> None:
    for name in PROGRAM:
        assert services[name]["environment"]["NUMBA_CACHE_DIR"] == "/cache"
        assert "/cache:uid=10001,gid=10001,mode=0700" in services[name]["tmpfs"]


def test_workers_can_be_scaled(services: Services) -> None:
    assert not {"container_name", "ports", "hostname"} & set(services["worker"])


def test_a_worker_has_more_time_to_stop_than_an_epoch_takes(services: Services) -> None:
    assert seconds(services["worker"]["stop_grace_period"]) >= 30
    assert services["worker"]["init"] is True, "signals reach a first process only if it asked for them"


def test_a_worker_that_failed_starts_again_and_one_that_is_done_does_not(services: Services) -> None:
    assert services["worker"]["restart"].startswith("on-failure")
    assert services["create"]["restart"] == "no"


def test_each_service_is_given_the_secrets_of_its_own_role_and_no_other(
    compose: dict[str, Any], services: Services
) -> None:
    assert {name: secrets_of(service) for name, service in services.items()} == {
        "postgres": {"owner_password", "worker_password", "reader_password"},
        "create": {"owner_storage"},
        "worker": {"worker_storage"},
        "evaluate": {"worker_storage"},
        "dashboard": {"reader_storage"},
        "proxy": {"dashboard_users"},
    }
    assert set().union(*map(secrets_of, services.values())) == set(compose["secrets"])
    for name, secret in compose["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}


def test_no_secret_is_in_the_environment_a_command_line_or_the_files(
    compose_text: str, services: Services
) -> None:
    for name in PROGRAM:
        stated = services[name]["environment"]
        assert stated["PAIRSEARCH_STORAGE_FILE"] == "/run/secrets/storage"
        assert not {"PAIRSEARCH_STORAGE", "PGPASSWORD"} & set(stated)
        assert "storage" not in services[name]["command"]
    assert "POSTGRES_PASSWORD" not in services["postgres"]["environment"]
    literal = re.compile(r"^[ ]*\w*(PASSWORD|SECRET|TOKEN)[:=][ ]*[^ \n]", re.MULTILINE)
    for name in ("docker-compose.yml", "docker-compose.tls.yml", "Dockerfile", ".env.example"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not literal.search(text)
        assert not re.search(r"://[^/\s:@]+:[^@\s]+@", text), "a URL with a password"


def test_containers_cannot_gain_rights_or_change_their_files(services: Services) -> None:
    for name, service in services.items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "/tmp" in service["tmpfs"]  # noqa: S108 - a path inside the container
        assert not {"privileged", "pid", "network_mode"} & set(service)
        # Caddy's program file asks for it and does not start without; a process that is not root does not get it.
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert services["postgres"]["user"] == "postgres"
    assert services["proxy"]["user"] == "10001:10001"


def test_the_image_is_built_by_one_service_where_it_is_missing_and_never_fetched(services: Services) -> None:
    assert [name for name, service in services.items() if "build" in service] == ["create"]
    for name in PROGRAM:
        assert (services[name]["image"], services[name]["pull_policy"]) == ("pairsearch", "never")


def test_settings_of_the_image_have_the_defaults_of_the_dockerfile(
    compose_text: str, services: Services
) -> None:
    build = services["create"]["build"]
    assert build["context"] == "."
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    defaults = {name: value.strip('"') for name, value in re.findall(r"^ARG (\w+)=(.*)$", text, re.MULTILINE)}
    assert build["args"] == {name: value for name, value in defaults.items() if name != "PYTHON"}
    given = resolved(parsed(compose_text), {"TORCH_INDEX": ""})["services"]["create"]["build"]["args"]
    assert given["TORCH_INDEX"] == "", "pip's own default"


def test_every_mounted_file_is_there(services: Services) -> None:
    mounted = [v.split(":")[0] for s in services.values() for v in s.get("volumes", []) if v.startswith("./")]
    assert mounted
    assert all((ROOT / path).is_file() for path in mounted)


def test_other_machines_are_served_by_https_alone_and_only_under_a_domain_name(services: Services) -> None:
    text = (ROOT / "docker-compose.tls.yml").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="DASHBOARD_DOMAIN is not set"):
        resolved(parsed(text), {})
    added = resolved(parsed(text), {"DASHBOARD_DOMAIN": "search.example.org"})["services"]
    assert added["proxy"]["environment"]["DASHBOARD_SITE"] == "search.example.org"
    # Caddy answers on port 80 with a redirection to 443, and on no other port.
    assert merged(services, added)["proxy"]["ports"] == ["80:80", "443:443"]
    assert set(services["proxy"]["environment"]) == {"DASHBOARD_SITE"}
    owner = added["certificates"]
    assert (owner["cap_drop"], owner["cap_add"], owner["network_mode"]) == (["ALL"], ["CHOWN"], "none")
    assert owner["volumes"] == added["proxy"]["volumes"]
    assert owner["command"] == [services["proxy"]["user"], "/certificates"]


def test_the_example_settings_are_those_that_the_compose_files_read(compose_text: str) -> None:
    text = compose_text + (ROOT / "docker-compose.tls.yml").read_text(encoding="utf-8")
    read = {name: default for name, mode, default in re.findall(VARIABLE, text)}
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert read | {"DASHBOARD_DOMAIN": ""} == dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A checkout's folder in which the script that makes the secrets has run, with a stand-in for Caddy."""
    deploy = tmp_path / "studies" / "deploy"
    deploy.mkdir(parents=True)
    for file in (ROOT / "studies" / "deploy").iterdir():
        (deploy / file.name).write_bytes(file.read_bytes())
        # As a checkout with a umask of 077 makes it.
        (deploy / file.name).chmod(0o600)
    script = deploy / "secrets.sh"
    stand_in = tmp_path / "caddy"
    stand_in.write_text('#!/bin/sh\nread -r given && echo "hash of ${#given} letters, told $*"\n')
    stand_in.chmod(0o755)
    for _ in range(2):
        done = subprocess.run(
            ["sh", script],
            env=os.environ | {"CADDY": f"./{stand_in.name}"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
    return tmp_path


def test_the_script_makes_every_secret_closed_to_other_people(made: Path, compose: dict[str, Any]) -> None:
    folder = made / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    content = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(content) == {*compose["secrets"], "dashboard_password"}
    passwords = [text.strip() for name, text in content.items() if name.endswith("_password")]
    assert len(set(passwords)) == 4
    assert all(re.fullmatch(r"[0-9a-f]{48}", password) for password in passwords)
    worker = content["worker_password"].strip()
    assert content["worker_storage"] == f"postgresql://pairsearch_worker:{worker}@postgres/pairsearch\n"
    # By standard input, not as an argument.
    assert content["dashboard_users"] == "pairsearch hash of 48 letters, told hash-password\n"


def test_the_script_lets_containers_read_what_they_mount(made: Path, services: Services) -> None:
    mounted = [v.split(":")[0] for s in services.values() for v in s.get("volumes", []) if v.startswith("./")]
    assert [stat.S_IMODE((made / path).stat().st_mode) for path in mounted] == [0o644, 0o644]


def test_a_command_of_the_page_that_runs_one_service_leaves_create_alone() -> None:
    runs = re.findall(r"(?<!\w)run --rm.*", PAGE.read_text(encoding="utf-8"))
    assert len(runs) >= 5
    assert all(run.startswith("run --rm --no-deps ") for run in runs)


def test_folders_that_the_page_makes_are_not_those_of_the_source() -> None:
    text = PAGE.read_text(encoding="utf-8")
    made = re.findall(r"^mkdir -p (\S+)$", text, re.MULTILINE)
    assert made == re.findall(r'--volume "\$PWD/([\w-]+):', text)
    assert not [folder for folder in made if (ROOT / folder / "__init__.py").exists()]


def test_the_secrets_get_into_neither_git_nor_the_image() -> None:
    assert "secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "!secrets" not in (ROOT / ".dockerignore").read_text(encoding="utf-8")
