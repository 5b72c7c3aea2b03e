"""What the compose file promises about who gets in, what is kept, and in which order services start."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from stack import PASSWORD, ROOT, resolved

PROGRAM = ("create", "worker", "dashboard", "evaluate")
Services = dict[str, dict[str, Any]]


def seconds(duration: str) -> int:
    assert duration.endswith("s"), duration
    return int(duration.removesuffix("s"))


def test_these_are_the_services(services: Services) -> None:
    assert set(services) == {"postgres", *PROGRAM}


def test_the_database_publishes_no_port_and_is_on_an_internal_network_alone(
    compose: dict[str, Any], services: Services
) -> None:
    assert "ports" not in services["postgres"]
    assert services["postgres"]["networks"] == ["database"]
    assert compose["networks"]["database"]["internal"] is True


def test_the_dashboard_is_published_on_the_loopback_address_only(services: Services) -> None:
    assert services["dashboard"]["ports"] == ["127.0.0.1:8080:8080"]
    # Docker forwards to the container's outer address, on which 127.0.0.1 would not answer.
    assert "--host 0.0.0.0 --port 8080" in services["dashboard"]["command"]
    assert [name for name, service in services.items() if "ports" in service] == ["dashboard"]


def test_only_those_that_must_are_on_a_network_that_leads_outside(services: Services) -> None:
    assert [name for name, service in services.items() if "outside" in service["networks"]] == [
        "create",
        "dashboard",
    ]


def test_the_database_counts_as_healthy_only_when_it_listens_by_tcp(services: Services) -> None:
    check = services["postgres"]["healthcheck"]["test"]
    assert check[:2] == ["CMD", "pg_isready"]
    assert "--host=127.0.0.1" in check


def test_services_start_in_order(services: Services) -> None:
    assert services["create"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("worker", "dashboard", "evaluate"):
        assert services[name]["depends_on"] == {"create": {"condition": "service_completed_successfully"}}


def test_evaluation_starts_only_when_asked_for(services: Services) -> None:
    assert [name for name, service in services.items() if "profiles" in service] == ["evaluate"]


def test_the_database_is_kept_in_a_named_volume(compose: dict[str, Any], services: Services) -> None:
    assert "database:/var/lib/postgresql/data" in services["postgres"]["volumes"]
    assert set(compose["volumes"]) == {"database", "data", "cache"}


def test_a_volume_is_written_only_by_those_that_have_to(services: Services) -> None:
    assert services["create"]["volumes"] == ["data:/data"]
    for name in ("worker", "evaluate"):
        assert services[name]["volumes"] == ["data:/data:ro", "cache:/cache"]


def test_workers_can_be_scaled(services: Services) -> None:
    assert not {"container_name", "ports", "hostname"} & set(services["worker"])


def test_a_worker_has_more_time_to_stop_than_an_epoch_takes(services: Services) -> None:
    assert seconds(services["worker"]["stop_grace_period"]) >= 30
    assert services["worker"]["init"] is True, "signals reach a first process only if it asked for them"


def test_a_worker_that_failed_starts_again_and_one_that_is_done_does_not(services: Services) -> None:
    assert services["worker"]["restart"].startswith("on-failure")
    assert services["create"]["restart"] == "no"


def test_without_a_password_nothing_starts_and_the_message_says_what_to_do(compose_text: str) -> None:
    with pytest.raises(ValueError, match=r"POSTGRES_PASSWORD is not set. Copy .env.example to .env"):
        resolved(yaml.safe_load(compose_text), {})


def test_no_secret_is_written_down(compose_text: str) -> None:
    literal = re.compile(r"^[ ]*\w*(PASSWORD|SECRET|TOKEN)\w*[:=][ ]*(?!\$\{\w+:\?)[^ \n]", re.MULTILINE)
    for text in (compose_text, (ROOT / "Dockerfile").read_text(), (ROOT / ".env.example").read_text()):
        assert not literal.search(text)
        assert not re.search(r"://[^/\s:@]+:[^@\s]+@", text), "a URL with a password"


def test_the_password_is_in_the_environment_and_in_no_command_line(services: Services) -> None:
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == PASSWORD
    for name in PROGRAM:
        assert services[name]["environment"]["PGPASSWORD"] == PASSWORD
        assert PASSWORD not in services[name]["environment"]["PAIRSEARCH_STORAGE"]
        assert "storage" not in services[name]["command"]


def test_containers_cannot_gain_rights_or_change_their_files(services: Services) -> None:
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "/tmp" in service["tmpfs"]  # noqa: S108 - a path inside the container
        assert not {"privileged", "cap_add", "pid", "network_mode"} & set(service)
    assert services["postgres"]["user"] == "postgres"


def test_the_image_is_built_here_and_never_fetched_by_its_name(services: Services) -> None:
    for name in PROGRAM:
        assert services[name]["build"] == "."
        assert services[name]["pull_policy"] == "build"


def test_every_mounted_file_is_there(services: Services) -> None:
    mounted = [v.split(":")[0] for s in services.values() for v in s.get("volumes", []) if v.startswith("./")]
    assert mounted
    assert all((ROOT / path).is_file() for path in mounted)


def test_the_example_settings_are_those_that_the_compose_file_reads(compose_text: str) -> None:
    read = set(re.findall(r"\$\{(\w+):", compose_text))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert read == set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", compose_text):
        assert f"\n{name}={default}\n" in example
    assert "\nPOSTGRES_PASSWORD=\n" in example, "an example password would be used"
