"""What the Compose file promises wherever it runs; make test-stack holds an engine and the kernel to it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kdmri_service.settings import Settings

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


@every_service
def test_ports_are_this_hosts_own_unless_told_otherwise(service: dict[str, Any]) -> None:
    for published in service["ports"]:
        assert re.fullmatch(r"\$\{[A-Z]+_ADDRESS:-127\.0\.0\.1:\d+\}:\d+", published)


@every_service
def test_containers_are_hardened_and_limited(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()


def grafana_environment(published: str | None, password: str = "") -> tuple[dict[str, str], str]:
    """Return the environment and the messages with which start.sh starts Grafana."""
    given = {"PATH": "/usr/bin:/bin", "GF_SECURITY_ADMIN_PASSWORD": password}
    if published is not None:
        given["PUBLISHED"] = published
    program = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    command = ["/bin/sh", ROOT / "deploy" / "grafana" / "start.sh", *program]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    return json.loads(done.stdout), done.stderr


def test_grafana_starts_through_the_script_with_the_address_that_the_host_publishes() -> None:
    grafana = SERVICES["grafana"]
    assert grafana["entrypoint"] == ["/bin/sh", "/etc/grafana/start.sh", "/run.sh"]
    assert "./deploy/grafana/start.sh:/etc/grafana/start.sh:ro" in grafana["volumes"]
    (published,) = grafana["ports"]
    assert published == f"{grafana['environment']['PUBLISHED']}:3000"


@pytest.mark.parametrize("published", ["127.0.0.1:3000", "127.0.0.1:", "localhost:3000", "[::1]:3000"])
def test_on_loopback_anyone_may_view_and_nobody_is_administrator(published: str) -> None:
    first, messages = grafana_environment(published)
    second, _ = grafana_environment(published)
    assert (first["GF_AUTH_ANONYMOUS_ENABLED"], first["GF_AUTH_ANONYMOUS_ORG_ROLE"]) == ("true", "Viewer")
    passwords = {environment["GF_SECURITY_ADMIN_PASSWORD"] for environment in (first, second)}
    assert len(passwords) == 2
    assert all(re.fullmatch(r"[0-9a-f]{64}", password) for password in passwords)
    assert not any(password in messages for password in passwords)


@pytest.mark.parametrize("published", ["0.0.0.0:3000", "3000", "10.1.2.3:3000", "[::]:3000", "127.evil", "", None])
def test_beyond_loopback_viewing_needs_a_login(published: str | None) -> None:
    environment, messages = grafana_environment(published)
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert "nobody can view" in messages


def test_a_password_that_is_set_is_the_administrators() -> None:
    environment, messages = grafana_environment("127.0.0.1:3000", password="from the operator")
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "from the operator"
    assert messages == ""


def test_every_setting_of_the_service_can_be_set_from_the_environment() -> None:
    # The image fixes the address inside the container and the folder of models; the override for GPUs sets the device.
    fixed = {"host", "port", "models", "device"}
    names = {f"KDMRI_{name.upper()}" for name in Settings.model_fields.keys() - fixed}
    assert names <= SERVICES["service"]["environment"].keys()
